"""Captions as a method reads them: padded ids on the host, features on the device."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tavid_jax.engine.method import Params, Spec
from tavid_jax.models.text.cleaning import clean
from tavid_jax.models.text.lengths import zero_padded
from tavid_jax.models.text.t5 import T5Encoder
from tavid_jax.models.text.tokenizer import Tokenizer

# Entries of an example; "mask" is that of the backbone's mask channels.
TOKENS, MASK = "tokens", "text_mask"


@dataclasses.dataclass(frozen=True)
class Words:
    """A text encoder and the rule by which its features are read.

    Attributes:
      module: the encoder.
      tokenizer: of its vocabulary.
      length: tokens per caption, L.
      wan: whether captions are cleaned, padding is hidden from the encoder and zeros stand in its
        place behind it (Wan), or none of this (CogVideoX).
    """

    module: T5Encoder
    tokenizer: Tokenizer
    length: int
    wan: bool

    def spec(self) -> dict[str, Spec]:
        """Entries of an example."""
        return {
            TOKENS: Spec((self.length,), np.int32, (None,)),
            MASK: Spec((self.length,), np.bool_, (None,)),
        }

    def read(self, caption: str) -> dict[str, np.ndarray]:
        """Ids and mask of a caption, each (L,)."""
        ids, mask = self.tokenizer(clean(caption) if self.wan else caption, self.length)
        return {TOKENS: ids[0], MASK: mask[0]}

    def features(
        self, params: Params, tokens: Int[Array, "B L"], text_mask: Bool[Array, "B L"]
    ) -> Float[Array, "B L D"]:
        """What a backbone reads as text."""
        variables = {"params": params}
        if not self.wan:
            return self.module.apply(variables, tokens)
        return zero_padded(self.module.apply(variables, tokens, text_mask), text_mask, self.length)

    def without(
        self, drop: Bool[Array, " B"], tokens: Int[Array, "B L"], mask: Bool[Array, "B L"]
    ) -> tuple[Int[Array, "B L"], Bool[Array, "B L"]]:
        """Ids and mask with the empty caption in the places of `drop`."""
        empty = self.read("")
        drop = drop[:, None]
        return (
            jnp.where(drop, jnp.asarray(empty[TOKENS]), tokens),
            jnp.where(drop, jnp.asarray(empty[MASK]), mask),
        )
