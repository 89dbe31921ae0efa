"""Scores of whole videos: what is measured, what is left out, tables and records."""

import json
import math

import numpy as np
import pytest
from scoring_files import write_mask

from tavid_jax.data.video import write_video
from tavid_jax.metrics import vbench
from tavid_jax.scoring import Found, Providers, ScoringError, report, score_videos
from tavid_jax.scoring.score import sampled

# Behind JAX every fork is warned of; behind this one comes nothing but the video's encoder.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")


class Colours:
    """Features that can be computed by hand: the mean colour."""

    name = "mean-colour"

    def describe(self):
        return {"name": self.name}

    def __call__(self, frames, progress=None):
        return frames.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)


class Brightest:
    """An actor that is known: what is white."""

    name = "white"

    def describe(self):
        return {"name": self.name}

    def __call__(self, frames, objects, progress=None):
        none = (np.zeros((0, 4)),) * len(frames)
        return Found((frames > 200).all(-1), none, ((),) * len(frames))


class Standing:
    """A tracker for things that stand still."""

    fingerprint = "standing"

    def working_hw(self, size_hw):
        return size_hw

    def __call__(self, video, query_xy):
        tracks = np.repeat(query_xy[:, None], len(video), axis=1)
        return tracks, np.ones(tracks.shape[:2], bool)


PROVIDERS = Providers(Colours(), Colours(), actors=Brightest(), tracker=Standing())


def scene(goes: bool) -> np.ndarray:
    """A white square that may go from the left to a dark one in the middle; another at the end."""
    frames = np.full((24, 64, 96, 3), 90, np.uint8)
    frames[:, 24:40, 40:56] = 20
    frames[:, 24:40, 72:88] = 20
    for t, frame in enumerate(frames):
        x = min(2 * t, 24) if goes else 0
        frame[26:38, 4 + x : 16 + x] = 255
    return frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """goes.mp4 and stays.mp4 at 8 fps with two masks each, and bare.mp4 without any."""
    place = tmp_path_factory.mktemp("scenes")
    target, other = np.zeros((2, 64, 96), bool)
    target[24:40, 40:56], other[24:40, 72:88] = True, True
    for name, goes in (("goes", True), ("stays", False), ("bare", True)):
        write_video(place / f"{name}.mp4", scene(goes), 8)
        if name != "bare":
            write_mask(place / f"{name}.target.png", target)
            write_mask(place / f"{name}.other.png", other)
    return place


@pytest.fixture(scope="module")
def scores(folder):
    return score_videos(folder, PROVIDERS)


def test_contact_is_that_of_the_scene(scores):
    names = [video.info.path.rsplit("/", 1)[-1] for video in scores.videos]
    assert names == ["bare.mp4", "goes.mp4", "stays.mp4"]
    touch = scores.metrics["contact_score"]
    assert touch["contact_score"] == 0.5 and touch["n"] == 2
    # In frame 11 the square is 2 px away, in frame 12 it stands beside the target.
    assert touch["first_frame"] == [12, -1]
    assert touch["settings"]["actor"] == "white" and touch["settings"]["target"] == "standing"
    aligned = scores.metrics["target_alignment"]
    assert aligned["target_alignment"] == 0.5 and aligned["of_touching"] == 1.0
    assert aligned["touched"] == [0, -1] and aligned["chance"] == 0.5


def test_other_metrics_are_their_aggregations(scores, folder):
    from tavid_jax.data.video import read_video

    frames = [read_video(folder / f"{name}.mp4") for name in ("bare", "goes", "stays")]
    pooled = np.concatenate([vbench.consistency(Colours()(clip)) for clip in frames])
    subject = scores.metrics["subject_consistency"]
    assert subject["subject_consistency"] == pytest.approx(pooled.mean())
    assert subject["n"] == 3 * 23 and subject["settings"]["network"] == "mean-colour"
    flow, middle = PROVIDERS.flow, PROVIDERS.midpoint
    for clip, dynamic, smooth in zip(
        frames,
        scores.metrics["dynamic_degree"]["per_video"],
        scores.metrics["motion_smoothness"]["per_video"],
        strict=True,
    ):
        flows = np.stack([flow(clip[t], clip[t + 1]) for t in range(23)])
        assert dynamic == vbench.dynamic_degree(flows).dynamic
        odd = vbench.odd_frames(24)
        middles = np.stack([middle(clip[t - 1], clip[t + 1]) for t in odd])
        assert smooth == pytest.approx(vbench.motion_smoothness(clip, middles))
    assert scores.metrics["dynamic_degree"]["per_video"][2] is False


