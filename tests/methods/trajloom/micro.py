"""The smallest TrajLoom: a config, clips, and models whose outputs can be computed by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs.trajloom import get_config
from tavid_jax.data.clip import Clip
from tavid_jax.engine.placement import result_of
from tavid_jax.methods.trajloom.examples import Geometry, example_of
from tavid_jax.methods.trajloom.features import CellFeatures
from tavid_jax.methods.trajloom.settings import Settings, read_settings
from tavid_jax.models.latte.context import Context
from tavid_jax.models.latte.flow import TrackFlow
from tavid_jax.models.latte.vae import Posterior, TrackVAE
from tavid_jax.models.latte.visibility import VisibilityHead

# Neither square nor equal to any other size: what is swapped shows.
GEOMETRY = Geometry(size_hw=(24, 32), stride=8, origin="center", frames=9)
CHANNELS, VIDEO_CHANNELS = 4, 5
FEATURES = CellFeatures(VIDEO_CHANNELS)
L, N = GEOMETRY.latent_frames, GEOMETRY.num_tokens


def config(preset: str = "tiny", g: Geometry = GEOMETRY) -> ConfigDict:
    """A preset with the smallest models that have every part."""
    c = get_config(preset)
    c.data.update(size_hw=g.size_hw, stride=g.stride, origin=g.origin, frames=g.frames)
    c.model.vae.update(
        latent_channels=CHANNELS, hidden=16, encoder_depth=2, decoder_depth=2, pos_embed_dim=8
    )
    c.model.flow.update(hidden=24, heads=2, depth=2, mlp_ratio=2.0, video_channels=VIDEO_CHANNELS)
    c.model.visibility.update(hidden=8, depth=2)
    c.learn.flow.rollout.steps = 2
    c.sampling.steps = 2
    return c


def settings(**options: Any) -> Settings:
    """Real modules; `options` are partial model and learn trees."""
    return read_settings(config(), options)


def linear_settings(**options: Any) -> Settings:
    """Settings whose modules are linear maps instead (see below)."""
    s = settings(**options)
    return dataclasses.replace(
        s,
        vae=LinearVAE(s.vae.config),
        flow=LinearFlow(s.flow.config),
        visibility=LinearHead(s.visibility.config),
    )


def clip(seed: int, g: Geometry = GEOMETRY, frames: int | None = None, **fields: Any) -> Clip:
    """Points that start on the grid and drift smoothly, some of them unseen now and then."""
    rng = np.random.default_rng((5, seed))
    count = 2 * g.frames if frames is None else frames
    rows, columns = g.grid_hw
    i, j = np.mgrid[:rows, :columns]
    start = g.stride * np.stack([j, i], axis=-1).reshape(-1, 1, 2) + g.query_row_col[0]
    time = np.arange(count)[None, :, None]
    drift = rng.normal(0, 0.15, (rows * columns, 1, 2)) * time
    wave = np.sin(0.4 * time + rng.uniform(0, 6, (rows * columns, 1, 2)))
    seen = rng.random((rows * columns, count)) > 0.3
    video = rng.integers(0, 256, (count, *g.size_hw, 3), dtype=np.uint8)
    return Clip(
        id=f"clip{seed}",
        size_hw=g.size_hw,
        fps=8.0,
        video=video,
        tracks=(start + drift + wave).astype(np.float32),
        visibility=seen,
        grid_hw=g.grid_hw,
    ).replace(**fields)


def batch(count: int = 3, features=FEATURES) -> dict[str, jax.Array]:
    """Stacked examples of the first clips."""
    examples = [example_of(clip(i), GEOMETRY, features) for i in range(count)]
    return {k: jnp.stack([e[k] for e in examples]) for k in examples[0] if k != "id"}


def encoded(count: int = 3, **more: Any) -> dict[str, jax.Array]:
    """A batch of latents as a cache holds them: not standardised."""
    rng = np.random.default_rng(8)
    arrays = {
        "history": 2 * rng.normal(size=(count, L, N, CHANNELS)) + 1,
        "future": 3 * rng.normal(size=(count, L, N, CHANNELS)) - 1,
        "history_visibility": rng.random((count, L, N)) > 0.5,
        "future_visibility": rng.random((count, L, N)) > 0.5,
        "video": rng.normal(size=(count, L, N, VIDEO_CHANNELS)),
        **more,
    }
    return {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}


def statistics() -> dict[str, Any]:
    """A table per segment, all different."""
    rng = np.random.default_rng(9)
    return {
        segment: {
            "mean": jnp.asarray(rng.normal(size=CHANNELS), jnp.float32),
            "std": jnp.asarray(rng.uniform(0.5, 2, CHANNELS), jnp.float32),
        }
        for segment in ("history", "future", "all")
    }


def keys(count: int = 3, seed: int = 1) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


class LinearVAE(TrackVAE):
    """Latent frame j is a matrix times frame 4j; decoding repeats and multiplies back."""

    def setup(self):
        c = self.config.latent_channels
        self.inward = self.param("inward", jax.random.normal, (2, c))
        self.outward = self.param("outward", jax.random.normal, (c, 2))
        self.spread = self.param("spread", lambda key: jnp.linspace(0.1, 0.4, c))

    def encode(self, tracks):
        b, stride = len(tracks), self.config.temporal_stride
        mean = tracks[:, ::stride].reshape(b, -1, self.config.num_tokens, 2) @ self.inward
        return Posterior(mean=mean, std=jnp.broadcast_to(self.spread, mean.shape))

    def decode(self, z, row_col=None):
        frames = jnp.repeat(z @ self.outward, self.config.temporal_stride, axis=1)
        cut = frames[:, : self.config.num_frames]
        return cut.reshape(*cut.shape[:2], *self.config.grid_hw, 2)

    def decode_tokens(self, z):
        return self.decode(z)

    def field_of(self, field):
        p = self.config.patch
        for axis in (2, 3):
            field = jnp.repeat(field, p, axis=axis)
        # Not constant over a cell, as a real decoder's field is not.
        return field + 0.01 * jnp.arange(field.shape[3])[:, None]


class LinearFlow(TrackFlow):
    """velocity = a z + b t + the mean of everything that it was given."""

    def setup(self):
        self.a = self.param("a", lambda key: jnp.float32(0.3))
        self.b = self.param("b", lambda key: jnp.float32(-0.7))

    def context(self, history, history_visibility=None, video=None, text=None, *, cache=True):
        condition = history.mean((1, 2, 3))[:, None]
        for scale, given in ((0.5, history_visibility), (0.25, video), (2.0, text)):
            if given is not None:
                axes = tuple(range(1, given.ndim))
                condition = condition + scale * given.mean(axes)[:, None]
        return Context(queries=history, condition=condition, temporal=history, spatial=None)

    def velocity(self, z, t, context):
        given = context.condition[:, :, None, None]
        return self.a * z + self.b * t[:, None, None, None] + given + 0.1 * context.queries

    def __call__(self, z, t, history, history_visibility=None, video=None, text=None):
        return self.velocity(z, t, self.context(history, history_visibility, video, text))


class LinearHead(VisibilityHead):
    """logit = weights . latent (+ the mean of the last history latent)."""

    def setup(self):
        self.weight = self.param("weight", jax.random.normal, (self.config.latent_channels,))

    def __call__(self, future, history_last=None):
        logits = future @ self.weight
        return logits if history_last is None else logits + history_last.mean(-1)[:, None]


def small_run(folder: Path, preset: str = "tiny") -> ConfigDict:
    """A config whose whole run takes seconds once its programs are compiled."""
    c = config(preset)
    c.data.update(scenes=dict(train=6, test=3), threads=1)
    for stage in c.stages.values():
        stage.batch_size = 4
        if stage.kind == "train":
            stage.update(steps=2, log_every=1, checkpoint_every=2)
            stage.optimizer.warmup = 1
    c.evaluate.update(resamples=50, batch_size=2, samples=2)
    c.report.update(scenes=1, height=72)
    c.data_dir = str(folder / "data")
    c.compile_cache = str(folder / "programs")
    c.cpu_devices = 1  # of the whole test process
    return c


def random_params(init: Callable[..., Any], seed: int = 0) -> dict[str, Any]:
    """Random weights of the right shapes, without compiling `init`.

    None is zero, as some are at first, which would hide what lies behind them.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key == "std":
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        fan_in = leaf.shape[-2] if len(leaf.shape) > 1 else 25
        return jnp.asarray(rng.normal(0, fan_in**-0.5, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init, jax.random.key(0)))


def untrained(system: Any, *stages: str) -> dict[str, dict[str, Any]]:
    """What stages would hand on if they had random weights, by stage."""
    methods = {name: system.method(name) for name in stages}
    return {
        name: jax.device_get(result_of(method, random_params(method.init, i)))
        for i, (name, method) in enumerate(methods.items())
    }
