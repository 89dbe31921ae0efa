"""The selective cross-attention loss: what a trigger word is looked at by should be its mask.

    A[n] = mean over heads of P[video token n of the first frame, trigger]     (P: attention)
    L_attn = mean over blocks and tokens n of (A[n] - M[n])^2                  (TAViD, L_attn)

Maps come through the `probe` port: a few rows against all keys, no map of the whole sequence.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tavid_jax.models.layers.ports import Probe
from tavid_jax.pipelines.maps import MEASURES, measures
from tavid_jax.pipelines.maps import overlap as overlap

V2T, T2V, BOTH = DIRECTIONS = ("video_to_text", "text_to_video", "both")
FIXED, SAMPLE, RANDOM, UNIFORM = MODES = ("fixed", "sample", "random", "uniform")
NONE, TEXT = NORMS = ("none", "text")
# Of a map: the loss, its mean inside and outside of the mask, and how well the two overlap.
SEEN = ("loss", *MEASURES)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Which blocks are looked at.

    Attributes:
      mode: "fixed" (`chosen`); "sample", `count` of `first` ... `last` drawn in every step;
        "random", `count` of all drawn in every step; "uniform", `count` of all, evenly spaced.
      chosen: numbers from 0. The paper's "every third of 5 to 23" are 5, 8, ..., 23.
      count, first, last: see mode.

    Raises:
      ValueError: another mode.
    """

    mode: str = FIXED
    chosen: tuple[int, ...] = (5, 8, 11, 14, 17, 20, 23)
    count: int = 7
    first: int = 5
    last: int = 23

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"attention.blocks.mode {self.mode!r} is none of {', '.join(MODES)}")

    def check(self, depth: int) -> None:
        """Raises ValueError for blocks that a model of this depth does not have."""
        have = f"the model has {depth} blocks, 0 to {depth - 1}"
        if self.mode == FIXED:
            unknown = [i for i in self.chosen if not 0 <= i < depth]
            if unknown or not self.chosen or len(set(self.chosen)) < len(self.chosen):
                what = f"block {unknown[0]} does not exist" if unknown else "name each block once"
                raise ValueError(f"attention.blocks.chosen {self.chosen}: {what}; {have}")
            return
        first, last = (self.first, self.last) if self.mode == SAMPLE else (0, depth - 1)
        if not 0 <= first <= last < depth:
            raise ValueError(f"attention.blocks.first {first}, last {last}: {have}")
        if not 1 <= self.count <= last - first + 1:
            raise ValueError(
                f"attention.blocks.count {self.count}: there are {last - first + 1} blocks to take"
            )

    @property
    def most(self) -> int:
        """How many there are in a step."""
        return len(self.chosen) if self.mode == FIXED else self.count

    def weights(self, depth: int, seed: int, step: Int[Array, ""]) -> Float[Array, " depth"]:
        """Of every block in a step: they sum to 1; drawn ones depend on (seed, step) alone."""
        if self.mode in (FIXED, UNIFORM):
            even = [i * depth // self.count for i in range(self.count)]
            places = jnp.array(self.chosen if self.mode == FIXED else even)
        else:
            first, last = (self.first, self.last) if self.mode == SAMPLE else (0, depth - 1)
            key = jax.random.fold_in(jax.random.key(seed), step)
            places = first + jax.random.permutation(key, last - first + 1)[: self.count]
        return jnp.zeros((depth,), jnp.float32).at[places].set(1.0 / self.most)


@dataclasses.dataclass(frozen=True)
class AttentionLoss:
    """How attention is led.

    Attributes:
      weight: lambda, of the loss beside that of the video; 0 leaves attention alone.
      direction: "video_to_text" (the paper's), "text_to_video", or the mean of "both".
      blocks: which are led.
      norm: what A is. "none", attention as it is, over all keys; "text", over those of the text.
      seed: of the blocks that are drawn.

    Raises:
      ValueError: a value that makes no sense, by name.
    """

    weight: float | int = 0.1
    direction: str = V2T
    blocks: Blocks = Blocks()
    norm: str = NONE
    seed: int = 0

    def __post_init__(self):
        if not self.weight >= 0:
            raise ValueError(f"attention.weight {self.weight} must be 0 or more")
        if self.direction not in DIRECTIONS:
            raise ValueError(
                f"attention.direction {self.direction!r} is none of {', '.join(DIRECTIONS)}"
            )
        if self.norm not in NORMS:
            hint = " (max and minmax are for looking at maps: as a loss they collapse)"
            raise ValueError(f"attention.norm {self.norm!r} is none of {', '.join(NORMS)}{hint}")
        if self.norm == TEXT and self.direction != V2T:
            raise ValueError("attention.norm 'text' is that of direction 'video_to_text'")

    def probe(
        self,
        depth: int,
        columns: Float[Array, "B K L"],
        aim: Float[Array, "B K N"],
        step: Int[Array, ""],
    ) -> Probe:
        """Looks from the first frame's tokens at the triggers; gives `SEEN`, each (B,).

        Args:
          depth: blocks of the model.
          columns: weights of the text's positions, for each of K targets.
          aim: their masks on the N tokens of the first latent frame, in [0, 1].
          step: of the training.
        """
        times = 2 if self.direction == BOTH else 1

        def score(maps: Float[Array, "B M N"]) -> dict[str, Array]:
            # The two directions share the weight of one; targets add up.
            return compare(maps, jnp.tile(aim, (1, times, 1)), times)

        return Probe(
            layers=self.blocks.weights(depth, self.seed, step),
            columns=columns,
            score=score,
            rows=(0, aim.shape[-1]),
            direction=self.direction,
            among="own" if self.norm == TEXT else "all",
            most=self.blocks.most,
        )


def compare(
    maps: Float[Array, "B M N"], aim: Float[Array, "B M N"], times: int = 1
) -> dict[str, Float[Array, " B"]]:
    """What there is to say of maps and the masks that they should be, see `SEEN`.

    The loss is the mean over tokens, added over maps and divided by `times`; the others, which have
    no gradient, are means over maps.
    """
    loss = jnp.square(maps - aim).mean(-1).sum(-1) / times
    maps = jax.lax.stop_gradient(maps)
    seen = measures(maps, aim)
    return {"loss": loss, **{name: x.mean(-1) for name, x in seen.items()}}


def seen_ratios(seen: dict[str, Array]) -> dict[str, Any]:
    """(sum, weight) of what a probe saw, named for the log."""
    names = {"loss": "attention", "iou": "attention_iou"}
    return {
        names.get(name, f"attention_{name}"): (x.sum(), jnp.float32(x.shape[0]))
        for name, x in seen.items()
    }
