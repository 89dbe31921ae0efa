"""Forecasts of whole sources by a `Predictor`, as the arrays that TrajLoom's judging reads."""

from __future__ import annotations

import numpy as np

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.methods.trajloom import judging
from tavid_jax.methods.trajloom.examples import Geometry
from tavid_jax.methods.whn.examples import Window
from tavid_jax.tracks.forecasting import Past, Predictor


def load_scenes(clips: list[Clip], window: Window, known: int) -> judging.Scenes:
    """Clips split behind their first `known` frames, F - 1 frames of future each.

    Raises:
      ClipError: no clip, or one that is too short or lacks video or tracks.
    """
    if not clips:
        raise ClipError("no clips: at least one is needed")
    ahead = window.frames - 1
    for clip in clips:
        if clip.tracks is None or clip.visibility is None or clip.video is None:
            raise ClipError(f"clip {clip.id!r}: tracks, visibility and video are needed")
        if clip.num_frames < known + ahead:
            raise ClipError(
                f"clip {clip.id!r} has {clip.num_frames} frames, {known + ahead} are needed"
            )
    seen = [c.visibility if c.valid is None else c.visibility & c.valid for c in clips]
    tracks, visible = np.stack([c.tracks for c in clips]), np.stack(seen)
    until = known + ahead
    return judging.Scenes(
        ids=[clip.id for clip in clips],
        geometry=Geometry(window.size_hw, window.stride, window.origin, ahead, temporal_stride=1),
        history=tracks[:, :, :known],
        history_visible=visible[:, :, :known],
        future=tracks[:, :, known:until],
        future_visible=visible[:, :, known:until],
        labels=np.stack([judging.labels_of(clip) for clip in clips]),
        arrays={},
    )


def run_predictor(
    predictor: Predictor,
    scenes: judging.Scenes,
    clips: list[Clip],
    samples: int,
    seed: int,
    first: int = 0,
) -> judging.Futures:
    """K futures of every scene; scene i draws its noise from (seed, first + i)."""
    known, ahead = scenes.history.shape[2], scenes.geometry.frames
    tracks, visible = [], []
    for i, clip in enumerate(clips):
        past = Past(
            tracks=scenes.history[i],
            visibility=scenes.history_visible[i],
            size_hw=tuple(clip.size_hw),
            grid_hw=scenes.geometry.grid_hw,
            video=clip.video[:known],
            caption=clip.caption,
        )
        # One number per scene: predictors take an int.
        own = int(np.random.SeedSequence([seed, first + i]).generate_state(1)[0] >> 1)
        future = predictor.predict(past, ahead, samples, own)
        tracks.append(future.tracks)
        visible.append(future.visible)
    return judging.Futures(np.stack(tracks, axis=1), np.stack(visible, axis=1))


def baselines(scenes: judging.Scenes) -> dict[str, np.ndarray]:
    """The trivial forecasts that the number of known frames allows."""
    least = {"stand_still": 1, "constant_velocity": 2, "constant_acceleration": 3}
    known = scenes.history.shape[2]
    names = [name for name in judging.BASELINES if known >= least[name]]
    return {name: judging.baseline(name, scenes) for name in names}
