"""MoveBench: its folder, its videos as jobs, and EPE of what was made."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from tavid_jax.data.clip import ClipError
from tavid_jax.data.movebench import MoveBenchError, read_movebench
from tavid_jax.data.trajectory_files import write_trajectories
from tavid_jax.data.video import write_video
from tavid_jax.pipelines.move_bench import move_bench_jobs
from tavid_jax.scoring.movebench.cli import main
from tavid_jax.tracks.trajectories import Trajectories

HW, FRAMES = (64, 96), 9


def texture():
    noise = np.random.default_rng(1).uniform(0, 255, (64, 140, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 2)
    return (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


def sliding(pixels):
    """Frames that move to the left by so many px each."""
    whole = texture()
    return [whole[:, pixels * t : pixels * t + 96] for t in range(FRAMES)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Two clips, of one whose video is there; a track is hidden in the last frames."""
    root = tmp_path_factory.mktemp("MoveBench")
    places = np.array([[80, 20], [60, 40]])[:, None] - np.arange(FRAMES)[:, None] * [2.0, 0.0]
    seen = np.ones((2, FRAMES), bool)
    seen[1, 5:], places[1, 5:] = False, (0.0, 0.0)
    for folder in ("en/first_frame", "track/single", "en/videos"):
        (root / folder).mkdir(parents=True)
    for name in ("7", "12"):
        Image.fromarray(sliding(2)[0]).save(root / "en/first_frame" / f"{name}.jpg")
        tracks = Trajectories(places, seen, HW)
        write_trajectories(root / "track/single" / f"{name}_tracks.npy", tracks)
    write_video(root / "en/videos" / "7.mp4", sliding(2), 8)
    lines = "videos/7.mp4,A wall, seen from a train.\nvideos/12.mp4,A wall.\n"
    (root / "en/single_track.txt").write_text(lines)
    return root


def test_the_list(bench):
    first, second = read_movebench(bench)
    assert (first.name, first.caption) == ("7", "A wall, seen from a train.")
    assert first.video == bench / "en/videos/7.mp4" and second.video is None
    assert first.image == bench / "en/first_frame/7.jpg"
    assert second.tracks == bench / "track/single/12_tracks.npy"
    jobs = move_bench_jobs(bench, seed=5)
    assert [(job.name, job.seed) for job in jobs] == [("7", 5), ("12", 6)]
    assert jobs[0].options == {"size_hw": HW, "frames": FRAMES}


def test_videos_that_follow_and_videos_that_stand(bench, tmp_path, capsys):
    for name, pixels in (("7", 2), ("12", 0)):
        write_video(tmp_path / "made" / f"{name}.mp4", sliding(pixels), 8)
    out = tmp_path / "scores.json"
    assert main([str(tmp_path / "made"), str(bench), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    moves, stands = found["videos"]["7"], found["videos"]["12"]
    # Of constant speed: 2 t px in frame t, 8 frames of one track and 4 of the other.
    still = (2 * sum(range(1, 9)) + 2 * sum(range(1, 5))) / 12
    assert moves["still"] == stands["still"] == pytest.approx(still)
    assert moves["masked"] < 0.5 and stands["masked"] == pytest.approx(still, abs=0.3)
    assert moves["unmasked"] > 10  # where the track is not visible, its place means nothing
    assert found["masked"]["places"] == 24 and found["unmasked"]["places"] == 32
    assert found["masked"]["pooled"] == pytest.approx((moves["masked"] + stands["masked"]) / 2)
    assert "EPE where tracks are visible" in capsys.readouterr().out
    # Tracks that another tracker found.
    tracks = np.zeros((2, FRAMES, 2))
    given = Trajectories(tracks, np.ones((2, FRAMES), bool), HW)
    for name in ("7", "12"):
        write_trajectories(tmp_path / "found" / f"{name}_tracks.npy", given)
    more = ["--predicted", str(tmp_path / "found"), "--out", str(out)]
    assert main([str(tmp_path / "made"), str(bench), *more]) == 0
    assert json.loads(out.read_text())["masked"]["pooled"] > 40
    (tmp_path / "made" / "12.mp4").unlink()
    assert main([str(tmp_path / "made"), str(bench), "--out", str(out)]) == 1
    assert "SKIPPED 12: no such video" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: None, "en/single_track.txt: cannot be read .*is .* MoveBench"),
        (lambda root: (root / "en/single_track.txt").write_text("\n"), "lists no clip"),
        (lambda root: (root / "en/single_track.txt").write_text("a.mp4\n"), "line 1: is no VIDEO"),
        (
            lambda root: (root / "en/single_track.txt").write_text("a.mp4,A wall"),
            r"names a clip without first_frame/a\.jpg",
        ),
    ],
)
def test_broken_folders(tmp_path, change, message):
    (tmp_path / "en").mkdir()
    change(tmp_path)
    with pytest.raises(MoveBenchError, match=message):
        read_movebench(tmp_path)
    with pytest.raises(ClipError, match="MoveBench has no language 'de': there are en, zh"):
        read_movebench(tmp_path, "de")


def test_an_id_that_is_there_twice(bench, tmp_path, capsys):
    text = (bench / "en/single_track.txt").read_text()
    (bench / "en/multi_track.txt").write_text("x/7.mp4,A.\n")
    with pytest.raises(MoveBenchError, match="without track/multi/7_tracks.npy"):
        read_movebench(bench, kind="multi")
    assert main([str(tmp_path), str(bench), "--kind", "multi"]) == 1
    assert "error: " in capsys.readouterr().err
    (bench / "en/single_track.txt").write_text(text + "y/7.mp4,Again.")
    with pytest.raises(MoveBenchError, match="line 3: 7 is there twice"):
        read_movebench(bench)
    (bench / "en/single_track.txt").write_text(text)
