"""Points in space, seen by cameras."""

import numpy as np
import pytest

from tavid_jax.tracks import camera

SIZE = (48, 72)


def grid(step=6):
    y, x = np.mgrid[2 : SIZE[0] : step, 2 : SIZE[1] : step]
    return np.stack([x.ravel(), y.ravel()], -1).astype(np.float32)


def bumpy(seed=0):
    return np.random.default_rng(seed).uniform(2, 5, SIZE)


@pytest.mark.parametrize("pose", [None, "moved"])
def test_lifting_and_projecting_are_inverse(pose):
    at = camera.orbit(3, 4.0, 20, -10)[2] if pose else None
    lens = camera.pinhole(SIZE, 60)
    points = camera.lift(bumpy(), grid(), lens, at)
    path = (np.eye(4) if at is None else at)[None]
    seen = camera.project(points, lens, path, SIZE)
    np.testing.assert_allclose(seen.tracks[:, 0], grid(), atol=1e-4)
    row, column = grid().astype(int).T[::-1]
    np.testing.assert_allclose(seen.depth[:, 0], bumpy()[row, column], rtol=1e-5)
    assert seen.visibility.all()


def test_paths_move_the_picture_as_they_say():
    depth, lens = np.full(SIZE, 4.0), camera.pinhole(SIZE, 60)
    centre = np.array([[35.5, 23.5]], np.float32)
    at = np.concatenate([centre, centre + 8])

    def end(extrinsics, intrinsics=lens):
        return camera.redirect(depth, at, intrinsics, extrinsics).tracks[:, -1] - centre

    focal = lens[0, 0]
    # A camera that turns right or down sees the picture move left or up.
    turned = end(camera.pan(3, 10, 0))[0]
    np.testing.assert_allclose(turned, [-focal * np.tan(np.radians(10)), 0], atol=1e-3)
    turned = end(camera.pan(3, 0, 10))[0]
    np.testing.assert_allclose(turned, [0, -focal * np.tan(np.radians(10))], atol=1e-3)
    # Half way to the wall everything is twice as far from the centre; so under zoom.
    np.testing.assert_allclose(end(camera.dolly(3, (0, 0, 2))), [[0, 0], [16, 16]], atol=1e-3)
    zoomed = end(camera.dolly(3, (0, 0, 0)), camera.zoom(lens, 3, 2.0))
    np.testing.assert_allclose(zoomed, [[0, 0], [16, 16]], atol=1e-3)
    np.testing.assert_allclose(end(camera.dolly(3, (1, 0, 0)))[0], [-focal / 4, 0], atol=1e-3)
    # An orbit keeps its centre in place and at its distance.
    circled = camera.redirect(depth, at, lens, camera.orbit(5, 4.0, 30, 10))
    np.testing.assert_allclose(circled.tracks[0], np.repeat(centre, 5, 0), atol=1e-3)
    np.testing.assert_allclose(circled.depth[0], 4, rtol=1e-5)
    eye = -camera.orbit(5, 4.0, 30)[-1, :3, :3].T @ camera.orbit(5, 4.0, 30)[-1, :3, 3]
    assert eye[0] < -1.9
    # Turned both ways the camera does not roll: its right stays level.
    assert abs(camera.pan(3, 30, 20)[-1, 0, 1]) < 1e-12


def test_behind_outside_and_occluded_points_are_not_visible():
    lens = camera.pinhole(SIZE, 60)
    points = np.array([[0, 0, 4], [0, 0, -4], [9, 0, 4], [0.01, 0, 8], [0, 0.01, 4.1]])
    seen = camera.project(points, lens, np.eye(4)[None], SIZE)
    assert seen.visibility[:, 0].tolist() == [True, False, False, True, True]
    seen = camera.project(points, lens, np.eye(4)[None], SIZE, cell=2)
    assert seen.visibility[:, 0].tolist() == [True, False, False, False, True]
    assert seen.depth[1, 0] == -4


def test_points_that_move_themselves():
    points = np.array([[[0, 0, 4], [0, 0, 2]], [[1, 0, 4], [1, 0, 2]]], np.float64)
    seen = camera.project(points, camera.pinhole(SIZE, 60), camera.pan(2), SIZE)
    away = seen.tracks[1] - seen.tracks[0]
    np.testing.assert_allclose(away[1], 2 * away[0], rtol=1e-5)


def test_refusals():
    lens, still = camera.pinhole(SIZE), np.eye(4)[None]
    with pytest.raises(ValueError, match="outside the depth map"):
        camera.lift(bumpy(), np.array([[99, 2]], np.float32), lens)
    with pytest.raises(ValueError, match="finite and above 0"):
        camera.lift(np.zeros(SIZE), grid(), lens)
    with pytest.raises(ValueError, match="intrinsics have 3 frames, extrinsics 2"):
        camera.project(np.ones((2, 3)), camera.zoom(lens, 3, 2), camera.pan(2), SIZE)
    with pytest.raises(ValueError, match="points are not finite"):
        camera.project(np.full((2, 3), np.nan), lens, still, SIZE)
    with pytest.raises(ValueError, match="angle of view"):
        camera.pinhole(SIZE, 180)
    with pytest.raises(ValueError, match="zoom factor"):
        camera.zoom(lens, 3, 0)
    with pytest.raises(ValueError, match="cell must be above 0"):
        camera.project(np.ones((2, 3)), lens, still, SIZE, cell=0)
