"""Latents along tracks: the released function, and what it does not say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.tracks.latent_replacement import cell_sources, latent_cells, moved, replaced

SIZE_HW = (48, 80)
GRID_HW = (6, 10)
FRAMES = 21
# Cells (column, row) of the published example of one drawn track, 832x480 px, 81 frames.
EXAMPLE = (
    (60, 27), (59, 27), (58, 27), (57, 27), (55, 27), (53, 27), (51, 28), (49, 28), (47, 28),
    (46, 28), (44, 28), (43, 29), (41, 29), (40, 30), (38, 30), (37, 31), (35, 31), (33, 31),
    (31, 31), (29, 31), (26, 31),
)  # fmt: skip


def random_latent(seed=0, grid_hw=GRID_HW, frames=(FRAMES - 1) // 4 + 1):
    return np.random.default_rng(seed).normal(size=(frames, *grid_hw, 3)).astype(np.float32)


def random_tracks(count, seed=1):
    rng = np.random.default_rng(seed)
    tracks = rng.uniform((-6, -6), (86, 54), (count, FRAMES, 2)).astype(np.float32)
    return tracks, rng.uniform(size=(count, FRAMES)) > 0.2


def written(latent, made):
    """(k, row, column) of the columns that differ."""
    return {tuple(int(i) for i in at) for at in np.argwhere((latent != made).any(-1))}


@pytest.mark.parametrize("variant", ["edited", "first_hidden_released", "first_hidden_dropped"])
def test_equals_the_released_function(goldens, variant):
    file = goldens("wanmove_replace_tiny")
    hidden = "first_hidden" in variant
    seen = file["in/visibility_first_hidden" if hidden else "in/visibility"].T
    tracks, latent = file["in/tracks"].swapaxes(0, 1), np.moveaxis(file["in/y"], 0, -1)
    wraps = variant.endswith("released")
    made = moved(latent, tracks, seen, SIZE_HW, wrap_invalid_source=wraps)
    name = "out/edited" + (f"_{variant}" if hidden else "")
    np.testing.assert_array_equal(np.moveaxis(np.asarray(made), -1, 0), file[name])
    if not hidden:
        cells = latent_cells(tracks, seen, SIZE_HW, GRID_HW)
        np.testing.assert_array_equal(cells, file["out/latent_cells_rowcol"])


def test_one_track_takes_one_cell_in_every_latent_frame():
    """8 px to the right in four frames."""
    tracks = np.array([10.0, 21.0]) + np.arange(FRAMES)[:, None] * [2.0, 0.0]
    latent, seen = random_latent(), np.ones((1, FRAMES), bool)
    made = np.asarray(moved(latent, tracks[None], seen, SIZE_HW))
    assert written(latent, made) == {(k, 2, 1 + k) for k in range(1, 6)}
    assert all((made[k, 2, 1 + k] == latent[0, 2, 1]).all() for k in range(1, 6))


def test_where_a_track_is_hidden_or_outside_nothing_is_written():
    tracks = np.array([10.0, 21.0]) + np.arange(FRAMES)[:, None] * [2.0, 0.0]
    seen, latent = np.ones((1, FRAMES), bool), random_latent()
    seen[0, 8] = False
    tracks[12], tracks[16] = (80.0, 21.0), (20.0, -0.1)
    made = np.asarray(moved(latent, tracks[None], seen, SIZE_HW))
    assert written(latent, made) == {(1, 2, 2), (5, 2, 6)}
    for first in ("hidden", "outside"):
        lost, place = seen.copy(), tracks.copy()
        lost[0, 0], place[0] = first != "hidden", (-3.0, 2.0) if first == "outside" else place[0]
        np.testing.assert_array_equal(moved(latent, place[None], lost, SIZE_HW), latent)
        wraps = np.asarray(moved(latent, place[None], lost, SIZE_HW, wrap_invalid_source=True))
        assert (wraps[1, 2, 2] == latent[0, -1, -1]).all()


def test_the_first_of_several_tracks_in_a_cell_wins():
    tracks, seen = random_tracks(200)
    cells = np.asarray(latent_cells(tracks, seen, SIZE_HW, GRID_HW))
    want = np.full((6, *GRID_HW), -1)
    for n in reversed(range(len(tracks))):
        for k in range(1, 6):
            if cells[n, k, 0] >= 0 and cells[n, 0, 0] >= 0:
                want[k, *cells[n, k]] = cells[n, 0, 0] * 10 + cells[n, 0, 1]
    assert (np.unique(want[1:]) >= 0).sum() > 30
    np.testing.assert_array_equal(cell_sources(cells, GRID_HW), want)
    got = jax.jit(lambda cells: cell_sources(cells, GRID_HW))(cells)
    np.testing.assert_array_equal(got, want)
    # Padding anywhere between them changes nothing.
    padded = np.full((260, *cells.shape[1:]), -1)
    padded[np.sort(np.random.default_rng(3).permutation(260)[:200])] = cells
    np.testing.assert_array_equal(cell_sources(padded, GRID_HW), want)


def test_a_batch_equals_its_examples():
    latent = np.stack([random_latent(seed) for seed in range(3)])
    tracks, seen = (np.stack(x) for x in zip(*(random_tracks(7, s) for s in range(3)), strict=True))
    seen[1, 4:] = False  # fewer tracks, padded
    together = jax.jit(jax.vmap(lambda *x: moved(*x, SIZE_HW)))(latent, tracks, seen)
    for i, count in enumerate((7, 4, 7)):
        alone = moved(latent[i], tracks[i, :count], seen[i, :count], SIZE_HW)
        np.testing.assert_array_equal(together[i], alone)


def test_the_published_example():
    """Its ends, and places within the cells that it is known to cross."""
    rng, tracks = np.random.default_rng(5), np.zeros((1, 81, 2))
    tracks[0, ::4] = (np.array(EXAMPLE) + rng.uniform(0, 0.999, (21, 2))) * 8
    tracks[0, 0], tracks[0, -1] = (481.0, 217.5), (214.748, 255.4445)
    seen = np.ones((1, 81), bool)
    cells = latent_cells(tracks, seen, (480, 832), (60, 104))
    np.testing.assert_array_equal(cells[0], np.array(EXAMPLE)[:, ::-1])
    sources = np.asarray(cell_sources(cells, (60, 104)))
    assert (sources >= 0).sum() == 20 and (sources[sources >= 0] == 27 * 104 + 60).all()


def test_a_mean_is_of_the_frames_that_a_latent_frame_stands_for():
    tracks, seen = np.zeros((1, 9, 2)), np.ones((1, 9), bool)
    tracks[0, :, 0] = [70, 1, 2, 3, 30, 64, 64, 64, 64]
    cells = latent_cells(tracks, seen, SIZE_HW, GRID_HW, "average")
    assert cells[0, :, 1].tolist() == [8, 1, 8]  # (1 + 2 + 3 + 30) / 4 = 9
    seen[0, 4] = False  # then it is 2
    assert latent_cells(tracks, seen, SIZE_HW, GRID_HW, "average")[0, 1].tolist() == [0, 0]
    seen[0, 1:4] = False
    assert latent_cells(tracks, seen, SIZE_HW, GRID_HW, "average")[0, 1].tolist() == [-1, -1]


def test_gradients_go_back_to_the_columns_that_were_copied():
    sources = np.full((2, 2, 2), -1)
    sources[1, 0] = 3
    latent = random_latent(grid_hw=(2, 2), frames=2)
    grad = jax.grad(lambda x: replaced(x, sources).sum())(jnp.asarray(latent))[..., 0]
    np.testing.assert_array_equal(grad, [[[1, 1], [1, 3]], [[0, 0], [1, 1]]])


def test_bad_input():
    latent, (tracks, seen) = random_latent(), random_tracks(2)
    with pytest.raises(
        ValueError, match=r"tracks have 17 frames, the 6 latent frames stand for 21"
    ):
        moved(latent, tracks[:, :17], seen[:, :17], SIZE_HW)
    with pytest.raises(ValueError, match=r"tracks have 20 frames, not 4k \+ 1: cut them to 17"):
        latent_cells(tracks[:, :20], seen[:, :20], SIZE_HW, GRID_HW)
    with pytest.raises(ValueError, match="80x50 px do not divide into 10x6 cells"):
        latent_cells(tracks, seen, (50, 80), GRID_HW)
    with pytest.raises(ValueError, match=r"strategy 'last': there are sample, average"):
        moved(latent, tracks, seen, SIZE_HW, strategy="last")
