"""Masks beside videos: found, read, resized, refused, carried."""

import cv2
import numpy as np
import pytest
from scoring_files import write_mask

from tavid_jax.data.tracker import DISTracker
from tavid_jax.scoring import ScoringError
from tavid_jax.scoring.targets import Objects, carried, find_masks, read_objects

HW = (40, 60)


def square(size_hw=HW) -> np.ndarray:
    mask = np.zeros(size_hw, bool)
    mask[size_hw[0] // 4 : size_hw[0] // 2, size_hw[1] // 4 : size_hw[1] // 2] = True
    return mask


def test_masks_are_found_in_order(tmp_path):
    names = ["a.target.png", "a.target_2.png", "a.target_10.png", "a.other.png", "a.other_2.png"]
    for name in [*names[::-1], "ab.target.png", "a.target.jpg", "a.depth.png", "a.x.target.png"]:
        write_mask(tmp_path / name, square())
    found = find_masks(tmp_path / "a.mp4", None)
    assert [path.name for path in found] == names
    objects = read_objects(found, "a.mp4", HW)
    assert objects.names == tuple(names) and objects.num_targets == 3 and not objects.notes
    np.testing.assert_array_equal(objects.masks, np.stack([square()] * 5))
    assert find_masks("elsewhere/a.mp4", tmp_path) == found
    assert find_masks(tmp_path / "b.mp4", None) == []
    assert read_objects([], "b.mp4", HW) is None


def test_names_with_signs_are_names(tmp_path):
    write_mask(tmp_path / "a[1].mask.png", square())
    assert [p.name for p in find_masks(tmp_path / "a[1].mp4", None)] == ["a[1].mask.png"]


def test_a_mask_of_another_size_takes_the_nearest_pixels(tmp_path):
    write_mask(tmp_path / "a.target.png", square((80, 120)))
    objects = read_objects(find_masks(tmp_path / "a.mp4", None), "a.mp4", HW)
    np.testing.assert_array_equal(objects.masks[0], square())
    assert objects.notes == ("a.target.png resized from 120x80",)


def test_masks_that_cannot_be_used(tmp_path):
    def attempt(message: str):
        with pytest.raises(ScoringError, match=message):
            read_objects(find_masks(tmp_path / "a.mp4", None), "a.mp4", HW)

    write_mask(tmp_path / "a.other.png", square())
    attempt("no target; add a.target.png")
    path = tmp_path / "a.target.png"
    write_mask(path, np.zeros(HW, bool))
    attempt(r"a.target.png: the mask is empty; white")
    write_mask(path, square((60, 40)))
    attempt("is 40x60, a.mp4 is 60x40: another aspect ratio")
    path.write_bytes(b"no picture")
    attempt("cannot be read as a mask")


def test_masks_move_with_what_they_cover():
    """A textured square that goes to the right."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.uniform(0, 255, (96, 128, 3)).astype(np.float32), (0, 0), 2)
    thing = cv2.GaussianBlur(rng.uniform(0, 255, (32, 32, 3)).astype(np.float32), (0, 0), 2)
    frames, masks = [], []
    for t in range(8):
        frame, mask = ground.copy(), np.zeros((96, 128), bool)
        frame[30:62, 20 + 3 * t : 52 + 3 * t] = thing
        mask[30:62, 20 + 3 * t : 52 + 3 * t] = True
        frames.append(np.clip((frame - 128) * 4 + 128, 0, 255).astype(np.uint8))
        masks.append(mask)
    objects = Objects(("x.target.png",), 1, masks[0][None])
    got = carried(np.stack(frames), objects, DISTracker())[0]
    np.testing.assert_array_equal(got[0], masks[0])
    for region, true in zip(got, masks, strict=True):
        assert (region & true).sum() / (region | true).sum() > 0.85
