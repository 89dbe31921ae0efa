"""EPE of located entities and of points, swaps, crops, preferences: cases by hand."""

import math

import numpy as np
import pytest

from tavid_jax.metrics.bootstrap import paired_difference, pooled_difference, pooled_interval
from tavid_jax.metrics.crops import OBJECT, SQUARE, CropRule, box_sizes, crop_boxes
from tavid_jax.metrics.located import (
    REFERENCE_HW,
    epe_detect,
    epe_track,
    identity_swaps,
    match_equals,
)
from tavid_jax.metrics.preference import gsb

HW = (240, 416)  # half of the reference: errors count double
RNG = np.random.default_rng(0)


def paths(*lines: tuple[float, float, float, float], frames: int = 3) -> np.ndarray:
    """(1, N, T, 2) of straight lines x0, y0, dx, dy."""
    steps = np.arange(frames)[:, None]
    return np.stack([np.array(line[:2], float) + steps * np.array(line[2:]) for line in lines])[
        None
    ]


def everything(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(xy.shape[:3], bool), np.ones(xy.shape[:2], bool)


def test_pairs_of_all_clips_have_one_weight():
    target = np.concatenate(
        [paths((10, 10, 1, 0), (50, 50, 0, 1)), paths((0, 0, 2, 2), (9, 9, 0, 0))]
    )
    seen, detected = everything(target)
    seen[1, 1] = False  # fills up the batch
    found = target + [[[[3.0, 4.0]]], [[[0.0, 1.0]]]]
    record = epe_detect(found, target, seen, detected, size_hw=HW, detector="toy")
    assert record["per_clip"] == pytest.approx([10, 2]) and record["pairs"] == [6, 3]
    assert record["epe"] == pytest.approx((6 * 10 + 3 * 2) / 9) and record["n"] == 9
    assert record["missing"] == record["missing_pairs"] == 0
    assert record["settings"]["detector"] == "toy" and record["settings"]["size_hw"] == [240, 416]


def test_axes_are_scaled_by_themselves():
    target = paths((5, 5, 0, 0))
    record = epe_detect(target + [1, 1], target, *everything(target), size_hw=(48, 416))
    assert record["epe"] == pytest.approx(math.hypot(2, 10))


@pytest.mark.parametrize(
    ("rule", "want"),
    [
        # The second is at the frame's middle (207.5, 119.5) or 830.6 px away, the first 5 px off.
        ("centre", (10 + 2 * 107.5) / 2),
        ("diagonal", (10 + math.hypot(*REFERENCE_HW)) / 2),
        ("skip", 10),
    ],
)
def test_what_a_missing_entity_costs(rule, want):
    target = paths((10, 10, 1, 0), (100, 119.5, 0, 0))
    seen, detected = everything(target)
    detected[0, 1] = False
    found = target + [3, 4]
    found[0, 1] = np.nan
    record = epe_detect(found, target, seen, detected, size_hw=HW, missing=rule)
    assert record["epe"] == pytest.approx(want) and record["of_found"] == pytest.approx(10)
    assert record["missing"] == 0.5 and record["missing_pairs"] == 0.5
    assert record["n"] == (3 if rule == "skip" else 6)


def test_a_frame_without_a_place_is_missing_too():
    target = paths((100, 119.5, 0, 0))
    found = target.copy()
    found[0, 0, 1] = np.nan
    record = epe_detect(found, target, *everything(target), size_hw=HW)
    assert record["missing"] == 0 and record["missing_pairs"] == pytest.approx(1 / 3)
    assert record["epe"] == pytest.approx(2 * 107.5 / 3)
    with pytest.raises(ValueError, match="missing='middle' is unknown"):
        epe_detect(found, target, *everything(target), size_hw=HW, missing="middle")


def test_nothing_is_nan():
    target = paths((1, 1, 0, 0))
    seen, detected = everything(target)
    for record in (
        epe_detect(target, target, ~seen, detected, size_hw=HW),
        epe_track(target, target, ~seen, size_hw=HW),
    ):
        assert math.isnan(record["epe"]) and math.isnan(record["per_clip"][0])
        assert record["n"] == 0
    swaps = identity_swaps(target, target, ~seen, detected, size_hw=HW)
    assert math.isnan(swaps["swapped"]) and math.isnan(swaps["missing"])


def test_track_counts_behind_the_frame_it_starts_in():
    target = paths((10, 10, 1, 0), (50, 50, 0, 0), frames=4)
    seen = np.array([[[1, 1, 1, 0], [0, 1, 1, 1]]], bool)
    found = target.copy()
    found[0, 0] += 1000 * np.array([[1], [0], [0], [1]])  # frames that do not count
    found[0, 1, 2:] += [3, 4]
    record = epe_track(found, target, seen, size_hw=HW, tracker="toy")
    assert record["n"] == 4 and record["epe"] == pytest.approx((0 + 0 + 10 + 10) / 4)
    assert record["settings"]["kind"] == "track"


def test_swaps():
    """Two change places, one goes its way, one is not found, one clip has one entity."""
    target = paths((20, 20, 5, 0), (20, 200, 5, 0), (350, 100, 0, 1), (200, 20, 0, 0))
    target = np.concatenate([target, target])
    seen, detected = everything(target)
    seen[1, 1:] = False
    detected[0, 3] = False
    found = target.copy()
    found[0, [0, 1]] = target[0, [1, 0]]
    record = identity_swaps(found, target, seen, detected, size_hw=HW)
    assert record["judged"] == [3, 0] and record["n"] == 3
    assert record["swapped"] == pytest.approx(2 / 3) and math.isnan(record["per_clip"][1])
    assert record["exchanged"] == pytest.approx(1 / 3)  # of (0, 1), (0, 2), (1, 2)
    assert record["missing"] == pytest.approx(1 / 5)
    # 0 follows 1, which itself is right: no exchange.
    found[0, 1] = target[0, 1]
    record = identity_swaps(found, target, seen, detected, size_hw=HW)
    assert record["swapped"] == pytest.approx(1 / 3) and record["exchanged"] == 0


def test_neighbours_and_equals_cannot_be_swapped():
    target = paths((20, 20, 0, 0), (60, 20, 0, 0))  # 80 px of the reference apart
    found = target[:, ::-1].copy()
    given = found, target, *everything(target)
    assert identity_swaps(*given, size_hw=HW)["n"] == 0
    assert identity_swaps(*given, size_hw=HW, margin=80)["swapped"] == 1
    labels = np.zeros((1, 2), int)
    assert identity_swaps(*given, size_hw=HW, margin=0, labels=labels)["n"] == 0


def test_entities_of_equal_words_are_handed_out_anew():
    target = paths((20, 20, 0, 0), (200, 20, 0, 0), (20, 150, 0, 0), (200, 150, 0, 0))
    seen, detected = everything(target)
    detected[0, 2] = False
    found = target[:, [1, 2, 0, 3]] + 1.0  # of words a, a, a, b
    found[0, 2] = np.nan  # what should have been at target 0
    labels = np.array([[0, 0, 0, 1]])
    matched = match_equals(found, target, seen, detected, labels)
    assert matched.detected.tolist() == [[False, True, True, True]]
    np.testing.assert_array_equal(matched.found[0, 1:], target[0, 1:] + 1)
    apart = match_equals(found, target, seen, detected, np.arange(4)[None])
    np.testing.assert_array_equal(apart.found, found)


def test_object_crops():
    tracks = np.array([[[50.0, 50.0], [0.0, 0.0]], [[300.0, 100.0], [900.0, 100.0]]])
    seen = np.array([[True, True], [True, True]])
    sizes = np.array([[100.0, 20.0], [np.nan, np.nan]])
    boxes = crop_boxes(tracks, seen, sizes, REFERENCE_HW)
    # 120 high, at least 96 wide, around the centre of pixel (50, 50); cut off at the frame's edges.
    assert boxes[0].tolist() == [[2, 0, 98, 110], [0, 0, 48, 60]]
    assert boxes[1].tolist() == [[252, 52, 348, 148], [0, 0, 0, 0]]
    seen[0, 0] = False
    assert not crop_boxes(tracks, seen, None, REFERENCE_HW)[0, 0].any()
    # Half as large a frame, half as large a least box.
    small = crop_boxes(tracks[1:], seen[1:], None, HW)
    assert small[0, 0].tolist() == [276, 76, 324, 124]
    assert OBJECT.name == "object x1.2, at least 96 px of 832x480, cut off"


def test_square_crops_are_moved_inside():
    tracks = np.array([[[0.0, 479.0], [400.0, 200.0]]])
    boxes = crop_boxes(tracks, np.ones((1, 2), bool), None, REFERENCE_HW, SQUARE)
    assert boxes[0].tolist() == [[0, 360, 120, 480], [340, 140, 460, 260]]
    with pytest.raises(ValueError, match="around='disc' is unknown"):
        CropRule("disc")


def test_sizes_of_objects():
    ids = np.zeros((20, 30), np.uint8)
    ids[2:7, 3:13] = 2
    sizes = box_sizes(ids, np.array([2, 0, 1]))
    np.testing.assert_array_equal(sizes, [[5, 10], [np.nan] * 2, [np.nan] * 2])


def test_pooled_intervals():
    values, weights = np.array([1.0, 4.0, np.nan, 7.0]), np.array([3, 1, 5, 0])
    found = pooled_interval(values, weights)
    assert found.mean == pytest.approx(7 / 4) and found.n == 2
    assert found.low == pytest.approx(1) and found.high == pytest.approx(4)
    ones = np.ones(40)
    first, second = RNG.normal(1, 1, 40), RNG.normal(0, 1, 40)
    pooled = pooled_difference(first, ones, second, ones)
    want = paired_difference(first, second)
    assert pooled == pytest.approx(want) and pooled.excludes_zero
    assert math.isnan(pooled_interval(values[:1], weights[:1]).low)


def test_gsb():
    # The paper's +65.0: of 60 judgements.
    assert gsb(45, 9, 6)["gsb"] == pytest.approx(65) and gsb(1, 0, 3)["gsb"] == -50
    assert math.isnan(gsb(0, 0, 0)["gsb"])
    with pytest.raises(ValueError, match="negative"):
        gsb(1, -1, 0)
