"""Which points and frames stay."""

import numpy as np
import pytest

from tavid_jax.tracks import sparsify
from tavid_jax.tracks.trajectories import Trajectories


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("share, count", [(1, 490), (0.5, 245), (0.003, 1), (1e-6, 1)])
def test_random_points(share, count):
    chosen = sparsify.random_points(490, share, rng())
    assert chosen.sum() == count
    if share == 0.5:
        other = sparsify.random_points(490, share, np.random.default_rng(1))
        assert (chosen != other).any() and 80 < chosen[:245].sum() < 165


def test_uniform_frames():
    kept = {share: np.flatnonzero(sparsify.uniform_frames(49, share)) for share in (0.2, 0.1, 0)}
    assert kept[0.2].tolist() == list(range(0, 49, 6))
    assert kept[0.1].tolist() == [0, 16, 32, 48]
    assert kept[0].tolist() == [0, 48]
    assert sparsify.uniform_frames(49, 1).all()
    assert sparsify.uniform_frames(1, 0.2).tolist() == [True]


def test_random_frames():
    draws = [sparsify.random_frames(49, 0.2, np.random.default_rng(s)) for s in range(20)]
    assert all(d.sum() == 9 and d[0] and d[-1] for d in draws)
    assert len({d.tobytes() for d in draws}) == 20
    assert sparsify.random_frames(49, 0, rng()).sum() == 2
    assert sparsify.random_frames(1, 0.5, rng()).tolist() == [True]


def test_regions_fill_up_with_whole_parts():
    coarse = np.repeat([0, 1, 2], [10, 40, 50])
    fine = np.arange(100) // 10
    seen = set()
    for seed in range(10):
        chosen = sparsify.region_points(coarse, fine, 0.5, np.random.default_rng(seed))
        assert [chosen[coarse == k].sum() for k in range(3)] == [5, 20, 25]
        in_parts = np.bincount(fine[chosen], minlength=10)
        # Two whole parts of segment 1; two and a half of segment 2.
        assert sorted(in_parts[1:5]) == [0, 0, 10, 10]
        assert sorted(in_parts[5:]) == [0, 0, 5, 10, 10]
        seen.add(tuple(in_parts))
    assert len(seen) > 5


def test_scores_and_foreground():
    masks = np.zeros((3, 10, 100), bool)
    masks[1, :, 30:60] = True  # away from the borders, 30 % of the frame
    masks[2, :, :30] = True  # 20 of the 40 columns of the borders
    np.testing.assert_allclose(
        sparsify.mask_scores(masks), [-1, 0.6 + 0.4 * 0.3, 0.6 * 0.5 + 0.4 * 0.3]
    )
    xy = np.array([[45, 5], [10, 5], [80, 5]], np.float32)
    assert sparsify.foreground_points(xy, masks, 0.3).tolist() == [True, False, False]
    assert sparsify.foreground_points(xy, masks, 0.31).tolist() == [True, True, False]
    assert sparsify.foreground_points(xy, masks, 1).tolist() == [True, True, False]


def test_keep_hides_and_nothing_else():
    seen = rng().random((4, 6)) < 0.7
    points = Trajectories(np.ones((4, 6, 2), np.float32), seen, (8, 8))
    chosen, frames = np.array([1, 0, 1, 1], bool), sparsify.uniform_frames(6, 0)
    assert (sparsify.keep(points).visibility == seen).all()
    few = sparsify.keep(points, chosen, frames)
    assert (few.visibility == (seen & chosen[:, None] & frames)).all()
    assert few.num_points == 4 and (few.tracks == points.tracks).all()


def test_refusals():
    for share in (0, 1.1):
        with pytest.raises(ValueError, match="share of points"):
            sparsify.random_points(9, share, rng())
    with pytest.raises(ValueError, match="share of frames"):
        sparsify.uniform_frames(9, 1.1)
