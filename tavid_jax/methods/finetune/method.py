"""Fine-tuning as a method: the backbone's own training objective on encoded videos."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.diffusion import losses
from tavid_jax.diffusion.paths import over_time
from tavid_jax.engine.method import Arrays, Method, Params, Phase, Ratio, Spec, Stored
from tavid_jax.methods.finetune import flops as counting
from tavid_jax.methods.finetune.objectives import Objective
from tavid_jax.methods.finetune.pretrained import Pretrained
from tavid_jax.methods.finetune.tower import Tower
from tavid_jax.methods.finetune.words import MASK, TOKENS, Words
from tavid_jax.models.layers.autoencoder import VideoAutoencoder
from tavid_jax.models.layers.flops import Work
from tavid_jax.models.layers.ports import Probe
from tavid_jax.models.layers.tiling import Tiles
from tavid_jax.pipelines import int8
from tavid_jax.pipelines.autoencoders import sharding_of
from tavid_jax.pipelines.backbones import Backbone
from tavid_jax.pipelines.denoising import neighbours
from tavid_jax.pipelines.keeping import Keep
from tavid_jax.pipelines.recipe import DRAWN, MOMENTS, POSTERIORS, STD, Recipe, drawn
from tavid_jax.pipelines.targets import TargetReader

# Nodes of the parameter tree.
BACKBONE, TEXT, CODER, TOWER = "backbone", "text_encoder", "autoencoder", "image_encoder"
NULL_TEXT = "null_text"
# Learned vectors of trigger words, of methods that have a `reader`.
EMBEDDING = "target_embedding"
# What a training step's keys are folded with, for each use besides noise and its level.
TEXT_DROPOUT, IMAGE_DROPOUT, LATENTS = range(2, 5)


@dataclasses.dataclass(frozen=True)
class Conditioning:
    """What happens to the conditions of training examples.

    Attributes:
      text_dropout: share of the examples that get the empty caption.
      image_dropout: share whose image latent is zero (CogVideoX image-to-video).
      image_noise: whether the image is blurred by noise before it is encoded (the same models).
      posterior: how clips become latents, see `Recipe`.

    Raises:
      ValueError: a value out of range.
    """

    text_dropout: float | int = 0.0
    image_dropout: float | int = 0.0
    image_noise: bool = False
    posterior: str = "mode"

    def __post_init__(self):
        for name in ("text_dropout", "image_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"learn.{name} {getattr(self, name)} must lie in [0, 1]")
        if self.posterior not in POSTERIORS:
            known = ", ".join(POSTERIORS)
            raise ValueError(f"learn.posterior {self.posterior!r} is none of {known}")


class Finetune(Method):
    """Trains the adapters of a backbone that has low-rank rules, otherwise all its weights.

    Reads encoded examples from a cache, or, with `words`, clips: frozen encoders then run in the
    step. A text encoder may be trained with the backbone.

    Args:
      backbone, objective, autoencoder: what is trained, by what, on the latents of what.
      tiles: of the autoencoder.
      words: the text encoder, for clips; None reads a cache.
      trains_text: whether the text encoder learns too.
      conditioning: dropouts and the like.
      outside: published weights to start from.
      tower: the image tower, for clips and backbones that read its tokens.
      frozen_int8: whether large kernels that are not trained are kept in 8 bits.
    """

    #: finds the targets of clips, for methods that have any
    reader: TargetReader | None = None
    #: what caches hold of the clips' trajectories, for methods that draw some of them
    keep: Keep | None = None

    def __init__(
        self,
        backbone: Backbone,
        objective: Objective,
        autoencoder: VideoAutoencoder,
        tiles: Tiles | None = None,
        words: Words | None = None,
        trains_text: bool = False,
        conditioning: Conditioning = Conditioning(),
        outside: Pretrained | None = None,
        tower: Tower | None = None,
        frozen_int8: bool = False,
    ):
        self.frozen_int8 = frozen_int8
        self.backbone, self.objective = backbone, objective
        self.autoencoder, self.tiles = autoencoder, tiles
        self.words, self.trains_text = words, trains_text
        self.conditioning, self.outside = conditioning, outside or Pretrained()
        self.tower = tower
        self.recipe = Recipe(
            backbone,
            autoencoder,
            conditioning.posterior,
            conditioning.image_noise,
            last_frame=tower is not None and tower.last_frame,
            tiles=tiles,
        )
        self.sharding = backbone.sharding
        adapts = bool(backbone.model.lora)
        trained = [f"{BACKBONE}/lora/.*" if adapts else f"{BACKBONE}/.*"]
        self.host_paths = tuple(f"{node}/blocks/.*" for node in (BACKBONE, TEXT, TOWER))
        self.trainable_paths = (*trained, *([f"{TEXT}/.*"] if trains_text else []))
        if not adapts:
            self.frozen_paths = tuple(f"{BACKBONE}/{path}" for path in backbone.fixed)

    # ---- examples ----------------------------------------------------------------------------

    def raw_spec(self) -> dict[str, Spec]:
        """Frames as bytes, and the caption's ids."""
        if self.words is None:
            return super().raw_spec()
        geometry = self.backbone.geometry
        axes = (None, None, None, None)
        video = Spec((geometry.frames, *geometry.size_hw, 3), np.uint8, axes)
        return {"video": video, **self.words.spec()}

    def prepare(self, clip: Clip, rng: np.random.Generator) -> dict[str, Any]:
        """Frames and ids of a clip.

        Raises:
          ClipError: a clip without frames, or of another size or length.
        """
        if self.words is None:
            return super().prepare(clip, rng)
        video = clip.video
        wanted = self.raw_spec()["video"].shape
        if video is None or video.shape != wanted:
            found = "no frames" if video is None else f"frames of shape {video.shape}"
            raise ClipError(f"clip {clip.id!r}: has {found}, training reads {wanted}")
        return {"id": clip.id, "video": video, **self.words.read(clip.caption)}

    def encoded_spec(self) -> dict[str, Spec]:
        """Latents and features, see the backbones; the ids of a text encoder that is trained."""
        spec = dict(self.backbone.spec())
        if self.trains_text:
            del spec["text"]
            spec |= self.words.spec()
        if self.conditioning.posterior == MOMENTS:
            spec |= {name + STD: spec[name] for name in DRAWN if name in spec}
        return spec

    def cached_spec(self) -> dict[str, Spec]:
        """What every example of a cache holds, in the same shapes; see also `keep`."""
        return self.encoded_spec()

    def recall(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """What is read of an example; a cache may have been made for more."""
        del rng
        return {name: example[name] for name in ("id", *self.encoded_spec()) if name in example}

    def encode(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """Clips -> what the loss reads, by the frozen encoders."""
        tokens, mask = batch[TOKENS], batch[MASK]
        if self.conditioning.text_dropout:
            drop = self.drawn(rng, TEXT_DROPOUT, self.conditioning.text_dropout)
            tokens, mask = self.words.without(drop, tokens, mask)
        encoded = self.recipe(params.get(CODER, {}), batch["video"], folded(rng, LATENTS))
        spec = self.backbone.spec()
        if self.trains_text:
            encoded |= {TOKENS: tokens, MASK: mask}
        else:
            features = self.words.features(params[TEXT], tokens, mask)
            encoded["text"] = features.astype(spec["text"].dtype)
        if self.tower is not None:
            shown = self.tower.tokens(params[TOWER], batch["video"])
            encoded["clip"] = shown.astype(spec["clip"].dtype)
        return encoded

    def ways(self) -> Mapping[str, Any]:
        """Fields of `pipelines.Follow` by which the model follows tracks, if it does."""
        return {}

    def locate(self) -> Mapping[str, Any]:
        """Fields of `pipelines.Locate` by which the model reads texts of trajectories, if it does:
        its backbone's parameters hold the node "laca" then."""
        return {}

    def moves(self) -> Mapping[str, Any] | None:
        """Fields of `pipelines.Move` by which the model moves its image along tracks; None of one
        that does not."""
        return None

    # ---- what it starts from -----------------------------------------------------------------

    def pretrained(self) -> Mapping[str, Stored]:
        """Weights of the checkpoint, see `published`; those in 8 bits are rounded as they are
        read."""
        leaves = self.published()
        return int8.stored(leaves, self._is_frozen) if self.frozen_int8 else leaves

    def published(self) -> Mapping[str, Stored]:
        """Weights of the checkpoint as it has them."""
        return self.outside.leaves

    def _is_frozen(self, path: str) -> bool:
        return not any(re.fullmatch(pattern, path) for pattern in self.trainable_paths)

    def sources(self) -> Mapping[str, str]:
        """Fingerprints of the checkpoint's parts."""
        return self.outside.sources

    # ---- training ----------------------------------------------------------------------------

    def init(self, rng: jax.Array) -> Params:
        """All parameters, see `initial`; those in 8 bits are rounded."""
        params = self.initial(rng)
        return int8.rounded(params, self._is_frozen) if self.frozen_int8 else params

    def initial(self, rng: jax.Array) -> Params:
        """The backbone, and the encoders that the step runs."""
        # Any call of the module makes all of its parameters; this one computes next to nothing.
        variables = self.backbone.model.init(rng, jnp.zeros((1,)), method="embed_time")
        params = {BACKBONE: variables["params"]}
        if self.words is not None:
            tokens = jnp.zeros((1, 1), jnp.int32)
            params[TEXT] = self.words.module.init(jax.random.fold_in(rng, 1), tokens)["params"]
            coder = self._init_coder(jax.random.fold_in(rng, 2))
            params |= {CODER: coder} if coder else {}
            params |= {TOWER: self._init_tower(rng)} if self.tower else {}
        elif self.conditioning.text_dropout:
            text = self.backbone.spec()["text"]
            params[NULL_TEXT] = jnp.zeros(text.shape, text.dtype)
        return params

    def _init_tower(self, rng: jax.Array) -> Params:
        size = self.tower.module.config.image_size
        picture = jnp.zeros((1, size, size, 3))
        return self.tower.module.init(jax.random.fold_in(rng, 3), picture)["params"]

    def loss(
        self, params: Params, batch: Arrays, rng: jax.Array, step: jax.Array
    ) -> tuple[Ratio, dict[str, Ratio]]:
        """Squared error of the prediction, the mean over a video's latent, in float32.

        Latent frames that are given have no share in it.
        """
        del step
        ratio, _ = self.denoising(params, batch, rng)
        return ratio, {"denoising": ratio}

    def denoising(
        self, params: Params, batch: Arrays, rng: jax.Array, probe: Probe | None = None
    ) -> tuple[Ratio, Any]:
        """The loss, and what a probe of the backbone's attention saw on the way."""
        batch = drawn(batch, folded(rng, LATENTS), self._copies)
        batch, rng = self.drawings(self.conditions(params, batch, rng), rng)
        video = batch["video"]
        noised = self.objective.noised(video, rng)
        state = self._with_given(noised.state, video)
        out = self.backbone.evaluate(params[BACKBONE], state, noised.timestep, batch, probe)
        squared = jnp.square(out.sample.astype(jnp.float32) - noised.target)
        squared, size = self._predicted(squared)
        means = losses.clip_sums(squared) / size
        return losses.over_clips(noised.weight * means), out.probe

    def _predicted(self, x: Float[Array, "B F H W C"]) -> tuple[Float[Array, "B F H W C"], int]:
        """x with zeros at the frames that are given, and how many numbers of a clip the rest is.

        The gradient of a slice is padded, which the TPU compiler could not fuse at all sizes.
        """
        count = self.backbone.given_frames
        if count:
            predicted = jnp.arange(x.shape[1]) >= count
            x = jnp.where(predicted[:, None, None, None], x, 0.0)
        return x, x[0].size // x.shape[1] * (x.shape[1] - count)

    def drawings(self, batch: Arrays, rng: jax.Array) -> tuple[Arrays, jax.Array]:
        """The examples and keys for which noise is drawn; methods may draw it several times."""
        return batch, rng

    @property
    def _copies(self) -> int:
        """Latent frames that fill the first patch: copies of the first one."""
        frames = (self.backbone.geometry.frames - 1) // self.autoencoder.config.stride_t + 1
        return self.backbone.spec()["video"].shape[0] - frames

    def conditions(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """The batch with features for ids, and without the conditions that are dropped."""
        drops, batch = self.conditioning, dict(batch)
        if self.trains_text:
            tokens, mask = batch.pop(TOKENS), batch.pop(MASK)
            batch["text"] = self.words.features(params[TEXT], tokens, mask)
        elif self.words is None and drops.text_dropout:
            drop = self.drawn(rng, TEXT_DROPOUT, drops.text_dropout)
            batch["text"] = jnp.where(drop[:, None, None], params[NULL_TEXT], batch["text"])
        if drops.image_dropout and "image" in batch:
            kept = ~self.drawn(rng, IMAGE_DROPOUT, drops.image_dropout)
            batch["image"] = batch["image"] * over_time(kept.astype(jnp.float32), 4)
        return batch

    def drawn(self, rng: jax.Array, use: int, share: float | int) -> Array:
        """Which examples belong to a random share."""
        return jax.vmap(lambda key: jax.random.bernoulli(key, share))(folded(rng, use))

    # ---- its work ----------------------------------------------------------------------------

    def flops(self, batch_size: int, *, encode: bool = False) -> int:
        """Model FLOPs of a step: the backbone, the text encoder if it is trained, and what
        encodes if that is part of the step."""
        work = Work()
        if encode:
            self.encoding(work, batch_size)
        if self.trains_text:
            counting.read_text(work, self.words, batch_size, trained=True)
        self.evaluating(work, batch_size)
        return work.flops

    def encoding(self, work: Work, batch_size: int) -> None:
        """What `encode` computes."""
        counting.read_clips(work, self, batch_size)

    def evaluating(self, work: Work, batch_size: int) -> None:
        """What `loss` computes behind the text encoder."""
        shape = counting.shape_of(self.backbone, batch_size, text_live=self.trains_text)
        counting.evaluate(work, self.backbone, counting.weights_of(self, BACKBONE), shape)

    def amounts(self) -> dict[str, int]:
        """Video tokens that are denoised, and frames of the clip."""
        grid = self.backbone.model.config.grid(self.backbone.spec()["video"].shape[:3])
        return {"tokens": math.prod(grid), "frames": self.backbone.geometry.frames}

    # ---- phases ------------------------------------------------------------------------------

    def phases(self) -> dict[str, Phase]:
        """One denoising step; the autoencoder's whole work on a video, either way."""
        geometry, latent = self.backbone.geometry, self.backbone.spec()["video"]
        pixels = Spec((geometry.frames, *geometry.size_hw, 3), np.float32, latent.axes)
        # Latent frames that only fill a patch are not decoded.
        latent = latent._replace(shape=(latent.shape[0] - self._copies, *latent.shape[1:]))
        sharding = sharding_of(self.autoencoder.config)
        return {
            "sample": Phase(self.sample_step, self.init, self.sample_spec(), self.sharding),
            "encode": Phase(self.encode_video, self._init_coder, {"video": pixels}, sharding),
            "decode": Phase(self.decode_video, self._init_coder, {"video": latent}, sharding),
        }

    def _init_coder(self, rng: jax.Array) -> Params:
        kind, spatial = type(self.autoencoder), self.autoencoder.config.stride_hw
        video = jnp.zeros((1, 1, spatial, spatial, 3))
        return self.autoencoder.init(rng, video, method=kind.encode).get("params", {})

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
        spec = dict(self.backbone.spec())
        text = spec["text"]
        number = Spec((), np.float32, ())
        numbers = dict.fromkeys(("timestep", "guidance", "keep", "move"), number)
        return {**spec, "negative": text, **numbers}

    def sample_step(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """One deterministic step with classifier-free guidance: state <- keep state + move out.

        Every first-order sampler is of this form, with its own two numbers per step.
        """
        del rng
        both = {name: neighbours(x, x) for name, x in batch.items()}
        both["text"] = neighbours(batch["negative"], batch["text"])
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


def folded(keys: jax.Array, use: int) -> jax.Array:
    """A key per example for one use of randomness."""
    return jax.vmap(lambda key: jax.random.fold_in(key, use))(keys)
