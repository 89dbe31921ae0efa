"""Sources as published become data sets, with a manifest of what was done."""

from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest

from tavid_jax.data.official import read_tracks
from tavid_jax.data.video import read_video, write_video
from tavid_jax.trajloombench.datasets import open_datasets
from tavid_jax.trajloombench.preparing import Rules, prepare
from tavid_jax.trajloombench.protocol import BenchError, Protocol
from tavid_jax.trajloombench.sources import Unusable, read_kubric, read_movi, read_tapvid
from tavid_jax.trajloombench.trackers import named_tracker
from tests.trajloombench.bench_files import TINY

RULES = Rules(TINY)
STANDING = "tests.trajloombench.bench_files:standing"


def video_of(seed: int, frames: int = 17, size_hw: tuple[int, int] = (80, 96)) -> np.ndarray:
    """Smooth frames, of which the t-th is brighter than the one before."""
    rng = np.random.default_rng(seed)
    base = cv2.resize(rng.integers(0, 99, (4, 5, 3), dtype=np.uint8), size_hw[::-1])
    return np.stack([base + np.uint8(3 * t) for t in range(frames)])


def encoded(video: np.ndarray, suffix: str) -> list[bytes]:
    return [cv2.imencode(suffix, frame[..., ::-1])[1].tobytes() for frame in video]


def write_pickle(path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))


def test_robotap_pickles_become_a_data_set(tmp_path):
    def record(video):
        return {"video": video, "points": np.zeros((3, 17, 2)), "occluded": np.zeros((3, 17))}

    write_pickle(
        tmp_path / "src" / "robotap_split0.pkl",
        {"pick/1": record(video_of(1)), "short": record(video_of(2, frames=9))},
    )
    write_pickle(
        tmp_path / "src" / "robotap_split1.pkl", {"wide": record(video_of(3, 17, (40, 96)))}
    )
    told = []
    made = prepare(
        "robotap", tmp_path / "src", tmp_path / "dst", named_tracker(STANDING), RULES,
        told=lambda done, share, text: told.append((done, share, text)),
    )  # fmt: skip
    assert made.name == "robotap" and made.clips == ("pick_1",)
    assert made.skipped["short"] == "has 9 frames, 15 are needed"
    assert made.skipped["wide"].startswith("aspect ratio 96x40 is 100% off 48x40, at most 5%")
    assert told[0] == (1, 1 / 4, "pick_1: 50% of points and frames visible")
    assert [share for _, share, _ in told] == [1 / 4, 1 / 2, 1]
    file = read_tracks(tmp_path / "dst" / "robotap_standing_s8" / "pick_1.npz")
    np.testing.assert_array_equal(file.tracks[:, 0], TINY.queries)
    assert file.tracks.shape == (30, 15, 2) and file.size_hw == (40, 48) and file.fps == 25
    shown = read_video(tmp_path / "dst" / "robotap_video" / "pick_1.mp4")
    want = np.stack([cv2.resize(f, (48, 40), interpolation=cv2.INTER_AREA) for f in video_of(1)])
    assert shown.shape == (15, 40, 48, 3)
    assert np.abs(shown.astype(int) - want[:15]).mean() < 4
    manifest = json.loads(made.manifest.read_text())
    assert manifest["tracker"]["name"] == STANDING and manifest["tracker"]["paper"] == "AllTracker"
    assert manifest["rules"]["frames"] == 15 and manifest["rules"]["resize"] == "squash"
    assert manifest["clips"]["pick_1"]["size_hw"] == [80, 96] and len(manifest["skipped"]) == 2
    (data,) = open_datasets(tmp_path / "dst", TINY)
    assert data.tracker == STANDING and [clip.name for clip in data.clips] == ["pick_1"]


def test_an_interrupted_command_goes_on_and_other_rules_are_refused(tmp_path):
    write_pickle(tmp_path / "a.pkl", [{"video": encoded(video_of(i), ".jpg")} for i in range(3)])
    calls = []

    class Tracker:
        fingerprint = "mine"

        def working_hw(self, size_hw):
            return size_hw

        def __call__(self, video, query_xy):
            calls.append(len(video))
            if len(calls) == 2:
                raise KeyboardInterrupt
            shape = (len(query_xy), len(video))
            return np.repeat(query_xy[:, None], len(video), axis=1), np.ones(shape, bool)

    arguments = ("kinetics", tmp_path / "a.pkl", tmp_path / "dst", Tracker(), RULES)
    with pytest.raises(KeyboardInterrupt):
        prepare(*arguments)
    kept = tmp_path / "dst" / "kinetics_mine_s8" / "a_00000.npz"
    before = kept.stat().st_mtime_ns
    made = prepare(*arguments)
    assert made.clips == ("a_00000", "a_00001", "a_00002") and len(calls) == 4
    assert kept.stat().st_mtime_ns == before
    other = Rules(TINY, aspect=0.2, resize="cover")
    with pytest.raises(BenchError, match="aspect_tolerance: 0.05 there, 0.2 now; resize: squash"):
        prepare(*arguments[:4], other)
    with pytest.raises(BenchError, match="tracker: mine there, dis1-.* now"):
        prepare(*arguments[:3], named_tracker(), RULES)


def test_the_embedded_tracker_follows_a_shift(tmp_path):
    rng = np.random.default_rng(3)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (80, 140, 3), dtype=np.uint8), (0, 0), 2)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    video = np.stack([wide[:, 2 * t : 96 + 2 * t] for t in range(15)])
    write_pickle(tmp_path / "a.pkl", {"shift": {"video": video}})
    rules = Rules(Protocol((80, 96), 16, history=6, future=9, horizons=(9,)))
    prepare("tapvid", tmp_path / "a.pkl", tmp_path / "d", named_tracker(), rules, name="mine")
    file = read_tracks(tmp_path / "d" / "mine_dis1_s16" / "shift.npz")
    inner = file.visibility[:, -1] & (file.tracks[:, 0, 0] > 40)
    assert inner.sum() > 8
    moved = (file.tracks[:, -1] - file.tracks[:, 0])[inner]
    assert np.abs(np.median(moved, axis=0) - [-28, 0]).max() < 0.7


