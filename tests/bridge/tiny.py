"""Small models for the bridge: a TrajLoom of random weights, and a clip of something that moves."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image

from tavid_jax.methods.trajloom.forecaster import Forecaster, Sampling
from tavid_jax.methods.trajloom.predictor import TrajLoomPredictor
from tests.methods.trajloom import micro

SIZE_HW = (48, 64)  # of the clip: twice that of the forecast


def trajloom() -> TrajLoomPredictor:
    """A whole one, 9 + 9 frames of 24x32 with a track in each 8x8; named to the command as
    "tests.bridge.tiny:trajloom"."""
    s = micro.settings()
    latents = jnp.zeros((1, micro.L, micro.N, micro.CHANNELS))
    tracks, time = micro.batch(1)["history_tracks"], jnp.zeros(1)
    video, seen = jnp.zeros((1, micro.L, micro.N, micro.VIDEO_CHANNELS)), latents[..., 0]

    def init(key):
        return {
            "vae": s.vae.init(key, tracks)["params"],
            "flow": s.flow.init(key, latents, time, latents, seen, video)["params"],
        }

    params = micro.random_params(init) | {"statistics": micro.statistics()}
    return TrajLoomPredictor(Forecaster(s, params, Sampling(steps=2)))


def frames(count: int = 12) -> np.ndarray:
    """A soft picture that slides one px to the right in each frame; seen by optical flow."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    wide = Image.fromarray(coarse).resize((96, 48), Image.Resampling.BICUBIC)
    return np.stack([np.asarray(wide)[:, 16 - t : 80 - t] for t in range(count)])


def clip(folder: Path, count: int = 12) -> Path:
    """The same as a file, without loss."""
    path = folder / "clip"
    path.mkdir()
    for t, frame in enumerate(frames(count)):
        Image.fromarray(frame).save(path / f"{t:03d}.png")
    (path / "fps.txt").write_text("8")
    return path
