"""Exact tracks, visibility and ownership of any query points, for many scenes at once."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from tavid_jax.data.synthetic import affine, shapes
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.scene import Layout


class ExactTracks(NamedTuple):
    """Tracks of N query points of frame 0 in B scenes.

    Attributes:
      tracks: float32 (B, N, T, 2) screen px, xy, pixel centres at integers.
      visibility: (B, N, T) True where the point lies in the frame ([0, W-1] x [0, H-1], the
        span of the pixel centres) and no sprite in front covers it.
      segment: (B, N) 0 for the background plane, s + 1 for the sprite of slot s.
    """

    tracks: Float[np.ndarray, "B N T 2"]
    visibility: Bool[np.ndarray, "B N T"]
    segment: Int[np.ndarray, "B N"]


def query_grid(config: SceneConfig) -> Float[np.ndarray, "N 2"]:
    """One query per cell, row-major: (stride j, stride i), plus stride // 2 for "center"."""
    rows, columns = config.grid_hw
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    start = config.stride // 2 if config.origin == "center" else 0
    return np.stack([x, y], axis=-1).reshape(-1, 2) * float(config.stride) + start


def owners(
    layout: Layout, query_xy: Float[np.ndarray, "N 2"], frame: int = 0
) -> Int[np.ndarray, "B N"]:
    """Which sprite is seen at points of a frame.

    Args:
      layout: B scenes.
      query_xy: screen px.
      frame: time of the points.

    Returns:
      (B, N): 0 background, s + 1 the sprite of slot s (the frontmost that covers the point).
    """
    world = affine.apply(affine.invert(layout.camera[:, None, frame]), query_xy[None])
    segment = np.zeros(world.shape[:2], np.int64)
    for s in range(layout.shape.shape[1]):
        b = np.flatnonzero(layout.shape[:, s] >= 0)
        local = affine.apply(affine.invert(layout.place[b, s, frame])[:, None], world[b])
        hit = _covers(layout.shape[b, s, None], local)
        segment[b] = np.where(hit, s + 1, segment[b])
    return segment


def _covers(shape, local: Float[np.ndarray, "*points 2"]) -> Bool[np.ndarray, "*points"]:
    """Shape test that looks up only the points near a shape (few are)."""
    x, y = local[..., 0], local[..., 1]
    near = np.flatnonzero((np.abs(x) < shapes.EXTENT) & (np.abs(y) < shapes.EXTENT))
    hit = np.zeros(x.shape, bool)
    which = np.broadcast_to(shape, x.shape).ravel()[near]
    hit.ravel()[near] = shapes.covers(which, x.ravel()[near], y.ravel()[near])
    return hit


def exact_tracks(
    layout: Layout, query_xy: Float[np.ndarray, "N 2"], size_hw: tuple[int, int]
) -> ExactTracks:
    """Follows points of frame 0 through B scenes.

    A point belongs to the frontmost sprite that covers it at frame 0 and moves rigidly with it,
    otherwise to the background plane, which moves with the camera alone.

    Args:
      layout: B scenes of S slots.
      query_xy: N points of frame 0 in screen px; they need not be integers.
      size_hw: frame size.

    Returns:
      ExactTracks, exact up to float32 rounding.
    """
    B, S, T = layout.place.shape[:3]
    segment = owners(layout, query_xy)
    start = affine.apply(affine.invert(layout.camera[:, None, 0]), query_xy[None])
    world = np.repeat(start[:, :, None], T, axis=2)
    for s in range(S):
        b, n = np.nonzero(segment == s + 1)
        local = affine.apply(affine.invert(layout.place[b, s, 0]), start[b, n])
        world[b, n] = affine.apply(layout.place[b, s], local[:, None])

    tracks = affine.apply(layout.camera[:, None], world).astype(np.float32)
    height, width = size_hw
    x, y = tracks[..., 0], tracks[..., 1]
    visibility = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    for s in range(S):
        b, n = np.nonzero((segment <= s) & (layout.shape[:, s, None] >= 0))
        local = affine.apply(affine.invert(layout.place[:, s])[b], world[b, n])
        visibility[b, n] &= ~_covers(layout.shape[b, s, None], local)
    return ExactTracks(tracks, visibility, segment)
