"""Points that no longer fit their first frame."""

import numpy as np
import pytest

from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError
from tavid_jax.tracks.unaligned import unalign, unaligned_pair

SIZE = (40, 60)


def clip(seed=0, offset=(0, 0)):
    """A grid of points of which those in a box move; segment 1 is the box."""
    y, x = np.mgrid[2:40:2, 2:60:2]
    start = np.stack([x.ravel(), y.ravel()], -1).astype(np.float32)
    mask = np.zeros(SIZE, bool)
    mask[8 + offset[1] : 28 + offset[1], 10 + offset[0] : 40 + offset[0]] = True
    inside = mask[start[:, 1].astype(int), start[:, 0].astype(int)]
    motion = np.cumsum(np.random.default_rng(seed).normal(size=(4, 2)), 0).astype(np.float32)
    tracks = start[:, None] + inside[:, None, None] * (motion - motion[0])
    seen = np.ones(tracks.shape[:2], bool)
    return Trajectories(tracks, seen, SIZE, segment=inside.astype(int), segments=1), mask


def test_a_large_object_is_scaled_about_one_of_its_points():
    points, mask = clip()
    modes = set()
    for seed in range(12):
        moved = unalign(points, mask[None], 1.5, np.random.default_rng(seed), margin=1)
        inside = points.segment == 1
        away = (moved.tracks - points.tracks)[inside]
        fixed = np.abs(away).max((1, 2)) < 1e-4
        modes.add(tuple(np.abs(away).max((0, 1)) > 1))
        assert fixed.any()
        # Scaled by 1.5 about the point that stays, along some axes.
        centre = points.tracks[inside][fixed][0]
        factor = np.where(np.abs(away).max((0, 1)) > 1, 0.5, 0)
        np.testing.assert_allclose(away, factor * (points.tracks[inside] - centre), atol=1e-4)
        assert (moved.tracks[~inside] == points.tracks[~inside]).all()
        assert moved.visibility[inside].all()
        assert moved.visibility[~inside].all(1).sum() == int(0.05 * (~inside).sum())
    assert modes == {(True, False), (False, True), (True, True)}


@pytest.mark.parametrize("how", ["small", "no masks", "translate"])
def test_otherwise_all_points_are_shifted_sideways(how):
    points, mask = clip()
    masks = {"small": mask[None] & (np.arange(60) < 14), "no masks": None, "translate": mask[None]}
    mode = "translate" if how == "translate" else "released"
    shifts = []
    for seed in range(20):
        moved = unalign(points, masks[how], 1.5, np.random.default_rng(seed), mode)
        away = moved.tracks - points.tracks
        assert np.ptp(away[..., 0]) < 1e-4 and (away[..., 1] == 0).all()
        assert (moved.visibility == points.visibility).all()
        shifts.append(float(away[0, 0, 0]) * 720 / 60)
    assert {np.sign(s) for s in shifts} == {-1, 1}
    assert all(29.99 < abs(s) < 49.01 for s in shifts) and len({round(s) for s in shifts}) > 8


def test_a_point_that_is_hidden_for_a_while_can_be_the_centre():
    points, mask = clip()
    gone = points.visibility.copy()
    gone[:, 2] = False
    tracks = np.where(gone[..., None], points.tracks, np.float32(np.nan))
    hidden = points.replace(visibility=gone, tracks=tracks)
    moved = unalign(hidden, mask[None], 1.5, np.random.default_rng(0))
    whole = unalign(points, mask[None], 1.5, np.random.default_rng(0))
    np.testing.assert_allclose(moved.tracks[:, 3], whole.tracks[:, 3], atol=1e-4)


def test_the_partners_object_takes_the_place_of_ones_own():
    (own, own_mask), (partner, partner_mask) = clip(), clip(seed=1, offset=(6, 5))
    pair = unaligned_pair(own, partner, own_mask, partner_mask, np.random.default_rng(0), 0.1)
    front = pair.take(pair.segment == 1)
    theirs = partner.take(partner.segment == 1)
    np.testing.assert_allclose(front.tracks, theirs.tracks + np.float32([-6, -5]), atol=1e-5)
    back = pair.take(pair.segment == 0)
    x, y = back.tracks[:, 0].T
    assert not ((x > 5) & (x < 44) & (y > 3) & (y < 32)).any()
    # Outside of the widened box: columns 5 .. 44 and rows 3 .. 32.
    x, y = own.tracks[:, 0].T
    outside = ~((x >= 5) & (x < 45) & (y >= 3) & (y < 33))
    assert back.num_points == int(0.1 * outside.sum())
    partner = partner.replace(texts=("a cat",) * partner.num_points)
    said = unaligned_pair(own, partner, own_mask, partner_mask, np.random.default_rng(0), 0.1)
    assert said.texts == ("a cat",) * front.num_points + ("",) * back.num_points


def test_refusals():
    points, mask = clip()
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no mode 'rotate'"):
        unalign(points, None, 1.5, rng, "rotate")
    with pytest.raises(ValueError, match="scale must be above 0"):
        unalign(points, None, 0, rng)
    with pytest.raises(ValueError, match="resize it"):
        unalign(points, mask[None, 1:], 1.5, rng)
    with pytest.raises(TrajectoryError, match="partner_mask is empty"):
        unaligned_pair(points, points, mask, np.zeros(SIZE, bool), rng)
    with pytest.raises(TrajectoryError, match="num_frames: own tracks have 4"):
        unaligned_pair(points, points.window(0, 2), mask, mask, rng)
