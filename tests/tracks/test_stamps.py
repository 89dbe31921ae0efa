"""Stamps equal point-by-point drawing, on host and device."""

import jax
import numpy as np
import pytest

from tavid_jax.tracks import stamps, stamps_device

SIZE = (17, 23)


def random_points(seed, count=40, frames=3):
    """Points around a small frame, some of them on whole and half pixels, with equal depths."""
    rng = np.random.default_rng(seed)
    tracks = rng.uniform(-8, 30, (count, frames, 2)).astype(np.float32)
    tracks[::2] = np.round(tracks[::2] * 2) / 2
    visible = rng.random((count, frames)) < 0.8
    depth = rng.integers(-2, 3, (count, frames)).astype(np.float32)
    depth[::7] *= -0.0  # equal to 0
    return tracks, visible, depth


def one_by_one(tracks, visible, depth, stamp, order):
    """Index of the point in each pixel, by a loop over Python numbers."""
    drawn = np.full((tracks.shape[1], *SIZE), -1)
    half_w, half_h = (float(np.float32(half)) for half in stamp)
    for t in range(tracks.shape[1]):
        turn = list(range(len(tracks)))
        if order != "array":
            turn.sort(key=lambda n: depth[n, t] if order == "released" else -depth[n, t])
        for n in turn:
            x, y = map(float, tracks[n, t])
            left, right = max(int(x - half_w), 0), max(int(x + half_w), 0)
            top, bottom = max(int(y - half_h), 0), max(int(y + half_h), 0)
            if visible[n, t]:
                drawn[t, top:bottom, left:right] = n
    return drawn


@pytest.mark.parametrize("order", stamps.ORDERS)
@pytest.mark.parametrize(
    "stamp", [(3.0, 2.0), (6, 4), (0.5, 0.5), (2.3, 1.7), (1.5, 2.8), (0.3, 0.4)], ids=str
)
def test_owners_are_those_of_a_loop(stamp, order):
    tracks, visible, depth = random_points(seed=1)
    expected = one_by_one(tracks, visible, depth, stamp, order)
    assert len(np.unique(expected)) > 5
    drawn = stamps.owners(tracks, visible, SIZE, stamp, depth, order)
    assert drawn.dtype == np.int32
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize(
    "stamp, order",
    [((3, 2), order) for order in stamps.ORDERS]
    + [((2.3, 1.7), "released"), ((0.3, 0.4), "array")],
)
def test_owners_on_the_device_are_the_hosts(stamp, order):
    tracks, visible, depth = random_points(seed=6)
    host = stamps.owners(tracks, visible, SIZE, stamp, depth, order)
    device = stamps_device.owners(tracks, visible, SIZE, stamp, depth, order)
    np.testing.assert_array_equal(device, host)


@pytest.mark.parametrize("per_frame", [False, True])
def test_pictures_on_the_device_are_the_hosts_also_in_batches(per_frame):
    given = [random_points(seed) for seed in (2, 3)]
    rng = np.random.default_rng(4)
    shape = given[0][1].shape
    colours = rng.integers(0, 256, (*(shape if per_frame else shape[:1]), 3)).astype(np.uint8)
    host = [stamps.draw(t, v, colours, SIZE, (3, 2), z) for t, v, z in given]
    owner = stamps.owners(*given[0][:2], SIZE, (3, 2), given[0][2])
    frames = np.arange(3)[:, None, None] if per_frame else ()
    expected = colours[(owner, frames) if per_frame else owner] * (owner >= 0)[..., None]
    np.testing.assert_array_equal(host[0], expected)
    batch = (np.stack(arrays) for arrays in zip(*given, strict=True))
    draw = jax.vmap(lambda t, v, z: stamps_device.draw(t, v, colours, SIZE, (3, 2), z))
    np.testing.assert_array_equal(draw(*batch), np.stack(host))


def test_order_of_equal_depths_and_its_direction():
    tracks = np.full((3, 1, 2), 8, np.float32)
    visible = np.ones((3, 1), bool)
    top = lambda depth, order: stamps.owners(  # noqa: E731
        tracks, visible, SIZE, (3, 2), np.array(depth, np.float32)[:, None], order
    )[0, 8, 8]
    assert [top([1, 3, 2], order) for order in stamps.ORDERS] == [1, 0, 2]
    assert [top([1, 1, 1], order) for order in stamps.ORDERS] == [2, 2, 2]
    # Without depth the released order is the array's.
    assert stamps.owners(tracks, visible, SIZE, (3, 2))[0, 8, 8] == 2


def test_points_outside_and_no_points_draw_nothing():
    far = np.array([[[-3.1, 5]], [[26.5, 5]], [[1e30, 5]], [[5, -1e9]]], np.float32)
    visible = np.ones((4, 1), bool)
    for draw in (stamps, stamps_device):
        assert (np.asarray(draw.owners(far, visible, SIZE, (3, 2))) == -1).all()
        none = np.zeros((0, 2, 2), np.float32), np.zeros((0, 2), bool), np.zeros((0, 3), np.uint8)
        assert np.asarray(draw.draw(*none, SIZE, (3, 2))).sum() == 0


def test_sizes_of_stamps():
    assert stamps.released_stamp(4900) == stamps.released_stamp(300) == (3, 2)
    assert stamps.released_stamp(299) == stamps.released_stamp(4900, 0.09) == (6, 4)
    assert stamps.released_stamp(4900, 0.1) == (3, 2)
    assert stamps.scaled_stamp((3, 2), (480, 720)) == (3, 2)
    assert stamps.scaled_stamp((6, 4), (960, 720)) == (12, 8)
    assert stamps.scaled_stamp((3, 2), (32, 48)) == (0.5, 0.5)


@pytest.mark.parametrize("draw", [stamps, stamps_device])
def test_refusals(draw):
    tracks, visible, depth = random_points(seed=5)
    with pytest.raises(ValueError, match="no drawing order 'far'"):
        draw.owners(tracks, visible, SIZE, (3, 2), depth, "far")
    with pytest.raises(ValueError, match="needs the tracks' depth"):
        draw.owners(tracks, visible, SIZE, (3, 2), None, "near_wins")
    with pytest.raises(ValueError, match="both > 0"):
        draw.owners(tracks, visible, SIZE, (3, 0), depth)
