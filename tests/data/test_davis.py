"""DAVIS as cases: a tiny tree of two sequences, one of another size and too short."""

import json

import numpy as np
import pytest
from PIL import Image

from tavid_jax.data import davis
from tavid_jax.data.__main__ import main
from tavid_jax.data.clip import ClipError
from tavid_jax.data.trajectory_files import read_trajectories
from tavid_jax.data.video import read_video

WORDS = {
    "one": {"prompt": "a thing moves", "objects": {"1": "a thing", "2": "a small thing"}},
    "two": {"prompt": "things", "objects": {"3": "a tall thing"}},
}
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [200] * 756


def write_sequence(root, name: str, size_hw: tuple[int, int], count: int, boxes: dict) -> None:
    """Noise that moves 2 px a frame, and the same boxes (x, y, width, height) of ids with it."""
    height, width = size_hw
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8))
    picture = np.asarray(noise.resize((2 * width, height), Image.Resampling.BICUBIC))
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "480p" / name).mkdir(parents=True)
    for t in range(count):
        frame = Image.fromarray(picture[:, width - 2 * t : 2 * width - 2 * t])
        frame.save(root / "JPEGImages" / "480p" / name / f"{t:05d}.jpg", quality=95)
        ids = np.zeros(size_hw, np.uint8)
        for number, (x, y, w, h) in boxes.items():
            ids[y : y + h, x + 2 * t : x + 2 * t + w] = number
        annotation = Image.fromarray(ids, "P")
        annotation.putpalette(PALETTE)
        annotation.save(root / "Annotations" / "480p" / name / f"{t:05d}.png")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("DAVIS")
    boxes = {1: (10, 8, 30, 20), 2: (70, 40, 8, 8), 255: (0, 60, 20, 4)}
    write_sequence(root, "one", (64, 128), 10, boxes)
    write_sequence(root, "two", (48, 96), 7, {3: (20, 4, 12, 40)})
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("one\ntwo\n")
    (root / "captions.json").write_text(json.dumps(WORDS))
    return root


def protocol(**changes) -> davis.Protocol:
    return davis.Protocol(**({"size_hw": (64, 128), "frames": 9} | changes))


def read(tree, name: str, **changes) -> davis.Sequence:
    words = davis.read_words(tree / "captions.json")
    return davis.read_sequence(tree, name, words[name], protocol(**changes))


def test_ids_are_indices_not_colours(tree):
    ids = davis.read_ids(tree / "Annotations" / "480p" / "one" / "00000.png")
    assert set(np.unique(ids)) == {0, 1, 2, davis.VOID} and (ids == 1).sum() == 600
    with pytest.raises(ClipError, match="mode RGB; object ids need a palette"):
        davis.read_ids(tree / "JPEGImages" / "480p" / "one" / "00000.jpg")


def test_one_point_for_each_object_follows_the_video(tree):
    case = read(tree, "one")
    given = case.trajectories
    assert given.texts == ("a thing", "a small thing") and given.segment.tolist() == [1, 2]
    assert case.video.shape == (9, 64, 128, 3) and given.num_frames == 9
    # Middle of the box; the void is no object.
    np.testing.assert_allclose(given.tracks[0, 0], [24.5, 17.5], atol=1)
    moved = given.tracks - given.tracks[:, :1]
    want = 2 * np.arange(9)
    np.testing.assert_allclose(moved[..., 0], np.stack([want, want]), atol=1.5)
    assert case.about["on_object"] == 1.0 and case.about["objects"] == [1, 2]
    assert [(case.ids == k).sum() for k in (1, 2, 255)] == [600, 64, 0]


def test_another_size_and_too_few_frames(tree):
    case = read(tree, "two")
    assert case.video.shape == (5, 64, 128, 3) and case.about["frames"] == 5
    assert case.about["source_hw"] == [48, 96] and case.ids.max() == 1
    # 4/3 as large: the middle of a box of 12x40 at (20, 4).
    np.testing.assert_allclose(case.trajectories.tracks[0, 0], [34.2, 31.5], atol=7)
    held = read(tree, "two", short="hold")
    assert held.video.shape[0] == 9 and held.about["held"] == 2
    np.testing.assert_array_equal(held.video[6:], np.repeat(held.video[6:7], 3, axis=0))
    assert (held.trajectories.tracks[:, 6:] == held.trajectories.tracks[:, 6:7]).all()


def test_only_the_largest_objects_stay(tree):
    case = read(tree, "one", most=1)
    assert case.about["objects"] == [1] and case.about["left_out"] == {"2": "among the smallest"}
    assert case.trajectories.num_points == 1


def test_point_is_on_the_mask_where_the_centroid_is_not():
    ring = np.zeros((21, 41), bool)
    ring[2:19, 2:39] = True
    ring[8:13, 8:33] = False
    x, y = davis.object_point(ring).astype(int)
    assert ring[y, x]
    # Two places are equally far from the edge: the one nearer to the centroid is taken.
    bar = np.zeros((9, 30), bool)
    bar[2:7, 2:28] = True
    assert abs(davis.object_point(bar)[0] - 14.5) <= 0.5
    with pytest.raises(ValueError, match="empty"):
        davis.object_point(np.zeros((4, 4), bool))


def test_command_writes_cases_that_can_be_read(tree, tmp_path, capsys):
    out = tmp_path / "cases"
    command = ["davis", str(tree), str(out), "--captions", str(tree / "captions.json")]
    assert main([*command, "--size", "64x128", "--frames", "9"]) == 0
    said = capsys.readouterr().out
    assert "two: 5 frames of 7 (too short for 9); 1 objects" in said
    jobs = [json.loads(line) for line in (out / "jobs.jsonl").read_text().splitlines()]
    assert [(job["name"], job["prompt"], job["frames"]) for job in jobs] == [
        ("one", "a thing moves", 9),
        ("two", "things", 5),
    ]
    given = read_trajectories(out / jobs[0]["tracks"])
    assert given.texts == ("a thing", "a small thing") and given.size_hw == (64, 128)
    assert read_video(out / "real" / "two.mp4").shape == (5, 64, 128, 3)
    about = json.loads((out / "davis.json").read_text())
    assert about["tracker"].startswith("dis") and about["protocol"]["short"] == "truncate"


def test_captions_of_both_forms_and_what_is_missing(tree, tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("sequence,object,text\ntwo,,things\ntwo,3,a tall thing\none,0,a thing moves\n")
    words = davis.read_words(table)
    assert words["two"] == davis.Words("things", {3: "a tall thing"})
    with pytest.raises(ClipError, match="one: object 1 has no text"):
        davis.read_sequence(tree, "one", words["one"], protocol())
    with pytest.raises(ClipError, match="one: has no prompt"):
        davis.read_sequence(tree, "one", davis.Words("", {1: "a", 2: "b"}), protocol())
    (tmp_path / "wrong.json").write_text('{"one": "a thing"}')
    with pytest.raises(ClipError, match="'one' must be"):
        davis.read_words(tmp_path / "wrong.json")
    with pytest.raises(ClipError, match="holds JPEGImages"):
        davis.sequence_names(tmp_path)
    with pytest.raises(ClipError, match=r"80 frames.*1 \+ 4k"):
        davis.Protocol(frames=80)
