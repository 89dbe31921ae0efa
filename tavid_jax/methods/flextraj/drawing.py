"""Interim."""
from __future__ import annotations
import dataclasses
from typing import Any, NamedTuple
import numpy as np
from jaxtyping import UInt8
from tavid_jax.data.clip import Clip
from tavid_jax.data.segments import trajectories_of
from tavid_jax.methods.flextraj.curriculum import Mixture, TEMPORAL, SPATIAL, UNALIGNED
from tavid_jax.pipelines.follow import Follow
from tavid_jax.tracks import codes, stamps


class Made(NamedTuple):
    caption: str
    id: Any
    colour: Any
    task: str = ""


@dataclasses.dataclass(frozen=True)
class Drawing:
    base: Follow

    def __call__(self, clip: Clip, mixture: Mixture, rng):
        drawn = mixture.draw(rng, self.base, False)
        f = drawn.follow
        tr = trajectories_of(clip if clip.partner is None or drawn.task != UNALIGNED else clip.partner) if hasattr(clip, 'partner') else trajectories_of(clip)
        vis = tr.visibility.copy()
        n, T = vis.shape
        if drawn.task == SPATIAL:
            k = max(1, int(n * f.keep_points))
            # points on objects
            keep = np.zeros(n, bool); keep[rng.permutation(n)[:k]] = True
            vis &= keep[:, None]
        if drawn.task == TEMPORAL:
            k = max(2, int(T * f.keep_frames))
            frames = np.linspace(0, T - 1, k).astype(int)
            m = np.zeros(T, bool); m[frames] = True
            vis &= m
        colours = codes.id_colours(tr.segment, tr.segments, f.codes)
        idv = stamps.draw(tr.tracks, vis, colours, clip.size_hw, f.stamp or (1.0, 1.0), None, "array")
        col = np.zeros_like(idv) if f.colour == "none" else clip.video * (idv[..., :1] > 0)
        if drawn.dropped:
            idv, col = np.zeros_like(idv), np.zeros_like(col)
        return Made(clip.caption, idv, col.astype(np.uint8), drawn.task)
