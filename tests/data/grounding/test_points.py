"""How many points masks have, and where."""

import numpy as np
import pytest

from tavid_jax.data.grounding.points import (
    PointRule,
    edge_distance,
    own_parts,
    place,
    place_among,
    sparse,
)
from tavid_jax.tracks.trajectories import Trajectories


def disc(radius, centre=(30, 30), hw=(60, 60)):
    y, x = np.mgrid[: hw[0], : hw[1]]
    return np.hypot(x - centre[0], y - centre[1]) <= radius


def test_larger_masks_have_more_points():
    rule = PointRule(share=0.01, each=10, total=40)
    assert rule.counts([0.001, 0.0099, 0.01, 0.025, 0.5]) == [1, 1, 2, 3, 10]
    # 12 are wanted: the ones with most give up, the later of equals first.
    assert PointRule(share=0.01, each=5, total=7).counts([0.5, 0.5, 0.01]) == [3, 2, 2]
    assert PointRule(total=3).counts([0.5, 0.5, 0.5]) == [1, 1, 1]
    with pytest.raises(ValueError, match="at least 1"):
        PointRule(each=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        PointRule(share=0)


def test_the_first_point_is_furthest_from_the_edge_and_the_rest_are_spread():
    mask = disc(12)
    xy = place(mask, 5)
    np.testing.assert_array_equal(xy[0], [30, 30])
    assert mask[xy[:, 1].astype(int), xy[:, 0].astype(int)].all()
    distance = edge_distance(mask)
    assert distance[xy[:, 1].astype(int), xy[:, 0].astype(int)].min() >= 0.3 * distance.max()
    gaps = np.linalg.norm(xy[:, None] - xy[None], axis=-1)[np.triu_indices(5, 1)]
    assert gaps.min() > 6
    np.testing.assert_array_equal(xy, place(mask, 5))
    np.testing.assert_array_equal(xy[:3], place(mask, 3))


def test_small_empty_and_cut_masks():
    one = np.zeros((8, 8), bool)
    one[3, 5] = True
    np.testing.assert_array_equal(place(one, 4), [[5, 3]])
    assert place(np.zeros((8, 8), bool), 4).shape == (0, 2)
    # Half a disc at the border of the frame: its point does not lie on the border.
    cut = disc(12, centre=(0, 30))
    assert place(cut, 1)[0, 0] >= 4


def test_points_of_overlapping_masks_lie_where_one_object_is():
    masks = np.stack([disc(10, (24, 30)), disc(10, (34, 30)), disc(3, (29, 30))])
    parts = own_parts(masks)
    assert not (parts[0] & masks[1]).any() and parts[0].any()
    np.testing.assert_array_equal(parts[2], masks[2])  # covered all over: it stays whole


def test_points_among_tracks_that_are_there():
    xy = np.float32([[1, 1], [30, 30], [41, 30], [35, 30], [30, 21], [-4, 70]])
    # (41, 30) and (30, 21) lie too near the edge, two others outside.
    assert place_among(xy, disc(12), 9).tolist() == [1, 3]
    assert place_among(xy, disc(12), 9, 0.2).tolist() == [1, 4, 3]
    assert place_among(xy[:1], disc(12), 2).tolist() == []


def test_sparse_trajectories_are_one_point_an_object():
    seen = np.ones((6, 4), bool)
    seen[1, 1:] = False
    points = Trajectories(
        np.zeros((6, 4, 2), np.float32),
        seen,
        (8, 8),
        segment=np.array([0, 1, 1, 2, 3, 3]),
        segments=3,
        texts=("", "a", "a", "b", "c", "c"),
    )
    assert sparse(points).texts == ("a", "b", "c")
    assert sparse(points, 2).texts == ("b", "c")  # the first point of "a" is hardly seen
    with pytest.raises(ValueError, match="no segments"):
        sparse(points.replace(segment=None))
