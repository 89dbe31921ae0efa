"""TGT as a method: a location-aware cross-attention learns beside the frozen backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.diffusion import guidance
from tavid_jax.engine.method import Arrays, Params, Spec, Stored
from tavid_jax.methods.finetune import flops as counting
from tavid_jax.methods.finetune.method import BACKBONE, NULL_TEXT, TEXT, Finetune, folded
from tavid_jax.methods.finetune.words import MASK, TOKENS, Words
from tavid_jax.methods.tgt.draw import Draw
from tavid_jax.methods.tgt.start import copied
from tavid_jax.models.layers.flops import Work
from tavid_jax.models.layers.located import init_laca
from tavid_jax.models.layers.located.flops import LacaShape, attend
from tavid_jax.models.wan import flops as wan_flops
from tavid_jax.pipelines.denoising import neighbours
from tavid_jax.pipelines.keeping import Keep, recalled
from tavid_jax.pipelines.located import (
    LOCAL_LENGTH,
    LOCAL_TEXT,
    NEAR,
    NODE,
    STRENGTH,
    LocatedWan,
)
from tavid_jax.pipelines.locating import pairs_of
from tavid_jax.pipelines.settings import NULLS

# Entries of local texts in an encoded batch.
LOCAL = (LOCAL_TEXT, LOCAL_LENGTH, *NEAR)
# Ids of local texts and which of them are real, of an example.
LOCAL_TOKENS, LOCAL_MASK = "local_tokens", "local_mask"
# What a training step's keys are folded with, besides those of fine-tuning.
LOCAL_DROPOUT, DRAWN_STRENGTH = 9, 10
# What stands for no local text: no trajectory at all, or trajectories with the empty text.
DROP, EMPTY = NULLS


class Tgt(Finetune):
    """Trains the location-aware cross-attention of a `LocatedWan` alone.

    Args:
      draw: which trajectories of a clip an example gets.
      local_dropout: share of the examples without local texts, drawn independently of those
        without the prompt (the paper: 0.1, and 0.8 without the prompt).
      null: what they get instead, one of `NULLS`.
      strength: lambda of each example, drawn evenly between the two.
      options: of `Finetune`; the backbone is a `LocatedWan`.

    Raises:
      ValueError: a value out of range, more trajectories than the backbone has room for, adapters.
    """

    def __init__(
        self,
        draw: Draw,
        local_dropout: float | int = 0.1,
        null: str = DROP,
        strength: tuple[float | int, float | int] = (0.5, 0.5),
        **options: Any,
    ):
        super().__init__(**options)
        self.draw, self.local_dropout, self.null, self.strength = (
            draw,
            local_dropout,
            null,
            strength,
        )
        backbone: LocatedWan = self.backbone
        self.keep = Keep(draw.source, backbone.text_positions)
        if not 0 <= local_dropout <= 1:
            raise ValueError(f"trajectories.local_dropout {local_dropout} must lie in [0, 1]")
        if null not in NULLS:
            raise ValueError(f"trajectories.null {null!r} is none of {', '.join(NULLS)}")
        if not 0 <= strength[0] <= strength[1] <= 1:
            raise ValueError(f"trajectories.strength {strength}: needs 0 <= low <= high <= 1")
        if draw.most > backbone.points:
            raise ValueError(
                f"trajectories.most {draw.most}: there is room for {backbone.points}; raise "
                "trajectories.points"
            )
        if backbone.model.lora:
            raise ValueError("TGT trains no adapters: set model.lora to ()")
        if self.trains_text:
            raise ValueError("TGT leaves the text encoder as it is: set text.train to False")
        own = f"{BACKBONE}/{NODE}/.*"
        self.trainable_paths, self.frozen_paths = (own, *self.trainable_paths[1:]), ()
        # A position behind the text stands for all of its padding.
        if self.words is not None:
            w = self.words
            self.phrases = Words(w.module, w.tokenizer, backbone.text_positions - 1, w.wan)

    # ---- examples ----------------------------------------------------------------------------

    def raw_spec(self) -> dict[str, Spec]:
        """Frames and ids, ids of local texts, and which tokens read which of them."""
        spec = super().raw_spec()
        if self.words is None:
            return spec
        shape = (self.backbone.points, self.backbone.text_positions - 1)
        near = {name: self.backbone.spec()[name] for name in LOCAL if name != LOCAL_TEXT}
        return (
            spec
            | near
            | {
                LOCAL_TOKENS: Spec(shape, np.int32, (None, None)),
                LOCAL_MASK: Spec(shape, np.bool_, (None, None)),
            }
        )

    def prepare(self, clip: Clip, rng: np.random.Generator) -> dict[str, Any]:
        """Frames and ids of a clip, and some of its trajectories with their texts.

        Raises:
          ClipError: see `Finetune.prepare`, and `Draw`.
        """
        if self.words is None:
            return super().prepare(clip, rng)
        drawn, backbone = self.draw(clip, rng), self.backbone
        texts = [self.phrases.read(text) for text in drawn.texts]
        texts += [self.phrases.read("")] * (backbone.points - len(texts))
        mask = np.stack([one[MASK] for one in texts])
        entries = dict(zip(NEAR, pairs_of(backbone, drawn, clip.masks), strict=True))
        entries[LOCAL_LENGTH] = mask.sum(1).astype(np.int32)
        words = {LOCAL_TOKENS: np.stack([one[TOKENS] for one in texts]), LOCAL_MASK: mask}
        return super().prepare(clip, rng) | entries | words

    def cached_spec(self) -> dict[str, Spec]:
        """Latents and features; of local texts a cache has what `keep` says."""
        return {name: one for name, one in self.encoded_spec().items() if name not in LOCAL}

    def recall(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Some of the trajectories that a cache has kept, drawn as from clips."""
        drawn = recalled(example, self.backbone, lambda known: self.draw.chosen(known, rng))
        return super().recall(example, rng) | drawn

    def encode(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """Latents and features of the clip, and features of its local texts."""
        encoded = super().encode(params, batch, rng)
        tokens, mask = batch[LOCAL_TOKENS], batch[LOCAL_MASK]
        batch_size, points, length = tokens.shape
        flat = (tokens.reshape(-1, length), mask.reshape(-1, length))
        features = self._phrases(params, *flat)
        features = features.reshape(batch_size, points, length + 1, -1)
        near = {name: batch[name] for name in LOCAL if name != LOCAL_TEXT}
        spec = self.backbone.spec()[LOCAL_TEXT]
        return encoded | near | {LOCAL_TEXT: features.astype(spec.dtype)}

    def locate(self) -> Mapping[str, Any]:
        """How trajectories are read, which a sampled video's are like."""
        return self.backbone.where.to_json()

    # ---- training ----------------------------------------------------------------------------

    def initial(self, rng: jax.Array) -> Params:
        """The backbone with a copy of its cross-attention, and the encoders that the step runs."""
        params = super().initial(rng)
        base = params[BACKBONE]
        key = jax.random.fold_in(rng, LOCAL_DROPOUT)
        own = init_laca(base["blocks"]["cross"], self.backbone.laca, key)
        if self.null == EMPTY and self.words is None and NULL_TEXT not in params:
            text = self.backbone.spec()["text"]
            params[NULL_TEXT] = jnp.zeros(text.shape, text.dtype)
        return params | {BACKBONE: {**base, NODE: own}}

    def published(self) -> Mapping[str, Stored]:
        """Weights of the checkpoint, and the copy of its cross-attention."""
        leaves = super().published()
        return {**leaves, **copied(leaves, BACKBONE, self.backbone.laca)}

    def conditions(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """The batch without the conditions that are dropped, with a lambda for each example."""
        batch = super().conditions(params, batch, rng)
        if self.local_dropout:
            drop = self.drawn(rng, LOCAL_DROPOUT, self.local_dropout)
            nothing = self._null(params, batch)
            for name in LOCAL:
                keep = ~drop.reshape(-1, *[1] * (batch[name].ndim - 1))
                batch[name] = jnp.where(keep, batch[name], nothing[name])
        low, high = self.strength
        keys = folded(rng, DRAWN_STRENGTH)
        draw = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32, low, high))
        return batch | {STRENGTH: draw(keys)}

    def encoding(self, work: Work, batch_size: int) -> None:
        """The clip, and the texts of its trajectories."""
        super().encoding(work, batch_size)
        counting.read_text(work, self.phrases, batch_size * self.backbone.points)

    def evaluating(self, work: Work, batch_size: int) -> None:
        """The frozen backbone, and the attention beside it."""
        backbone: LocatedWan = self.backbone
        if self.local_dropout and self.null == EMPTY and self.words is not None:
            counting.read_text(work, self.phrases, 1)
        spec, c = backbone.spec(), backbone.model.config
        points, positions, _ = spec[LOCAL_TEXT].shape
        shape = LacaShape(
            batch=batch_size,
            tokens=backbone.tokens,
            prompt=spec["text"].shape[0],
            points=points,
            positions=positions,
            pairs=spec[NEAR[0]].shape[0],
            width=c.dim,
        )
        weights = counting.weights_of(self, BACKBONE)
        rows = batch_size * points * positions
        wan_flops.embed_text(work, c, weights, rows, x=False)
        layers = backbone.laca.layers

        def cross(work: Work, layer: int, x: bool, base: Callable[[], bool]) -> bool:
            live = base()
            if layers is not None and layer not in layers:
                return live
            attend(work, backbone.laca, shape, x=x)
            return True

        sizes = dataclasses.replace(counting.shape_of(backbone, batch_size), cross=cross)
        counting.evaluate(work, backbone, weights, sizes)

    def _null(self, params: Params, batch: Arrays) -> Arrays:
        """The batch as guidance reads it where there are no local texts."""
        if self.null == DROP:
            return self.backbone.null_local(batch)
        if self.words is None:  # those of "" for the prompt: its end, and padding
            features = params[NULL_TEXT][: self.backbone.text_positions]
            length = jnp.ones((), jnp.int32)
        else:
            one = self.phrases.read("")
            tokens, mask = jnp.asarray(one[TOKENS])[None], jnp.asarray(one[MASK])[None]
            features = self._phrases(params, tokens, mask)[0]
            length = mask.sum().astype(jnp.int32)
        return self.backbone.empty_local(batch, features, length)

    def _phrases(self, params: Params, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """Features (P, L, E) of local texts, the last position of which is padding."""
        features = self.phrases.features(params[TEXT], tokens, mask)
        return jnp.pad(features, ((0, 0), (0, 1), (0, 0)))

    # ---- phases ------------------------------------------------------------------------------

    def sample_step(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """One deterministic step with dual guidance, all four predictions in one batch."""
        del rng
        numbers = {name: batch[name] for name in ("timestep", "guidance", "keep", "move")}
        both = {name: x for name, x in batch.items() if name not in (*numbers, "negative")}
        without = both | {"text": batch["negative"]}
        null = self.backbone.null_local
        branches = [null(without), null(both), without, both]
        one = jax.tree.map(lambda *x: neighbours(*x), *branches)
        timestep = neighbours(*[batch["timestep"]] * 4)
        out = self.backbone.predict(params[BACKBONE], one["video"], timestep, one)
        scale = numbers["guidance"]
        four = out.reshape(-1, 4, *out.shape[1:])
        out = jax.vmap(guidance.dual_cfg)(four, scale, 0.8 * scale)
        keep, move = (numbers[name][:, None, None, None, None] for name in ("keep", "move"))
        return {"video": self._with_given(keep * batch["video"] + move * out, batch["video"])}
