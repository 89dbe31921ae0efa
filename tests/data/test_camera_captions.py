"""Captions of the camera: the same before and behind augmentation; commands that write them."""

import csv
import json

import cv2
import numpy as np
import pytest

from tavid_jax.data.__main__ import main
from tavid_jax.data.augment import flip, reverse_time
from tavid_jax.data.camera_captions import camera_caption
from tavid_jax.data.clip import Clip, ClipError, check_clip
from tavid_jax.data.files import read_captions
from tavid_jax.data.track_sources import find_sources
from tavid_jax.data.video import write_video
from tavid_jax.tracks.grid import grid_shape, query_points

SIZE_HW, FPS = (96, 160), 16.0
PAN = dict(shift=(-1, 0))  # 0.086 diagonals a second


def moving(frames=17, shift=(0, 0), scale=1.0, turn=0.0):
    query = query_points(SIZE_HW, 16, "center")
    centre, t = (np.array(SIZE_HW[::-1]) - 1) / 2, np.arange(frames)
    place = ((query - centre) @ [1, 1j])[:, None]
    place = place * (scale * np.exp(1j * np.radians(turn))) ** t + complex(*shift) * t
    return (np.stack([place.real, place.imag], axis=-1) + centre).astype(np.float32)


def clip(caption="A dog.", **motion):
    tracks = moving(**motion)
    return check_clip(
        Clip(
            id="a",
            size_hw=SIZE_HW,
            fps=FPS,
            tracks=tracks,
            visibility=np.ones(tracks.shape[:2], bool),
            grid_hw=grid_shape(SIZE_HW, 16),
            query_xy=query_points(SIZE_HW, 16, "center"),
            caption=caption,
        )
    )


@pytest.mark.parametrize(
    ("motion", "sentence"),
    [
        (PAN, "The camera steadily pans right."),
        (dict(shift=(0, 0.3)), "The camera slowly tilts up."),
        (dict(scale=1.01, turn=0.8), None),
        (dict(scale=0.99, shift=(0, -2)), None),
        (dict(), "The camera is static."),
    ],
)
def test_sentence_follows_mirror_and_reversal(motion, sentence):
    plain = clip(**motion)
    said = camera_caption(plain)
    assert sentence is None or said.caption == f"A dog. {sentence}"
    for change in (flip, reverse_time):
        assert change(said).caption == camera_caption(change(plain)).caption
    assert camera_caption(said).caption == said.caption


def test_probability_and_partner():
    rng = np.random.default_rng(0)
    plain = clip(**PAN).replace(partner=clip("A cat.", **PAN))
    drawn = [camera_caption(plain, rng, 0.5).caption != "A dog." for _ in range(60)]
    assert 20 < sum(drawn) < 40
    assert camera_caption(plain).partner.caption == "A cat. The camera steadily pans right."
    assert camera_caption(plain, probability=0).caption == "A dog."
    with pytest.raises(ValueError, match="generator"):
        camera_caption(plain, probability=0.5)
    with pytest.raises(ValueError, match="1.5"):
        camera_caption(plain, rng, 1.5)
    with pytest.raises(ClipError, match="'a'.*tracks"):
        camera_caption(Clip(id="a", size_hw=(2, 2), fps=1, video=np.zeros((1, 2, 2, 3), np.uint8)))


def write_tracks(path, tracks, **extra):
    np.savez(path, trajectory=tracks, visibility=np.ones(tracks.shape[:2], bool), **extra)


@pytest.fixture
def folder(tmp_path):
    """A pan in a track file beside a video, and a tilt in a video alone."""
    write_tracks(tmp_path / "one.more.npz", moving(**PAN), size_hw=np.array(SIZE_HW))
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    wide = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    write_video(tmp_path / "one.mp4", [wide[:96, :160]] * 17, FPS)
    write_video(tmp_path / "two.mp4", [wide[t * 2 : t * 2 + 96, 40:200] for t in range(17)], FPS)
    (tmp_path / "two.txt").write_text("A wall")
    (tmp_path / "bad.npz").write_bytes(b"no")
    return tmp_path


