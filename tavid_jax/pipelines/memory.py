"""What is traded for memory: every lever for a model that is larger than the accelerator."""

from __future__ import annotations

import dataclasses

from tavid_jax.models.layers.tiling import Tiles

KEEP = ("device", "host", "none")


@dataclasses.dataclass(frozen=True)
class Memory:
    """Levers; the defaults hold one model at a time and change no numbers.

    Attributes:
      keep: what happens to a model's weights behind its phase: they stay on the "device", move to
        the "host"'s memory, or are dropped and read again when needed ("none").
      encoders_on: where prompts and images for cross-attention are encoded: "device", or "cpu",
        so that the text encoder never needs the accelerator's memory.
      tiles: autoencoders work on overlapping tiles of the picture: True for the published tiles.
        Blending changes the pixels near the tiles' borders.
      chunk: frames per chunk of the autoencoder; None is its own default. For Wan any number gives
        the same result; for CogVideoX, whose norms see a chunk, the default is part of the model.
      sequential_guidance: the branches of guidance are evaluated one after the other.
      int8: these models' large matrices are kept in 8 bits, "transformer" and "text_encoder".

    Raises:
      ValueError: an unknown value, by name.
    """

    keep: str = "none"
    encoders_on: str = "device"
    tiles: bool | Tiles = False
    chunk: int | None = None
    sequential_guidance: bool = False
    int8: tuple[str, ...] = ()

    def __post_init__(self):
        if self.keep not in KEEP:
            raise ValueError(f"memory.keep {self.keep!r}: there are {', '.join(KEEP)}")
        if self.encoders_on not in ("device", "cpu"):
            raise ValueError(f"memory.encoders_on {self.encoders_on!r}: there are device, cpu")
        unknown = set(self.int8) - {"transformer", "text_encoder"}
        if unknown:
            raise ValueError(f"memory.int8 {sorted(unknown)}: there are transformer, text_encoder")


# A 14B model on one card of 24 GB.
SMALLEST = Memory(
    encoders_on="cpu", tiles=True, sequential_guidance=True, int8=("transformer", "text_encoder")
)
