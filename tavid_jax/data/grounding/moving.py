"""Objects by their motion: a stand-in where no model is at hand that segments a frame.

A grid of points is followed by optical flow and the camera's motion taken off. Points that go
further than a bound, and hang together on the grid, are an object. Its mask is made of cells of the
grid, so it is coarse at the edge; things that move together are one, and what stands still is none.
"""

from __future__ import annotations

import cv2
import numpy as np

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.grounding.flow import FlowTracker
from tavid_jax.data.grounding.motion import camera, steadied, way
from tavid_jax.data.grounding.providers import Objects
from tavid_jax.data.tracked import even_points

_CELLS = 48  # of the shorter side
_WAY = 0.02  # of the diagonal
_LEAST = 0.003  # share of the frame


def moving_objects(clip: Clip) -> Objects:
    """The embedded segmenter `moving`; largest first.

    Raises:
      ClipError: nothing moves.
    """
    height, width = clip.size_hw
    cell = max(2.0, min(height, width) / _CELLS)
    rows, columns = max(2, round(height / cell)), max(2, round(width / cell))
    tracks, seen = FlowTracker()(clip.video, even_points(clip.size_hw, (rows, columns)))
    moved = camera(tracks, seen)
    tracks = tracks if moved is None else steadied(tracks, moved)
    far = way(tracks, seen) > _WAY * np.hypot(height, width)
    cells = cv2.morphologyEx(
        far.reshape(rows, columns).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)
    )
    count, labels, facts, _ = cv2.connectedComponentsWithStats(cells, connectivity=4)
    areas = facts[1:count, cv2.CC_STAT_AREA] / cells.size
    order = [k for k in np.argsort(-areas, kind="stable") if areas[k] >= _LEAST]
    if not order:
        raise ClipError("nothing moves in it against the background")
    nearest = cv2.INTER_NEAREST_EXACT
    large = cv2.resize(labels.astype(np.uint8), (width, height), interpolation=nearest)
    return Objects(np.stack([large == k + 1 for k in order]))