def test_what_is_not_given_is_left_out(folder):
    scores = score_videos(folder / "bare.mp4", Providers())
    assert set(scores.metrics) == {"dynamic_degree", "motion_smoothness"}
    said = report.text(scores)
    assert "left out: subject_consistency needs weights of DINO (--dino)" in said
    assert "left out: contact_score needs a mask of the target" in said
    assert said.count("left out") == 4


def test_every_number_travels_with_its_provider(scores):
    plain = json.loads(json.dumps(report.plain(scores)))
    assert plain["providers"]["motion_smoothness"]["name"] == "opencv-dis-midpoint"
    assert plain["providers"]["masks"] == {"name": "standing"}
    settings = {name: record["settings"] for name, record in plain["metrics"].items()}
    assert settings["dynamic_degree"]["flow"] == "opencv-dis-medium"
    assert settings["background_consistency"]["network"] == "mean-colour"
    assert all("version" in each for each in settings.values())
    goes = plain["videos"][1]
    assert goes["contact"]["masks"] == ["goes.target.png", "goes.other.png"]
    assert goes["contact"]["touched"] == "goes.target.png" and goes["contact"]["aligned"] is True
    assert "contact" not in plain["videos"][0]


def test_table_has_a_row_for_each_video(scores):
    lines = report.text(scores).splitlines()
    assert lines[0].split()[:4] == ["video", "frames", "contact", "alignment"]
    assert [line.split()[0] for line in lines[1:4]] == ["bare", "goes", "stays"]
    assert " frame 1" in lines[2] and " target " in lines[2]
    assert " no " in lines[3] and " nothing " in lines[3]
    assert any(line.startswith("contact_score") and "0.5000  by white" in line for line in lines)


def test_frames_are_sampled_eight_in_a_second():
    assert sampled(10, 8).tolist() == list(range(10))
    assert sampled(10, 24).tolist() == [0, 3, 6, 9]
    assert sampled(9, 29.97).tolist() == [0, 4, 8]
    assert sampled(3, 1).tolist() == [0, 1, 2]


def test_only_the_first_frames(folder):
    scores = score_videos(folder / "goes.mp4", PROVIDERS, max_frames=9)
    assert scores.videos[0].info.num_frames == 9
    assert scores.metrics["contact_score"]["contact_score"] == 0.0
    aligned = scores.metrics["target_alignment"]
    assert aligned["target_alignment"] == 0.0 and math.isnan(aligned["of_touching"])
    assert report.plain(scores)["metrics"]["target_alignment"]["of_touching"] is None
    report.text(scores)


def test_several_targets_give_no_choice(folder, tmp_path):
    target, other = np.zeros((2, 64, 96), bool)
    target[24:40, 40:56], other[24:40, 72:88] = True, True
    write_mask(tmp_path / "goes.target.png", target)
    write_mask(tmp_path / "goes.target_2.png", other)
    scores = score_videos(folder / "goes.mp4", PROVIDERS, masks=tmp_path)
    assert scores.metrics["contact_score"]["per_clip"] == [1.0, 0.0]
    assert "target_alignment" in scores.left_out


def test_broken_videos_are_skipped_with_their_reason(folder, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    write_video(tmp_path / "short.mp4", scene(True)[:2], 8)
    with pytest.raises(ScoringError, match=r"no video can be scored \(.*broken.mp4: "):
        score_videos(tmp_path, PROVIDERS)
    scores = score_videos([tmp_path, folder / "goes.mp4"], PROVIDERS)
    assert len(scores.videos) == 1
    assert {path.rsplit("/", 1)[-1] for path, _ in scores.skipped} == {"broken.mp4", "short.mp4"}
    assert "2 frames: three are needed" in report.text(scores)
