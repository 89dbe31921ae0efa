"""Fine-tuning as a method: the backbone's own training objective on encoded videos."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from tavid_jax.diffusion import losses
from tavid_jax.engine.method import Arrays, Method, Params, Phase, Ratio, Spec
from tavid_jax.methods.finetune.objectives import Objective
from tavid_jax.models.layers.autoencoder import VideoAutoencoder
from tavid_jax.models.layers.tiling import Tiles
from tavid_jax.pipelines.autoencoders import sharding_of
from tavid_jax.pipelines.backbones import Backbone

# Node of the backbone in the parameter tree.
BACKBONE = "backbone"


class Finetune(Method):
    """Trains the adapters of a backbone that has low-rank rules, otherwise all its weights."""

    def __init__(
        self,
        backbone: Backbone,
        objective: Objective,
        autoencoder: VideoAutoencoder,
        tiles: Tiles | None = None,
    ):
        self.backbone, self.objective = backbone, objective
        self.autoencoder, self.tiles = autoencoder, tiles
        self.sharding = backbone.sharding
        adapts = bool(backbone.model.lora)
        self.trainable_paths = (f"{BACKBONE}/lora/.*" if adapts else f"{BACKBONE}/.*",)
        if not adapts:
            self.frozen_paths = tuple(f"{BACKBONE}/{path}" for path in backbone.fixed)

    def encoded_spec(self) -> dict[str, Spec]:
        """Latents and features, see the backbones."""
        return self.backbone.spec()

    def init(self, rng: jax.Array) -> Params:
        # Any call of the module makes all of its parameters; this one computes next to nothing.
        variables = self.backbone.model.init(rng, jnp.zeros((1,)), method="embed_time")
        return {BACKBONE: variables["params"]}

    def loss(
        self, params: Params, batch: Arrays, rng: jax.Array, step: jax.Array
    ) -> tuple[Ratio, dict[str, Ratio]]:
        """Squared error of the prediction, the mean over a video's latent, in float32.

        Latent frames that are given have no share in it.
        """
        del step
        video = batch["video"]
        noised = self.objective.noised(video, rng)
        state = self._with_given(noised.state, video)
        predicted = self.backbone.predict(params[BACKBONE], state, noised.timestep, batch)
        squared = jnp.square(predicted - noised.target)[:, self.backbone.given_frames :]
        ratio = losses.over_clips(losses.clip_sums(squared) / squared[0].size)
        return ratio, {"denoising": ratio}

    def phases(self) -> dict[str, Phase]:
        """One denoising step; the autoencoder's whole work on a video, either way."""
        geometry, latent = self.backbone.geometry, self.backbone.spec()["video"]
        pixels = Spec((geometry.frames, *geometry.size_hw, 3), np.float32, latent.axes)
        # Latent frames that only fill the last patch are not decoded.
        frames = (geometry.frames - 1) // self.autoencoder.config.stride_t + 1
        latent = latent._replace(shape=(frames, *latent.shape[1:]))
        sharding = sharding_of(self.autoencoder.config)
        return {
            "sample": Phase(self.sample_step, self.init, self.sample_spec(), self.sharding),
            "encode": Phase(self.encode_video, self._init_coder, {"video": pixels}, sharding),
            "decode": Phase(self.decode_video, self._init_coder, {"video": latent}, sharding),
        }

    def _init_coder(self, rng: jax.Array) -> Params:
        kind, spatial = type(self.autoencoder), self.autoencoder.config.stride_hw
        video = jnp.zeros((1, 1, spatial, spatial, 3))
        return self.autoencoder.init(rng, video, method=kind.encode)["params"]

    def encode_video(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """Pixels in [-1, 1] -> latents in the backbone's units (the posterior's mode)."""
        del rng
        coder, tiles = self.autoencoder, self.tiles
        encode = type(coder).encode
        posterior = coder.apply({"params": params}, batch["video"], tiles=tiles, method=encode)
        return {"video": coder.normalise(posterior.mode())}

    def decode_video(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """Latents in the backbone's units -> pixels in [-1, 1]."""
        del rng
        coder, latents = self.autoencoder, self.autoencoder.denormalise(batch["video"])
        decode = type(coder).decode
        return {"video": coder.apply({"params": params}, latents, tiles=self.tiles, method=decode)}

    def sample_spec(self) -> dict[str, Spec]:
        """A noisy latent with its conditions, twice the text, and the numbers of the step."""
        spec = dict(self.encoded_spec())
        text = spec["text"]
        number = Spec((), np.float32, ())
        numbers = dict.fromkeys(("timestep", "guidance", "keep", "move"), number)
        return {**spec, "negative": text, **numbers}

    def sample_step(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """One deterministic step with classifier-free guidance: state <- keep state + move out.

        Every first-order sampler is of this form, with its own two numbers per step.
        """
        del rng
        both = {name: _pairs(x, x) for name, x in batch.items()}
        both["text"] = _pairs(batch["negative"], batch["text"])
        out = self.backbone.predict(params[BACKBONE], both["video"], both["timestep"], both)
        without, given = out[::2], out[1::2]
        guidance, keep, move = (
            batch[name][:, None, None, None, None] for name in ("guidance", "keep", "move")
        )
        out = without + guidance * (given - without)
        return {"video": self._with_given(keep * batch["video"] + move * out, batch["video"])}

    def _with_given(
        self, state: Float[Array, "B F H W C"], given: Float[Array, "B F H W C"]
    ) -> Float[Array, "B F H W C"]:
        """The first frames as they are given, all others of `state`."""
        count = self.backbone.given_frames
        return state.at[:, :count].set(given[:, :count]) if count else state


def _pairs(first: Shaped[Array, "B *x"], second: Shaped[Array, "B *x"]) -> Shaped[Array, "P *x"]:
    """(a, A), (b, B), ...: neighbours, so that both lie on the device that has the example."""
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])
