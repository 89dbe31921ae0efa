"""Options of a location-aware cross-attention, and what it is given."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import flax.struct

GAUSSIANS = ("input", "value", "none")
FORMULATIONS = ("gather", "segments")
OUTSIDE = ("prompt", "skip")
OVERLAPS = ("owner", "blend", "concat")


@dataclasses.dataclass(frozen=True)
class Laca:
    """What a location-aware cross-attention is; static.

    Attributes:
      gaussian: what G scales: "input", the text's features before keys and values are projected
        (the paper's, exact); "value", values alone; "none".
      formulation: "gather" picks the pairs' tokens out; "segments" masks one attention over all
        texts (gaussian "value" or "none", overlap "owner").
      outside: what tokens in no neighbourhood read by the projections of their own: "prompt", as
        published, or "skip": they are left to the published cross-attention.
      overlap: "owner" | "blend" | "concat", see `tracks.neighbourhoods`.
      mask_pads: whether the padding of local texts is hidden, instead of counting as it does for
        the published model.
      rank: of a low-rank form, W' = W + B A on top of the published cross-attention; None: full.
      alpha: of it; the product is scaled by alpha / rank.
      layers: blocks that have one, ascending; None: all.
      strength: lambda where a batch does not give it.

    Raises:
      ValueError: a value out of range, by name; combinations that do not exist.
    """

    gaussian: str = "input"
    formulation: str = "gather"
    outside: str = "prompt"
    overlap: str = "owner"
    mask_pads: bool = False
    rank: int | None = None
    alpha: float | int | None = None
    layers: tuple[int, ...] | None = None
    strength: float | int = 0.5

    def __post_init__(self):
        choices = {
            "gaussian": GAUSSIANS,
            "formulation": FORMULATIONS,
            "outside": OUTSIDE,
            "overlap": OVERLAPS,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                _fail(f"{name} is {getattr(self, name)!r}: use one of {', '.join(known)}")
        if self.rank is not None and self.rank < 1:
            _fail(f"rank is {self.rank}: give 1 or more, or None for whole matrices")
        if self.alpha is not None and self.rank is None:
            _fail(f"alpha is {self.alpha}, but there is no rank that it belongs to: give one")
        if self.layers is not None and (
            not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0
        ):
            _fail(
                f"layers are {self.layers}: give blocks, each once and ascending, or None for all"
            )
        if not math.isfinite(self.strength):
            _fail(f"strength is {self.strength}: it must be finite")
        if self.formulation == "segments":
            self._check_segments()

    def _check_segments(self) -> None:
        """One softmax of a token over the texts of one owner, by keys that know no distance."""
        wanted = {"gaussian": ("value", "none"), "overlap": ("owner",), "outside": ("prompt",)}
        for name, known in wanted.items():
            if getattr(self, name) not in known:
                _fail(
                    f"formulation 'segments' exists for {name} {' or '.join(known)}, not for "
                    f"{getattr(self, name)!r}: use 'gather'"
                )

    @property
    def scale(self) -> float:
        """alpha / rank of a low-rank form; 1 where alpha is not given."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


@flax.struct.dataclass
class LocalTexts:
    """Texts of trajectories and where they hold, for a batch.

    Attributes:
      text: embedded texts (B, N, L, D), in the space of the prompt (`embed_text` of the backbone);
        position `lengths` and those behind are padding, of which there is at least one position.
        None where keys and values come from a cache.
      lengths: real positions of each text, (B, N) int32.
      token, owner, gauss, share: of the pairs, (B, S), see `tracks.neighbourhoods.Pairs`; S is its
        `capacity`, of which every frame has an equal part.
      strength: lambda, (B,) float32; traced.
    """

    text: Any
    lengths: Any
    token: Any
    owner: Any
    gauss: Any
    share: Any
    strength: Any


def _fail(what: str) -> None:
    raise ValueError(f"Laca: {what}")