def test_magicdata_brings_its_captions(tmp_path):
    write_video(tmp_path / "m" / "videos" / "7.mp4", video_of(1), 8)
    (tmp_path / "m" / "videos" / "8.mp4").write_bytes(b"no video")
    (tmp_path / "m" / "MagicData.csv").write_text('video_path,text\nvideos/7.mp4,"a cat, asleep"\n')
    made = prepare("magicdata", tmp_path / "m", tmp_path / "d", named_tracker(STANDING), RULES)
    assert made.clips == ("7",) and "8" in made.skipped
    (data,) = open_datasets(tmp_path / "d", TINY)
    assert data.clips[0].caption == "a cat, asleep"


def test_kubric_folders(tmp_path):
    for name, path in (("0001", "0001/frames"), ("0002", "0002")):
        folder = tmp_path / path
        folder.mkdir(parents=True)
        for t, picture in enumerate(encoded(video_of(1, 11), ".png")):
            prefix = "rgba_" if name == "0002" else ""
            (folder / f"{prefix}{t}.png").write_bytes(picture)
            (folder / f"segmentation_{t}.png").write_bytes(picture) if prefix else None
    np.save(tmp_path / "0001" / "0001.npy", {"coords": np.zeros((2, 11, 2))}, allow_pickle=True)
    first, second = read_kubric(tmp_path)
    assert (first.name, first.num_frames, second.num_frames) == ("0001", 11, 11)
    np.testing.assert_array_equal(np.stack(list(second.frames([0, 10]))), video_of(1, 11)[[0, 10]])


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(features: dict[str, list[bytes]]) -> bytes:
    """tf.train.Example of byte lists, and of one list of numbers."""
    entries = [
        message(1, key.encode()) + message(2, message(1, b"".join(message(1, v) for v in values)))
        for key, values in features.items()
    ]
    number = message(1, b"metadata/width") + message(2, message(3, message(1, varint(300))))
    return message(1, b"".join(message(1, entry) for entry in [*entries, number]))


def test_movi_without_tensorflow(tmp_path):
    video = video_of(1, 11)
    data = example({"video": encoded(video, ".png"), "metadata/video_name": [b"12"]})
    record = len(data).to_bytes(8, "little") + b"crc " + data + b"crc "
    path = tmp_path / "movi_a-train.tfrecord-00000-of-00001"
    path.write_bytes(record + record[:50])
    clip, cut = read_movi(tmp_path)
    assert (clip.name, clip.num_frames, clip.size_hw, clip.fps) == ("12", 11, (80, 96), 12)
    np.testing.assert_array_equal(np.stack(list(clip.frames([3]))), video[[3]])
    assert isinstance(cut, Unusable) and "record 1 is no tf.train.Example: it ends early" in (
        cut.reason
    )


def test_what_a_pickle_may_not_be(tmp_path):
    write_pickle(tmp_path / "a.pkl", {"x": {"video": np.zeros((3, 4, 4), np.uint8)}})
    write_pickle(tmp_path / "b.pkl", {"y": {"video": [b"no picture"]}, "z": {"points": []}})
    write_pickle(tmp_path / "c.pkl", BenchError)
    (tmp_path / "d.pkl").write_bytes(b"")
    reasons = {item.name: item.reason for item in read_tapvid(tmp_path)}
    assert "no 'video'" in reasons["x"] and "no 'video'" in reasons["z"]
    assert "cannot be decoded" in reasons["y"]
    assert "refused, for it names tavid_jax" in reasons["c"] and "empty" in reasons["d"]


@pytest.mark.parametrize(
    ("kind", "source", "words"),
    [
        ("nothing", ".", "no kind of source 'nothing'"),
        ("robotap", "nowhere", "nowhere: no such file or folder"),
        ("videos", ".", "give the data set a name"),
        ("movi", ".", "no MOVi of TFDS"),
        ("magicdata", ".", "MagicData has a folder 'videos'"),
        ("kubric", ".", "no folder below it has"),
    ],
)
def test_sources_that_are_none(tmp_path, kind, source, words):
    with pytest.raises(BenchError, match=words):
        prepare(kind, tmp_path / source, tmp_path / "d", named_tracker(STANDING), RULES)


def test_no_clip_at_all(tmp_path):
    write_pickle(tmp_path / "a.pkl", [{"video": encoded(video_of(1, 3), ".jpg")}])
    with pytest.raises(BenchError, match="none of 1 videos can be used .a_00000: has 3 frames"):
        prepare("robotap", tmp_path, tmp_path / "d", named_tracker(STANDING), RULES)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dis:best", "presets are"),
        ("alltracker", "use dis, or module:function"),
        ("no.such:thing", "cannot be imported"),
        ("tests.trajloombench.bench_files:TINY", "is no function"),
    ],
)
def test_trackers_that_are_none(name, words):
    with pytest.raises(BenchError, match=words):
        named_tracker(name)


def test_a_tracker_that_forgets_points(tmp_path):
    write_pickle(tmp_path / "a.pkl", [{"video": video_of(1)}])
    tracker = named_tracker("tests.trajloombench.bench_files:half")
    with pytest.raises(BenchError, match=r"gave tracks \(15, 15, 2\) .* wanted .* \(30, 15, 2\)"):
        prepare("robotap", tmp_path, tmp_path / "d", tracker, RULES)