def test_camera_command(folder, capsys):
    out = folder / "out" / "captions.csv"
    args = ["camera", str(folder), "--out", str(out), "--plots", str(folder / "plots")]
    assert main(args) == 0
    with open(out) as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["videoid"], row["text"]) for row in rows] == [
        ("one", "The camera steadily pans right."),
        ("two", "A wall. The camera quickly tilts down."),
    ]
    assert rows[0]["video_path"] == str(folder / "one.mp4")
    assert read_captions(out)["two"].startswith("A wall.")
    assert {file.name for file in (folder / "plots").iterdir()} == {
        "one.png",
        "two.png",
        "index.png",
    }
    for file in (folder / "plots").iterdir():
        assert cv2.imread(str(file)).std() > 5
    told = capsys.readouterr()
    assert "bad.npz: cannot be read" in told.out and "3 of 3 clips" in told.err


def test_camera_command_bad_input(folder, capsys):
    write_tracks(folder / "lone.npz", moving(**PAN))
    lone = ["camera", str(folder / "lone.npz"), "--out", str(folder / "out.csv")]
    assert main(lone) == 1
    assert "lone.npz: states no rate" in capsys.readouterr().out
    assert not (folder / "out.csv").exists()
    assert main([*lone, "--fps", "16", "--tracks-size", "96x160"]) == 0
    assert find_sources([folder / "one.more.npz"]) == find_sources([folder])[2:3]
    (folder / "in.csv").write_text("videoid,text\nother,A cat.\n")
    assert main([*lone, "--captions", str(folder / "in.csv")]) == 1
    assert "none of its 1 captions (other)" in capsys.readouterr().err
    with pytest.raises(ClipError, match="name 'lone'"):
        (folder / "sub").mkdir()
        write_tracks(folder / "sub" / "lone.npz", moving(**PAN))
        find_sources([folder])


def test_variance_command(tmp_path, capsys):
    for name, motion in (("still", {}), ("pans", PAN)):
        (tmp_path / name).mkdir()
        for number in range(3):
            query = query_points(SIZE_HW, 16, "center")
            noise = np.random.default_rng(number).normal(size=(60, 17, 2)).astype(np.float32)
            write_tracks(
                tmp_path / name / f"{number}.npz",
                moving(**motion) + noise,
                size_hw=np.array(SIZE_HW),
                query_xy=query,
            )
    write_tracks(tmp_path / "pans" / "x.npz", moving()[:59], size_hw=np.array(SIZE_HW))
    args = ["variance", str(tmp_path / "still"), str(tmp_path / "pans"), "--clips", "2"]
    assert main([*args, "--out", str(tmp_path / "out")]) == 0
    records = json.loads((tmp_path / "out" / "variance.json").read_text())
    assert [(r["settings"]["dataset"], r["settings"]["anchor"]) for r in records] == [
        ("still", "none"), ("still", "cell"), ("pans", "none"), ("pans", "cell"),
    ]  # fmt: skip
    assert records[0]["n"] == 2 == len(records[0]["clips"])
    assert records[0]["explained_x"] > 99 > 10 > records[1]["explained_x"]
    for name in ("bars", "maps"):
        assert cv2.imread(str(tmp_path / "out" / f"{name}.png")).std() > 5
    assert "absolute" in capsys.readouterr().out
    assert main(["variance", str(tmp_path / "pans" / "x.npz")]) == 1
    assert "x.npz: " in capsys.readouterr().out
    assert main(["variance", str(tmp_path / "nothing")]) == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("intel_bottle", "The camera is static."),
        ("mdn_flower", "The camera is static."),
        ("sam2_01_dog", "The camera is static."),
        ("sam2_02_cups", "The camera is static."),
        ("sam2_04_coffee", "The camera is static."),
        ("sam2_bedroom", ""),  # drifts to the right, then to the left
    ],
)
def test_real_clips(clips_dir, name, sentence):
    with np.load(clips_dir / f"{name}.lk_tracks.npz") as file:
        real = Clip(
            id=name,
            size_hw=tuple(file["size_hw"].tolist()),
            fps=float(file["fps"]),
            tracks=file["tracks"],
            visibility=file["visibility"],
        )
    assert camera_caption(real).caption == sentence
