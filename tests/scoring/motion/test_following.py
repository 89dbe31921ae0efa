"""Points are followed from their own frames, in their own pixels; grids on masks."""

import numpy as np
import pytest
from motion_scene import HW

from tavid_jax.scoring.motion.following import follow, foreground_points


class Shifts:
    """A tracker that says that everything moves by (2, 1) px a frame, and is seen in frame 0."""

    fingerprint = "shifts"

    def working_hw(self, size_hw):
        return size_hw

    def __call__(self, video, query_xy):
        steps = np.arange(len(video))[None, :, None] * np.array([2, 1])
        seen = np.zeros((len(query_xy), len(video)), bool)
        seen[:, 0] = True
        return (query_xy[:, None] + steps).astype(np.float32), seen


def test_each_from_its_own_frame():
    video = np.zeros((5, *HW, 3), np.uint8)
    places = np.array([[10, 10], [20, 20], [30, 30]], np.float32)
    found = follow(Shifts(), video, places, np.array([0, 3, -1]), HW)
    assert found.tracks[0, :, 0].tolist() == [10, 12, 14, 16, 18]
    assert found.tracks[1, :, 0].tolist() == [20, 20, 20, 20, 22]
    assert (found.tracks[2] == 30).all()
    assert found.seen.argmax(1).tolist() == [0, 3, 0] and found.seen.sum() == 2


def test_pixels_of_another_size():
    video = np.zeros((3, *HW, 3), np.uint8)
    places = np.array([[10.5, 20.5]], np.float32)
    found = follow(Shifts(), video, places, np.array([0]), (2 * HW[0], 2 * HW[1]))
    np.testing.assert_allclose(found.tracks[0, :, 0], [10.5, 14.5, 18.5], atol=1e-4)
    with pytest.raises(ValueError, match="another aspect ratio"):
        follow(Shifts(), video, places, np.array([0]), (50, 50))


@pytest.mark.parametrize("most", [400, 50, 7])
def test_foreground_points_lie_on_the_mask(most):
    mask = np.zeros((60, 80), bool)
    mask[5:50, 10:40] = np.random.default_rng(0).random((45, 30)) < 0.8
    points = foreground_points(mask, most).astype(int)
    assert mask[points[:, 1], points[:, 0]].all()
    assert most / 3 <= len(points) <= most
    np.testing.assert_array_equal(points, foreground_points(mask, most))


def test_thin_foregrounds_have_points():
    mask = np.zeros((60, 80), bool)
    mask[7, 1:70] = True
    mask[20:50, 3] = True
    assert 1 <= len(foreground_points(mask, 5)) <= 5
    mask[:] = False
    mask[1, 1] = True
    assert foreground_points(mask).tolist() == [[1, 1]]
