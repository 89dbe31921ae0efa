"""Learning what will be seen: a small head on the latents (TrajLoom, sec. 3.4)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tavid_jax.diffusion import losses
from tavid_jax.engine.method import Arrays, Params, Ratio
from tavid_jax.methods.trajloom.examples import Geometry
from tavid_jax.methods.trajloom.latents import SEGMENTS, OnLatents, standardise
from tavid_jax.models.latte import flops as counting
from tavid_jax.models.latte.vae import TrackVAE
from tavid_jax.models.latte.visibility import VisibilityHead
from tavid_jax.models.layers.flops import Work


@dataclasses.dataclass(frozen=True)
class VisibilityLosses:
    """Numbers of the visibility head's training; defaults as in the released config.

    Attributes:
      segments: windows it learns from, "history" and/or "future".
      pos_weight: factor of visible samples; 0 = off.
      statistics: the table that standardises its input. The released head was trained with
        "future" and is run with "all"; here both are "all" unless set otherwise.
    """

    segments: tuple[str, ...] = ("history", "future")
    pos_weight: float = 0.0
    statistics: str = "all"

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.segments))
        if not self.segments or set(self.segments) - {"history", "future"}:
            raise ValueError(
                f"learn.visibility.segments {self.segments}: name 'history', 'future' or both"
            )
        if self.statistics not in SEGMENTS:
            raise ValueError(
                f"learn.visibility.statistics {self.statistics!r} is none of {SEGMENTS}"
            )


class VisibilityMethod(OnLatents):
    """Trains the head by binary cross-entropy on pooled visibility."""

    trainable_paths = ("visibility/.*",)

    def __init__(
        self,
        vae: TrackVAE,
        head: VisibilityHead,
        geometry: Geometry,
        learn: VisibilityLosses,
        cached: bool,
    ):
        if head.config.use_hist_last and "history" in learn.segments:
            raise ValueError(
                "a visibility head that reads the last history latent learns from the future "
                "alone: set learn.visibility.segments=('future',)"
            )
        super().__init__(vae, geometry, features=None, cached=cached)
        self.head, self.learn = head, learn

    def init(self, rng: jax.Array) -> Params:
        vae_rng, head_rng = jax.random.split(rng)
        latents = jnp.zeros((1, *self.encoded_spec()["future"].shape))
        head = self.head.init(head_rng, latents, history_last(self.head, latents))["params"]
        return {"visibility": head, **self.init_encoder(vae_rng)}

    def loss(
        self, params: Params, batch: Arrays, rng: jax.Array, step: jax.Array
    ) -> tuple[Ratio, dict[str, Ratio]]:
        """Mean over clips and segments; logs the accuracy per latent token beside it."""
        del rng, step
        table = params["statistics"][self.learn.statistics]
        last = history_last(self.head, standardise(batch["history"], table))
        terms, right = [], []
        for segment in self.learn.segments:
            latents = standardise(batch[segment], table)
            logits = self.head.apply({"params": params["visibility"]}, latents, last)
            truth = batch[f"{segment}_visibility"]
            share = 1.0 / len(self.learn.segments)
            cross_entropy = losses.binary_cross_entropy(logits, truth, self.learn.pos_weight)
            terms.append((share, cross_entropy))
            right.append(((logits > 0) == (truth > 0.5)).astype(jnp.float32))
        correct = jnp.stack(right)
        accuracy = (jnp.sum(correct), jnp.asarray(correct.size, jnp.float32))
        return losses.combine(terms), {"accuracy": accuracy}

    def flops(self, batch_size: int, *, encode: bool = False) -> int:
        """The head on every window that it learns from."""
        work, g = Work(), self.geometry
        rows = batch_size * g.latent_frames * g.num_tokens
        for _ in self.learn.segments:
            counting.visibility(work, self.head.config, rows)
        return work.flops + (self.encoding_flops(batch_size) if encode else 0)


def history_last(
    head: VisibilityHead, history: Float[Array, "B L N C"]
) -> Float[Array, "B N C"] | None:
    """The last history latent, for heads that read it."""
    return history[:, -1] if head.config.use_hist_last else None
