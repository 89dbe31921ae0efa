"""Location-aware cross-attention: tokens near a trajectory read its text, all others the prompt.

A second cross-attention beside the published one, with projections and norms of its own:
x <- x + (1 - strength) CrossAttn(n, prompt) + strength LACA(n, prompt, texts, pairs).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct

GAUSSIANS = ("input", "value", "none")
FORMULATIONS = ("gather", "segments")
OUTSIDE = ("prompt", "skip")


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


@flax.struct.dataclass
class LocalTexts:
    """Texts of trajectories and where they hold, for a batch.

    Attributes:
      text: embedded texts (B, N, L, D), in the space of the prompt (`embed_text` of the backbone);
        position `lengths` and those behind are padding, of which there is at least one position.
        None where keys and values come from a cache.
      lengths: real positions of each text, (B, N) int32.
      token, owner, gauss, share: of the pairs, (B, S), see `tracks.neighbourhoods.Pairs`.
      strength: lambda, (B,) float32; traced.
    """

    text: Any
    lengths: Any
    token: Any
    owner: Any
    gauss: Any
    share: Any
    strength: Any
