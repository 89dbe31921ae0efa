"""Captions that say how the camera moves, as TrajLoom trains on (appendix E.2)."""

from __future__ import annotations

import numpy as np

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.tracks.camera_motion import captioned, describe, estimate


def camera_caption(
    clip: Clip, rng: np.random.Generator | None = None, probability: float | int = 1.0
) -> Clip:
    """The clip with what its camera does said at the end of its caption, read from its tracks.

    May be called before or after `augment.Augmentation`, which turns the directions round (after,
    a crop's own speeds are told). Its partner is treated alike. A caption that speaks of the camera
    already is left alone.

    Args:
      clip: with tracks; where nothing can be told of its camera its caption stays as it is.
      rng: drawn from once, whatever is decided; not needed for a probability of 0 or 1.
      probability: with which the sentence is added. 1 is a fixed list of captions, as the paper's;
        with 0.5 a model hears captions without one too.

    Raises:
      ClipError: the clip has no tracks.
      ValueError: no probability, or one that needs a generator and has none.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    if rng is None and 0 < probability < 1:
        raise ValueError(f"camera captions with probability {probability:g} need a generator")
    drawn = 0.0 if rng is None else rng.random()
    return _said(clip) if drawn < probability else clip


def _said(clip: Clip) -> Clip:
    if clip.tracks is None:
        raise ClipError(
            f"clip {clip.id!r}: has no tracks, which captions of its camera are read of"
        )
    seen = np.ones(clip.tracks.shape[:2], bool) if clip.visibility is None else clip.visibility
    if clip.valid is not None:
        seen = seen & clip.valid
    phrase = describe(estimate(clip.tracks, seen, clip.size_hw, clip.fps))
    partner = None if clip.partner is None else _said(clip.partner)
    return clip.replace(caption=captioned(clip.caption, phrase), partner=partner)
