"""TAViD as a method: fine-tuning with mask channels, trigger words, and a loss on attention."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tavid_jax.data.clip import Clip
from tavid_jax.diffusion import losses
from tavid_jax.engine.method import Arrays, Params, Ratio, Spec
from tavid_jax.methods.finetune import flops as counting
from tavid_jax.methods.finetune.method import BACKBONE, EMBEDDING, Finetune, folded
from tavid_jax.methods.tavid.attention import AttentionLoss, seen_ratios
from tavid_jax.methods.tavid.flops import attention_flops
from tavid_jax.models.layers.flops import Work
from tavid_jax.pipelines.backbones import MASK, CogVideoXBackbone
from tavid_jax.pipelines.targets import AIM, COLUMNS, TargetReader

# What a training step's keys are folded with, besides those of fine-tuning.
MASK_DROPOUT, MASK_NOISE = 5, 6


@dataclasses.dataclass(frozen=True)
class Masks:
    """What the model is given of masks in training.

    Attributes:
      given: whether it has mask channels at all; without, it is the paper's baseline.
      patch: whether the patch projection is trained, the published one and that of the channels.
      dropout: share of the examples whose mask is zero.
      noise: share of the mask's latent positions that are turned over, at random in every step.

    Raises:
      ValueError: a share out of range, or channels that could never be read.
    """

    given: bool = True
    patch: bool = True
    dropout: float | int = 0.0
    noise: float | int = 0.0

    def __post_init__(self):
        for name in ("dropout", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"masks.{name} {getattr(self, name)} must lie in [0, 1]")
        if self.given and not self.patch:
            raise ValueError("masks.given needs masks.patch: their channels begin at zero")


class Tavid(Finetune):
    """Trains adapters, the patch projection and, if asked, vectors of the trigger words.

    Args:
      reader: finds the targets of clips.
      attention: how attention is led.
      masks: what the model is given of masks.
      options: of `Finetune`; the backbone has one further channel per target if masks are given.

    Raises:
      ValueError: blocks that the backbone does not have, a loss on words that are dropped.
    """

    def __init__(
        self, reader: TargetReader, attention: AttentionLoss, masks: Masks, **options: Any
    ):
        super().__init__(**options)
        self.reader, self.attention, self.masks = reader, attention, masks
        self.depth = self.backbone.model.config.num_layers
        if attention.weight:
            attention.blocks.check(self.depth)
        if attention.weight and self.conditioning.text_dropout:
            raise ValueError(
                "learn.text_dropout leaves texts without the trigger word: set it to 0, as "
                "published, or attention.weight to 0"
            )
        if masks.patch:
            self.trainable_paths += (rf"{BACKBONE}/patch_embed(_extra)?/.*",)
        if reader.targets.embedding:
            self.trainable_paths += (EMBEDDING,)

    # ---- examples ----------------------------------------------------------------------------

    def raw_spec(self) -> dict[str, Spec]:
        """Frames and ids; mask channels, text columns and aims."""
        return {**super().raw_spec(), **self._marked_spec()}

    def encoded_spec(self) -> dict[str, Spec]:
        """Latents and features; mask channels, text columns and aims."""
        return {**super().encoded_spec(), **self.reader.spec()}

    def _marked_spec(self) -> dict[str, Spec]:
        spec = self.backbone.spec()
        return {**({MASK: spec[MASK]} if MASK in spec else {}), **self.reader.spec()}

    def prepare(self, clip: Clip, rng: np.random.Generator) -> dict[str, Any]:
        """Frames and ids of a clip with its trigger words; masks and places of its targets.

        Raises:
          ClipError: see `Finetune.prepare` and `TargetReader.read`.
        """
        marked = self.reader.read(clip)
        told = clip.replace(caption=self.reader.prompt(clip.caption))
        return {**super().prepare(told, rng), **{k: marked[k] for k in self._marked_spec()}}

    def encode(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """Clips -> what a cache holds; masks and places pass by."""
        encoded = super().encode(params, batch, rng)
        return encoded | {name: batch[name] for name in self._marked_spec()}

    # ---- training ----------------------------------------------------------------------------

    def initial(self, rng: jax.Array) -> Params:
        """The backbone, what of it is trained in float32, and the encoders that the step runs."""
        params = super().initial(rng)
        base = dict(params[BACKBONE])
        for name in ("patch_embed", "patch_embed_extra"):
            if self.masks.patch and name in base:
                base[name] = jax.tree.map(lambda x: x.astype(jnp.float32), base[name])
        params[BACKBONE] = base
        if self.reader.targets.embedding:
            shape = self.reader.targets.count, self.backbone.model.config.text_dim
            params[EMBEDDING] = jnp.zeros(shape, jnp.float32)
        return params

    def evaluating(self, work: Work, batch_size: int) -> None:
        """The backbone, the trigger words' vectors, and the loss on attention."""
        backbone, targets = self.backbone, self.reader.targets
        c, length = backbone.model.config, backbone.spec()["text"].shape[0]
        if targets.embedding:
            work.product(batch_size * length, targets.count, c.text_dim, x=False, w=True)
        live = self.trains_text or targets.embedding
        shape = counting.shape_of(backbone, batch_size, text_live=live)
        counting.evaluate(work, backbone, counting.weights_of(self, BACKBONE), shape)
        if self.attention.weight:
            work.flops += attention_flops(
                self.attention,
                shape.grid,
                batch=batch_size,
                text=length,
                targets=targets.count,
                width=c.dim,
                joint=isinstance(backbone, CogVideoXBackbone),
            )

    def loss(
        self, params: Params, batch: Arrays, rng: jax.Array, step: jax.Array
    ) -> tuple[Ratio, dict[str, Ratio]]:
        """The error of the video and, beside it, that of attention."""
        attention = self.attention
        if not attention.weight:
            return super().loss(params, batch, rng, step)
        probe = attention.probe(self.depth, batch[COLUMNS], batch[AIM], step)
        ratio, seen = self.denoising(params, batch, rng, probe)
        led = losses.over_clips(seen["loss"])
        total = losses.combine([(1.0, ratio), (attention.weight, led)])
        return total, {"denoising": ratio, **seen_ratios(seen)}

    def conditions(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """The batch with what is dropped, turned over and added."""
        batch = super().conditions(params, batch, rng)
        if MASK in batch:
            batch[MASK] = self._disturbed(batch[MASK], rng)
        if self.reader.targets.embedding:
            is_trigger = (batch[COLUMNS] > 0).astype(jnp.float32)
            added = jnp.einsum("bkl,kd->bld", is_trigger, params[EMBEDDING])
            batch["text"] = batch["text"].astype(jnp.float32) + added
        return batch

    def _disturbed(self, mask: Float[Array, "B h w K"], rng: jax.Array) -> Float[Array, "B h w K"]:
        if self.masks.noise:
            turned = jax.vmap(
                lambda key: jax.random.bernoulli(key, self.masks.noise, mask.shape[1:])
            )(folded(rng, MASK_NOISE))
            mask = jnp.where(turned, 1.0 - mask, mask)
        if self.masks.dropout:
            drop = self.drawn(rng, MASK_DROPOUT, self.masks.dropout)
            mask = jnp.where(drop[:, None, None, None], 0.0, mask)
        return mask
