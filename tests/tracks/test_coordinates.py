"""Units, borders and frame changes of coordinates, in numpy and in jax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.tracks import coordinates as co

HW = (480, 832)
BOTH = pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])


@BOTH
def test_normalise_divides_by_width_and_height(xp):
    xy = xp.asarray([[0.0, 0.0], [832.0, 480.0], [416.0, 120.0]])
    out = co.normalise(xy, HW)
    assert isinstance(out, jax.Array) == (xp is jnp) and out.dtype == np.float32
    np.testing.assert_array_equal(out, [[-1, -1], [1, 1], [0, -0.5]])
    np.testing.assert_allclose(co.denormalise(out, HW), xy, atol=1e-4)


def test_normalise_takes_integers_and_halves_in_float32():
    assert co.normalise(np.array([[3, 5]]), HW).dtype == np.float32
    # 700.3 in float16 would be 700.5: the cast comes first, so bf16 input is all that is lost.
    exact = co.normalise(jnp.array([700.3, 200.0]), HW)
    np.testing.assert_allclose(exact[0], 2 * 700.3 / 832 - 1, rtol=1e-6)


@BOTH
def test_in_bounds_is_inclusive_and_rejects_non_finite(xp):
    xy = xp.asarray(
        [[0, 0], [831, 479], [831.5, 0], [-1e-3, 0], [0, 479.01], [np.nan, 0], [0, -np.inf]]
    )
    np.testing.assert_array_equal(co.in_bounds(xy, HW), [1, 1, 0, 0, 0, 0, 0])


@BOTH
def test_clip_keeps_the_margin(xp):
    out = co.clip_to_frame(xp.asarray([[-5.0, 900.0], [831.0, 10.0], [3.5, 4.5]]), HW)
    np.testing.assert_allclose(out, [[0, 478.999], [830.999, 10], [3.5, 4.5]], atol=1e-4)
    assert out.dtype == np.float32


def test_resize_moves_points_as_an_image_is_moved():
    """A block that is averaged 4x4 -> 1 has its centre at pixel 1.5 of the large frame."""
    np.testing.assert_allclose(co.resize(np.array([[1.5, 5.5]]), (8, 8), (2, 2)), [[0, 1]])
    up = co.resize(np.array([[0.0, 1.0]]), (2, 4), (4, 8))
    np.testing.assert_allclose(up, [[0.5, 2.5]])
    there = co.resize(np.array([[10.0, 20.0]]), (64, 96), (480, 832))
    np.testing.assert_allclose(co.resize(there, (480, 832), (64, 96)), [[10, 20]], atol=1e-5)


def test_flip_and_crop_follow_the_picture():
    frame = np.zeros((6, 9))
    frame[2, 7] = 1
    xy = np.array([[7.0, 2.0]])
    (y, x), flipped = np.argwhere(frame[:, ::-1])[0], co.flip_horizontal(xy, 9)
    np.testing.assert_array_equal(flipped, [[x, y]])
    (y, x) = np.argwhere(frame[1:, 3:])[0]
    np.testing.assert_array_equal(co.crop(xy, (3, 1)), [[x, y]])


@BOTH
def test_sanitise_hides_what_is_not_finite(xp):
    xy = xp.asarray([[1.0, 2.0], [np.nan, 2.0], [1.0, np.inf]])
    out, visible = co.sanitise(xy, xp.asarray([True, True, False]))
    np.testing.assert_array_equal(out, [[1, 2], [0, 0], [0, 0]])
    np.testing.assert_array_equal(visible, [True, False, False])


def test_works_under_jit():
    out = jax.jit(lambda a: co.clip_to_frame(co.denormalise(co.normalise(a, HW), HW), HW))(
        jnp.array([[1.0, 2.0]])
    )
    np.testing.assert_allclose(out, [[1, 2]], atol=1e-4)
