"""The compute stage between VAE and flow: latent statistics, and a cache of encoded examples."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Bool, Float

from tavid_jax.data.clip import Clip
from tavid_jax.data.latent_statistics import differing
from tavid_jax.engine.method import Arrays, ComputeMethod, Method, Params, Spec
from tavid_jax.methods.trajloom.examples import Features, Geometry, example_of, example_spec
from tavid_jax.models.latte import flops as counting
from tavid_jax.models.latte.vae import TrackVAE
from tavid_jax.models.layers.flops import Work
from tavid_jax.tracks.coordinates import normalise
from tavid_jax.tracks.visibility import pool_cells

#: The released generator standardises history and future by one table, that of both together.
SEGMENTS = ("history", "future", "all")
#: How far given statistics may be from measured ones before it is said, and before it is refused.
CLOSE, OTHER = 0.05, 0.25


class OnLatents(Method):
    """What learns or measures on latents shares: the encoder in front of it.

    Args:
      vae: the track VAE, frozen here.
      geometry: sizes of clips.
      features: what an example holds besides tracks, None for nothing.
      cached: the stage reads encoded examples, so that the encoder is not needed.
    """

    def __init__(self, vae: TrackVAE, geometry: Geometry, features: Features | None, cached: bool):
        self.vae, self.geometry = vae, geometry
        self.features, self.cached = features, cached

    def prepare(self, clip: Clip, rng: Any) -> dict[str, Any]:
        del rng
        return example_of(clip, self.geometry, self.features)

    def raw_spec(self) -> dict[str, Spec]:
        return example_spec(self.geometry, self.features)

    def encoded_spec(self) -> dict[str, Spec]:
        return encoded_spec(self.geometry, self.vae.config.latent_channels, self.features)

    def encode(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        del rng
        return encode_batch(self.vae, self.geometry, params["vae"], batch)

    def recall(self, example: dict[str, Any], rng: Any) -> dict[str, Any]:
        """Of a cached example what this stage reads; a cache made elsewhere may hold more, or less.

        Raises ValueError naming the array that is missing or has another shape.
        """
        del rng
        return recalled(example, self.encoded_spec())

    def encoding_flops(self, batch_size: int) -> int:
        """Of `encode`: both windows of every clip."""
        work = Work()
        counting.vae_encode(work, self.vae.config, 2 * batch_size, trained=False)
        return work.flops

    def amounts(self) -> dict[str, int]:
        """Latent tokens of both windows, and frames of tracks."""
        g = self.geometry
        return {"tokens": 2 * g.latent_frames * g.num_tokens, "frames": 2 * g.frames}

    def init_encoder(self, rng: jax.Array) -> Params:
        """Statistics, and the VAE unless latents are cached; earlier stages provide the values."""
        params: Params = {"statistics": blank_statistics(self.vae.config.latent_channels)}
        if not self.cached:
            g = self.geometry
            tracks = jnp.zeros((1, g.frames, *g.grid_hw, 2))
            params["vae"] = self.vae.init(rng, tracks)["params"]
        return params


class LatentsMethod(OnLatents, ComputeMethod):
    """Encodes every clip once. Result: {"statistics": {segment: {"mean": (C,), "std": (C,)}}}."""

    trainable_paths = ("statistics/.*",)

    def __init__(self, vae: TrackVAE, geometry: Geometry, features: Features | None):
        super().__init__(vae, geometry, features, cached=False)

    def init(self, rng: jax.Array) -> Params:
        return self.init_encoder(rng)

    def examine(self, params: Params, batch: Arrays, rng: jax.Array) -> tuple[Arrays, Params]:
        encoded = self.encode(params, batch, rng)
        sums = {
            segment: {
                "count": jnp.full(z.shape[0], z.shape[1] * z.shape[2], jnp.float32),
                "sum": z.sum(axis=(1, 2)),
                "squares": (z**2).sum(axis=(1, 2)),
            }
            for segment, z in (("history", encoded["history"]), ("future", encoded["future"]))
        }
        return encoded, sums

    def conclude(self, sums: Params) -> Params:
        """Population mean and standard deviation per channel, in float64."""
        whole = jax.tree.map(np.add, sums["history"], sums["future"])
        statistics = {}
        for segment, s in {**sums, "all": whole}.items():
            mean = s["sum"] / s["count"]
            variance = np.maximum(s["squares"] / s["count"] - mean**2, 0.0)
            statistics[segment] = {
                "mean": mean.astype(np.float32),
                "std": np.sqrt(variance).astype(np.float32),
            }
        return {"statistics": statistics}


class GivenLatents(LatentsMethod):
    """Statistics of latents that were cached before the run; see `pipelines.latent_cache`.

    Args:
      vae, geometry, features: as of `LatentsMethod`.
      given: name of the source of the examples.
      table: tables to hand on instead of those of the examples; None = those.
    """

    def __init__(
        self,
        vae: TrackVAE,
        geometry: Geometry,
        features: Features | None,
        given: str,
        table: Params | None = None,
    ):
        super().__init__(vae, geometry, features)
        self.given, self.table = given, table

    def prepare(self, clip: Any, rng: Any) -> dict[str, Any]:
        return self.recall(clip, rng)

    def raw_spec(self) -> dict[str, Spec]:
        return self.encoded_spec()

    def encode(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        del params, rng
        return batch

    def conclude(self, sums: Params) -> Params:
        measured = super().conclude(sums)
        if self.table is None:
            return measured
        # A part of a training set has not quite its statistics; another set or scale is far off.
        if told := differing(self.table, measured["statistics"], tolerance=OTHER):
            raise ValueError(
                f"the given statistics are not those of the given latents: {told}; leave "
                "config.latent_statistics empty to take those of the latents, or give theirs"
            )
        if told := differing(self.table, measured["statistics"], tolerance=CLOSE):
            logging.warning("the given statistics are not quite those of the latents: %s", told)
        return {"statistics": {name: dict(self.table[name]) for name in SEGMENTS}}


def recalled(example: dict[str, Any], spec: dict[str, Spec]) -> dict[str, Any]:
    """The id and the arrays of `spec` of a cached example.

    Raises ValueError naming the array that is missing or has another shape.
    """
    name = example["id"]
    for key, wanted in spec.items():
        if key not in example:
            raise ValueError(
                f"cached clip {name!r} has no {key!r}, which the model's conditions need; cache "
                "it, or turn that condition off (model.flow)"
            )
        if tuple(np.shape(example[key])) != tuple(wanted.shape):
            raise ValueError(
                f"cached clip {name!r}: {key!r} has shape {list(np.shape(example[key]))}, the "
                f"config wants {list(wanted.shape)}; set data and model to those of the cache"
            )
    return {"id": name, **{key: example[key] for key in spec}}


def encode_batch(model: TrackVAE, geometry: Geometry, vae: Params, batch: Arrays) -> Arrays:
    """Posterior means of both halves, pooled visibility, features as they are.

    Returns "history" and "future" float32 (B, L, N, C), unscaled as in the released cache,
    "history_visibility" and "future_visibility" float32 (B, L, N), "video" and "text" if given.
    """
    size = batch["history_tracks"].shape[0]
    tracks = jnp.concatenate([batch["history_tracks"], batch["future_tracks"]])
    posterior = model.apply({"params": vae}, normalise(tracks, geometry.size_hw), method="encode")
    encoded = {
        "history": posterior.mean[:size],
        "future": posterior.mean[size:],
        "history_visibility": latent_visibility(batch["history_visibility"], geometry),
        "future_visibility": latent_visibility(batch["future_visibility"], geometry),
    }
    return encoded | {name: batch[name] for name in ("video", "text") if name in batch}


def latent_visibility(
    visibility: Bool[Array, "B T gh gw"], geometry: Geometry
) -> Float[Array, "B L N"]:
    """1 where a cell's track is seen in any frame of a latent block (TrajLoom, sec. 3.3)."""
    return pool_cells(visibility, geometry.temporal_stride).astype(jnp.float32)


