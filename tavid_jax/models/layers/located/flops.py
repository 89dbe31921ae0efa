"""Model FLOPs of a location-aware cross-attention in training, see layers/flops.py."""

from __future__ import annotations

import dataclasses

from tavid_jax.models.layers.flops import Work
from tavid_jax.models.layers.located.pairs import TILE
from tavid_jax.models.layers.located.types import Laca


@dataclasses.dataclass(frozen=True)
class LacaShape:
    """Sizes of one call.

    Attributes:
      batch: videos.
      tokens: of a video.
      prompt: tokens of the prompt.
      points, positions: trajectories, and tokens of each one's text.
      pairs: of tokens and trajectories that there is room for; all of them are computed.
      width: D.
    """

    batch: int
    tokens: int
    prompt: int
    points: int
    positions: int
    pairs: int
    width: int


def attend(work: Work, laca: Laca, shape: LacaShape, *, x: bool) -> None:
    """What stands beside one block's published cross-attention, and its gradient.

    `x`: whether the video's tokens are live; what this adds to them always is.
    """
    s, d = shape, shape.width
    skips = laca.outside == "skip"
    rows = s.batch * (s.pairs if skips else s.tokens)
    local = s.batch * s.points * s.positions
    texts = local + (0 if skips else s.batch * s.prompt)
    for _ in "kv":
        _project(work, laca, texts, d, x=False)
    _project(work, laca, rows, d, x=x)
    live = dict(q=True, k=True, v=True, batch=s.batch)
    if laca.formulation == "segments":
        work.attend(s.tokens, s.prompt + s.points * s.positions, d, **live)
    else:
        if not skips:
            work.attend(s.tokens, s.prompt, d, **live)
        asked = TILE * (s.pairs // TILE + s.points)
        work.attend(asked, s.positions, d, **live)
        if laca.gaussian == "input":  # what the keys' bias says, for every row once
            work.product(s.batch * asked, d, 1, x=True, w=True)
    _project(work, laca, rows, d, x=True)


def _project(work: Work, laca: Laca, rows: int, d: int, *, x: bool) -> None:
    if laca.rank is None:
        work.product(rows, d, d, x=x, w=True)
        return
    work.product(rows, d, d, x=x, w=False)
    work.product(rows, d, laca.rank, x=x, w=True)
    work.product(rows, laca.rank, d, x=True, w=True)
