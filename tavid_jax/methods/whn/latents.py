"""The compute stage between VAE and flow: the scale of latents, and a cache of encoded examples."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Arrays, ComputeMethod, Method, Params, Spec
from tavid_jax.methods.whn.examples import example_of, example_spec
from tavid_jax.methods.whn.frames import FrameFeatures
from tavid_jax.methods.whn.space import Space
from tavid_jax.models.layers.flops import Work
from tavid_jax.models.whn import flops as counting


class OnStates(Method):
    """What learns or measures on states shares: the frozen encoders in front of it.

    Args:
      space: between tracks and states.
      features: of the picture.
      limit: see `examples.example_of`.
      cached: the stage reads encoded examples, so that no encoder is needed.
    """

    def __init__(self, space: Space, features: FrameFeatures, limit: float, cached: bool):
        self.space, self.features, self.limit, self.cached = space, features, limit, cached

    def prepare(self, clip: Clip, rng: Any) -> dict[str, Any]:
        del rng
        return example_of(clip, self.space.window, self.features, self.limit)

    def raw_spec(self) -> dict[str, Spec]:
        return example_spec(self.space.window, self.features)

    def encoded_spec(self) -> dict[str, Spec]:
        weight = Spec((), np.float32, ())
        return self.space.spec() | {"frame": self.features.encoded_spec(), "weight": weight}

    def encode(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        del rng
        frame = self.features.encode(params, batch["frame"])
        encoded = self.space.encode(params, batch["tracks"], frame)
        return encoded | {"frame": frame, "weight": batch["weight"]}

    def encoding_flops(self, batch_size: int) -> int:
        """Of `encode`: the picture, the tracks, and their start standing still."""
        work, vae = Work(), self.space.vae
        if vae is not None:
            frames = self.space.window.frames
            counting.vae_encode(work, vae.config, 2 * batch_size, frames, trained=False)
        return work.flops + self.features.encoding_flops(batch_size)

    def pretrained(self) -> Any:
        return {} if self.cached else self.features.pretrained()

    def sources(self) -> Any:
        return {} if self.cached else self.features.sources()

    def init_encoders(self, rng: jax.Array) -> Params:
        """The scale, and what encodes unless states are cached."""
        params: Params = {}
        if self.space.vae is not None:
            params["statistics"] = {"scale": jnp.ones(self.space.channels)}
        if not self.cached:
            params |= self.space.init(rng, self.features.encoded_spec()) | self.features.init(rng)
        return params


class LatentsMethod(OnStates, ComputeMethod):
    """Encodes every clip once. Result: {"statistics": {"scale": (C,)}}."""

    trainable_paths = ("statistics/.*",)

    def __init__(self, space: Space, features: FrameFeatures, limit: float):
        if space.vae is None:
            raise ValueError("a flow on tracks themselves has no latents: leave their stage out")
        super().__init__(space, features, limit, cached=False)

    def init(self, rng: jax.Array) -> Params:
        return self.init_encoders(rng)

    def examine(self, params: Params, batch: Arrays, rng: jax.Array) -> tuple[Arrays, Params]:
        encoded = self.encode(params, batch, rng)
        return encoded, moments(encoded["mean"], encoded["std"], encoded["weight"])

    def conclude(self, sums: Params) -> Params:
        """Standard deviation per channel; published latents are divided by it, nothing is
        subtracted from them."""
        return {"statistics": {"scale": deviation(sums)}}


def moments(
    mean: Float[Array, "B *s C"], std: Float[Array, "B *s C"], weight: Float[Array, " B"]
) -> Params:
    """Per clip what `deviation` needs of samples of posteriors."""
    axes = tuple(range(1, mean.ndim - 1))
    return {
        "count": weight * (mean[0].size // mean.shape[-1]),
        "sum": weight[:, None] * mean.sum(axes),
        "squares": weight[:, None] * (mean**2 + std**2).sum(axes),
    }


def deviation(sums: Params) -> Float[np.ndarray, " C"]:
    """Population standard deviation per channel, in float64.

    Raises:
      ValueError: no clip counted.
    """
    if not np.all(sums["count"] > 0):
        raise ValueError("no clip stays within the limit of tracks (learn.limit): raise it")
    mean = sums["sum"] / sums["count"]
    variance = np.maximum(sums["squares"] / sums["count"] - mean**2, 1e-16)
    return np.sqrt(variance).astype(np.float32)


def scale_of(params: Params, channels: int) -> Float[Array, " C"]:
    """What states are divided by: the latents' scale, one for tracks."""
    return params["statistics"]["scale"] if "statistics" in params else jnp.ones(channels)