def encoded_spec(
    geometry: Geometry, channels: int, features: Features | None = None
) -> dict[str, Spec]:
    """Shapes of `encode_batch`'s result, without the batch axis."""
    tokens = (geometry.latent_frames, geometry.num_tokens)
    axes = ("time", "tokens")
    spec = {
        "history": Spec((*tokens, channels), np.float32, (*axes, "embed")),
        "future": Spec((*tokens, channels), np.float32, (*axes, "embed")),
        "history_visibility": Spec(tokens, np.float32, axes),
        "future_visibility": Spec(tokens, np.float32, axes),
    }
    return spec | ({} if features is None else features.spec(geometry))


def blank_statistics(channels: int) -> Params:
    """Statistics that standardise nothing, as placeholders of the right shape."""
    return {
        segment: {"mean": jnp.zeros(channels), "std": jnp.ones(channels)} for segment in SEGMENTS
    }


def standardise(z: Float[Array, "*b C"], table: Params) -> Float[Array, "*b C"]:
    """(z - mean) / max(std, 1e-8) per channel, in float32."""
    return (z.astype(jnp.float32) - table["mean"]) / jnp.maximum(table["std"], 1e-8)


def unstandardise(z: Float[Array, "*b C"], table: Params) -> Float[Array, "*b C"]:
    """The inverse of `standardise`."""
    return z.astype(jnp.float32) * jnp.maximum(table["std"], 1e-8) + table["mean"]
