"""Explained variance by location: a case worked out by hand, and the dense field of the code."""

import numpy as np
import pytest

from tavid_jax.metrics.location_variance import Sums, explained_variance

SIZE_HW, GRID_HW = (4, 8), (1, 2)  # two cells of 4 px, centres (1.5, 1.5) and (5.5, 1.5)
OFFSETS = [[[0, 2], [4, 99]], [[-2, 99], [4, 6]]]  # x, of two clips; 99 is invisible


def clips():
    for offsets in OFFSETS:
        x = np.array(offsets, float)
        seen = x != 99
        tracks = np.stack([x + [[1.5], [5.5]], np.full((2, 2), 2.5)], axis=-1)
        tracks[~seen] = np.nan
        yield tracks, seen


def test_worked_out_by_hand():
    """Cell 0 holds 0, 2, -2: mean 0, variance 8/3. Cell 1 holds 4, 4, 6: mean 14/3, variance 8/9.
    So between 49/9, within 16/9; absolute means are 26/3 apart: between 169/9. Of the first clip
    alone between 9/4, within 1/2, of the second 49/4 and 1/2."""
    found = explained_variance(clips(), SIZE_HW, GRID_HW)
    assert found.between[0] == pytest.approx(49 / 9) and found.within[0] == pytest.approx(16 / 9)
    assert found.explained[0] == pytest.approx(100 * 49 / 65)
    assert found.per_clip[0] == pytest.approx(50 * (9 / 11 + 49 / 51))
    assert np.isnan(found.explained[1])  # nothing varies
    np.testing.assert_allclose(found.mean, [[[0, 1], [14 / 3, 1]]])
    np.testing.assert_allclose(found.variance[..., 0], [[8 / 3, 8 / 9]])
    whole = explained_variance(clips(), SIZE_HW, GRID_HW, "none")
    assert whole.explained[0] == pytest.approx(100 * 169 / 185)
    np.testing.assert_allclose(whole.mean[..., 0], [[1.5, 5.5 + 14 / 3]])
    record = found.record(dataset="hand")
    assert record["n"] == 2 and record["settings"]["anchor"] == "cell"


def test_pixel_anchor_is_that_of_the_dense_field():
    rng = np.random.default_rng(0)
    size_hw, grid_hw, cell = (8, 12), (2, 3), 4
    tracks = rng.normal(size=(6, 5, 2)) * 3 + 5
    seen = rng.random((6, 5)) > 0.2
    found = explained_variance([(tracks, seen)], size_hw, grid_hw, "pixel")
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    owner = (y // cell * grid_hw[1] + x // cell).ravel()
    field = tracks[owner] - np.stack([x.ravel(), y.ravel()], axis=-1)[:, None]
    masked = np.ma.array(field, mask=np.repeat(~seen[owner][..., None], 2, axis=-1))
    between, within = masked.mean(axis=1).var(axis=0), masked.var(axis=1).mean(axis=0)
    np.testing.assert_allclose(found.explained, 100 * between / (between + within))


def test_tracks_that_stay_in_their_cells():
    """Absolute: all is place. Offsets: nothing is."""
    sums = Sums((64, 96), (2, 3))
    rng = np.random.default_rng(1)
    for _ in range(200):
        tracks = sums.centres[:, None] + rng.normal(size=(6, 4, 2))
        sums.add(tracks, np.ones((6, 4), bool))
    assert (sums.result("none").explained > 99).all()
    assert (sums.result("cell").explained < 1).all()


def test_bad_input():
    with pytest.raises(ValueError, match="square"):
        Sums((4, 8), (1, 3))
    sums = Sums(SIZE_HW, GRID_HW)
    with pytest.raises(ValueError, match="3 tracks do not fill"):
        sums.add(np.zeros((3, 2, 2)), np.ones((3, 2), bool))
    with pytest.raises(ValueError, match="visible"):
        sums.result("cell")
