"""Learning latents of tracks on a grid: Huber reconstruction and a KL term."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tavid_jax.data.clip import Clip
from tavid_jax.diffusion import losses
from tavid_jax.diffusion.paths import per_clip_normal
from tavid_jax.engine.method import Arrays, Method, Params, Ratio, Spec
from tavid_jax.methods.trajloom.vae import paths_under
from tavid_jax.methods.whn.examples import Window, example_of, example_spec, to_model
from tavid_jax.methods.whn.frames import FrameFeatures
from tavid_jax.models.layers.flops import Work
from tavid_jax.models.whn import flops as counting
from tavid_jax.models.whn.vae import WhnVAE


@dataclasses.dataclass(frozen=True)
class VAELosses:
    """Numbers of the VAE's objective.

    Attributes:
      beta: weight of the KL divergence (per latent element). The published default is 1, the
        value behind the released weights is not public.
      limit: clips with a point further out than so many sides of the frame teach nothing
        (published: 1.5); 0 = no limit.
      sample: decode a posterior sample (True) or its mean, which drops the KL term.
    """

    beta: float = 1.0
    limit: float = 1.5
    sample: bool = True


class VAEMethod(Method):
    """Trains the track VAE, which sees the clip's first picture."""

    trainable_paths = ("vae/.*",)

    def __init__(self, model: WhnVAE, window: Window, features: FrameFeatures, learn: VAELosses):
        self.model, self.window, self.features, self.learn = model, window, features, learn
        self.frozen_paths = paths_under("vae", model.frozen_paths)

    def prepare(self, clip: Clip, rng: Any) -> dict[str, Any]:
        del rng
        return example_of(clip, self.window, self.features, self.learn.limit)

    def raw_spec(self) -> dict[str, Spec]:
        return example_spec(self.window, self.features)

    def encoded_spec(self) -> dict[str, Spec]:
        return self.raw_spec() | {"frame": self.features.encoded_spec()}

    def encode(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        del rng
        return batch | {"frame": self.features.encode(params, batch["frame"])}

    def pretrained(self) -> Any:
        return self.features.pretrained()

    def sources(self) -> Any:
        return self.features.sources()

    def init(self, rng: jax.Array) -> Params:
        w = self.window
        tracks = jnp.zeros((1, w.frames, *w.grid_hw, 2))
        frame = jnp.zeros((1, *self.features.encoded_spec().shape))
        return {"vae": self.model.init(rng, tracks, frame)["params"], **self.features.init(rng)}

    def flops(self, batch_size: int, *, encode: bool = False) -> int:
        """Every clip, there and back."""
        work, frames = Work(), self.window.frames
        counting.vae_encode(work, self.model.config, batch_size, frames, trained=True)
        counting.vae_decode(work, self.model.config, batch_size, frames, trained=True)
        return work.flops + (self.features.encoding_flops(batch_size) if encode else 0)

    def amounts(self) -> dict[str, int]:
        """Tokens of all frames, and frames of tracks."""
        frames = self.window.frames
        return {"tokens": frames * self.model.config.num_tokens, "frames": frames}

    def loss(
        self, params: Params, batch: Arrays, rng: jax.Array, step: jax.Array
    ) -> tuple[Ratio, dict[str, Ratio]]:
        """Mean over clips of Huber (normalised positions) + beta KL."""
        del step
        weight, apply = batch["weight"], {"params": params["vae"]}
        target = to_model(batch["tracks"], self.window.size_hw)
        posterior = self.model.apply(apply, target, batch["frame"], method="encode")
        latents = posterior.mean
        if self.learn.sample:
            latents = latents + posterior.std * per_clip_normal(rng, latents.shape[1:])
        predicted = self.model.apply(apply, latents, batch["frame"], method="decode")
        terms = {"reconstruction": (1.0, losses.reconstruction(predicted, target, None, weight))}
        if self.learn.sample:
            kl = losses.gaussian_kl(posterior.mean, posterior.std, weight)
            terms["kl"] = (self.learn.beta, kl)
        logs = {name: ratio for name, (_, ratio) in terms.items()}
        height, width = self.window.size_hw
        error = jnp.linalg.norm((predicted - target) * jnp.array([width, height]) / 2, axis=-1)
        per_clip = losses.clip_sums(error) / (error.size // len(error))
        logs["vepe_px"] = losses.over_clips(per_clip, weight)
        return losses.combine(list(terms.values())), logs
