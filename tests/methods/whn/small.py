"""The smallest WHN: a config, clips, and networks whose outputs can be computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs.whn import get_config
from tavid_jax.data.clip import Clip
from tavid_jax.methods.whn.examples import Window, example_of
from tavid_jax.methods.whn.settings import Settings, read_settings
from tavid_jax.models.latte.vae import Posterior
from tavid_jax.models.whn.denoiser import WhnDenoiser
from tavid_jax.models.whn.vae import WhnVAE

# Neither square nor equal to any other size: what is swapped shows.
WINDOW = Window(size_hw=(32, 48), stride=8, origin="center", frames=5)
CHANNELS, FEATURES = 3, 6


def config(preset: str = "tiny") -> ConfigDict:
    """A preset with the smallest networks that have every part."""
    c = get_config(preset)
    w = WINDOW
    c.data.update(size_hw=w.size_hw, stride=w.stride, origin=w.origin, frames=w.frames)
    c.data.splits = dict(train=dict(num_frames=5), test=dict(num_frames=8))
    c.evaluate.history = 4
    c.model.frame.update(patch=16, channels=FEATURES)
    c.model.vae.update(
        latent_channels=CHANNELS, hidden=8, heads=2, encoder_depth=2, decoder_depth=2, fourier_dim=4
    )
    c.model.flow.update(hidden=12, heads=3, depth=2, mlp_ratio=2.0, fourier_dim=4)
    return c


def settings(preset: str = "tiny", **options: Any) -> Settings:
    """Real networks; `options` are partial model and learn trees."""
    return read_settings(config(preset), options)


def clip(seed: int, frames: int = WINDOW.frames, **fields: Any) -> Clip:
    """Points that start on the grid and drift."""
    rng = np.random.default_rng((7, seed))
    rows, columns = WINDOW.grid_hw
    start = WINDOW.start.reshape(-1, 1, 2)
    drift = rng.normal(0, 0.4, (rows * columns, 1, 2)) * np.arange(frames)[None, :, None]
    return Clip(
        id=f"clip{seed}",
        size_hw=WINDOW.size_hw,
        fps=8.0,
        video=rng.integers(0, 256, (frames, *WINDOW.size_hw, 3), dtype=np.uint8),
        tracks=(start + drift).astype(np.float32),
        visibility=rng.random((rows * columns, frames)) > 0.2,
        grid_hw=WINDOW.grid_hw,
    ).replace(**fields)


def batch(count: int = 3, limit: float = 0.0, preset: str = "tiny") -> dict[str, jax.Array]:
    """Stacked examples of the first clips."""
    features = settings(preset).features
    examples = [example_of(clip(i), WINDOW, features, limit) for i in range(count)]
    return {k: jnp.stack([e[k] for e in examples]) for k in examples[0] if k != "id"}


def keys(count: int = 3, seed: int = 1) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


class LinearVAE(WhnVAE):
    """mean = the patch's mean position times a matrix, plus the picture's mean; std constant."""

    def setup(self):
        self.matrix = self.param("matrix", jax.random.normal, (2, self.config.latent_channels))

    def encode(self, tracks, frame):
        p, (rows, columns) = self.config.patch, self.config.tokens_hw
        cut = tracks.reshape(*tracks.shape[:2], rows, p, columns, p, 2).mean((3, 5))
        told = frame.mean((1, 2))[:, None, None, None]
        mean = cut.reshape(*tracks.shape[:2], -1, 2) @ self.matrix + told
        return Posterior(mean=mean, std=jnp.full_like(mean, 0.5))

    def decode(self, z, frame):
        p, (rows, columns) = self.config.patch, self.config.tokens_hw
        flat = (z - frame.mean((1, 2))[:, None, None, None]) @ jnp.linalg.pinv(self.matrix)
        cells = flat.reshape(*z.shape[:2], rows, columns, 2)
        return cells.repeat(p, 2).repeat(p, 3)

    def __call__(self, tracks, frame):
        return self.decode(self.encode(tracks, frame).mean, frame)


class LinearFlow(WhnDenoiser):
    """velocity = a x + b t + the picture's mean."""

    def setup(self):
        self.a = self.param("a", lambda key: jnp.float32(0.3))
        self.b = self.param("b", lambda key: jnp.float32(-0.7))

    def context(self, frame, text=None, *, cache=True):
        return frame.mean((1, 2))

    def velocity(self, x, t, context):
        over = (slice(None), *(None,) * 4)
        return self.a * x + self.b * t[over] + context[over]

    def __call__(self, x, t, frame, text=None):
        return self.velocity(x, t, self.context(frame))


def small_run(folder: Path) -> ConfigDict:
    """A config whose whole run takes seconds once its programs are compiled."""
    c = config()
    c.data.update(scenes=dict(train=6, test=3), threads=1)
    for stage in c.stages.values():
        stage.batch_size = 4
        if stage.kind == "train":
            stage.update(steps=2, log_every=1, checkpoint_every=2)
            stage.optimizer.warmup = 1
    c.evaluate.update(resamples=50, samples=2)
    c.report.update(scenes=1, height=72)
    c.data_dir = str(folder / "data")
    c.compile_cache = str(folder / "programs")
    c.cpu_devices = 1
    return c
