"""Motion by replacing latents: what an image's first latent frame holds goes where tracks go.

Wan-Move's latent trajectory guidance (arXiv:2512.08765). A video autoencoder encodes the image and
grey frames behind it; along every track the latent of the cell in which it starts then takes the
place of the grey one, a whole column of channels for each latent frame. Nothing is learned for it.

A latent frame k >= 1 stands for the pixel frames 4k - 3 to 4k, frame 0 for one; a cell (i, j) for
the rows [8 i, 8 (i + 1)) of pixels, columns alike, as published: floor of the place by 8.

All functions are pure, with static shapes, for `jit` and `vmap`, of numpy's or jax's arrays: tracks
that stand for nothing are invisible ones.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

from tavid_jax.tracks.coordinates import AnyArray, namespace

# Of which pixel frame a latent frame takes a track's place: the last of those that it stands for,
# as released; or the mean of those in which it is seen. (The released code has an average too, of
# the four frames behind instead; nothing that was published uses it.)
STRATEGIES = ("sample", "average")
STRIDE_T = 4


def check_strategy(strategy: str) -> None:
    """Raises ValueError for one that is none of `STRATEGIES`."""
    if strategy not in STRATEGIES:
        raise ValueError(f"move: strategy {strategy!r}: there are {', '.join(STRATEGIES)}")


def latent_cells(
    tracks: Num[AnyArray, "N T 2"],
    visibility: Bool[AnyArray, "N T"],
    size_hw: tuple[int, int],
    grid_hw: tuple[int, int],
    strategy: str = "sample",
) -> Int[AnyArray, "N F 2"]:
    """The cell (row, column) of each track in each latent frame, (-1, -1) where it has none.

    A track has one where it is visible at 0 <= x < W, 0 <= y < H.

    Args:
      tracks: (x, y) px of `size_hw`, T = 4 (F - 1) + 1 frames; invisible places are not read.
      visibility: True = seen in that frame.
      size_hw: (H, W) px of the frames.
      grid_hw: (h, w) cells.
      strategy: one of `STRATEGIES`.

    Raises:
      ValueError: another strategy, a T that is no 4 (F - 1) + 1, or frames that do not divide into
        such cells.
    """
    check_strategy(strategy)
    (height, width), (rows, columns) = size_hw, grid_hw
    if height % rows or width % columns:
        raise ValueError(
            f"frames of {width}x{height} px do not divide into {columns}x{rows} cells: give frames "
            "and grid that fit"
        )
    frames = tracks.shape[1]
    if (frames - 1) % STRIDE_T:
        near = max(1, (frames - 1) // STRIDE_T * STRIDE_T + 1)
        raise ValueError(f"tracks have {frames} frames, not 4k + 1: cut them to {near}")
    xp = namespace(tracks, visibility)
    limit = np.array([width, height], np.float32)
    xy = xp.where(visibility[..., None], xp.asarray(tracks, np.float32), np.float32(-1))
    seen = ((xy >= 0) & (xy < limit)).all(-1)
    if strategy == "average":
        xy, seen = _group_means(xy, seen)
    else:
        xy, seen = xy[:, ::STRIDE_T], seen[:, ::STRIDE_T]
    pitch = np.array([height // rows, width // columns], np.float32)
    cells = xp.floor(xy[..., ::-1] / pitch)
    return xp.where(seen[..., None], cells, -1).astype(np.int32)


def cell_sources(
    cells: Int[AnyArray, "N F 2"], grid_hw: tuple[int, int], wrap_invalid_source: bool = False
) -> Int[AnyArray, "F h w"]:
    """Which cell of latent frame 0 each cell shows, row-major; -1 where it keeps its own latent.

    Where several tracks are in one cell, the first of them wins (the released code draws one of
    them anew in every run). Frame 0 stays as it is.

    Args:
      cells: of `latent_cells`.
      grid_hw: (h, w).
      wrap_invalid_source: as released, a track without a cell in frame 0 shows the last one, at
        the bottom right, for -1 counts from the end there; else such tracks do nothing.
    """
    xp = namespace(cells)
    count, frames, _ = cells.shape
    rows, columns = grid_hw
    flat = xp.where(cells[..., 0] < 0, -1, cells[..., 0] * columns + cells[..., 1])
    start = flat[:, 0]
    used = (flat >= 0) & (np.arange(frames) > 0)
    if wrap_invalid_source:
        start = xp.where(start < 0, rows * columns - 1, start)
    else:
        used &= start[:, None] >= 0
    size = frames * rows * columns
    place = xp.where(used, np.arange(frames) * rows * columns + flat, size)
    # One more entry stands for nobody's, as a place and as a track.
    first = _least(place, np.broadcast_to(np.arange(count)[:, None], place.shape), size + 1, count)
    sources = xp.append(start, -1)[first[:size]]
    return sources.reshape(frames, rows, columns).astype(np.int32)


def replaced(
    latent: Shaped[AnyArray, "F h w C"], sources: Int[AnyArray, "F h w"]
) -> Shaped[AnyArray, "F h w C"]:
    """A latent with the columns of its frame 0 where `sources` say so; a gather."""
    xp = namespace(latent, sources)
    columns = xp.asarray(latent[0]).reshape(-1, latent.shape[-1])
    shown = columns[xp.maximum(sources, 0)]
    return xp.where(sources[..., None] >= 0, shown, latent)


def moved(
    latent: Float[AnyArray, "F h w C"],
    tracks: Num[AnyArray, "N T 2"],
    visibility: Bool[AnyArray, "N T"],
    size_hw: tuple[int, int],
    *,
    strategy: str = "sample",
    wrap_invalid_source: bool = False,
) -> Float[AnyArray, "F h w C"]:
    """The latent of an image and grey frames, with the image's latents along N tracks.

    Args:
      latent: of F frames.
      tracks, visibility, size_hw, strategy: see `latent_cells`.
      wrap_invalid_source: see `cell_sources`.

    Raises:
      ValueError: tracks of another number of frames than the latent stands for; see
        `latent_cells`.
    """
    wanted = STRIDE_T * (latent.shape[0] - 1) + 1
    if tracks.shape[1] != wanted:
        raise ValueError(
            f"tracks have {tracks.shape[1]} frames, the {latent.shape[0]} latent frames stand for "
            f"{wanted}: give tracks of so many"
        )
    cells = latent_cells(tracks, visibility, size_hw, latent.shape[1:3], strategy)
    return replaced(latent, cell_sources(cells, latent.shape[1:3], wrap_invalid_source))


def _group_means(
    xy: Float[AnyArray, "N T 2"], seen: Bool[AnyArray, "N T"]
) -> tuple[Float[AnyArray, "N F 2"], Bool[AnyArray, "N F"]]:
    """Mean place over the frames of each latent frame in which a track is seen."""
    xp = namespace(xy, seen)
    # Three frames that nobody sees before the first make its group as long as the others.
    before = ((0, 0), (STRIDE_T - 1, 0))
    groups = (len(xy), -1, STRIDE_T)
    seen = xp.pad(seen, before).reshape(groups)
    xy = xp.pad(xy, (*before, (0, 0))).reshape(*groups, 2)
    count = seen.sum(-1)
    total = xp.where(seen[..., None], xy, np.float32(0)).sum(2)
    return total / xp.maximum(count, 1)[..., None].astype(np.float32), count > 0


def _least(
    place: Int[AnyArray, "N F"], values: Int[np.ndarray, "N F"], size: int, default: int
) -> Int[AnyArray, " size"]:
    """The least of the values at each of `size` places; the default where there is none."""
    xp = namespace(place)
    made = xp.full((size,), default, np.int32)
    if xp is np:
        np.minimum.at(made, place, values)
        return made
    return made.at[place].min(values)
