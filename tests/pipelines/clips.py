"""Small clips with captions, without files."""

from __future__ import annotations

import dataclasses

import numpy as np

from tavid_jax.data.clip import Clip
from tests.pipelines.reference import picture

CAPTIONS = ("a red ball", "a cat &amp;", "„blue“ square", "a red ball")


@dataclasses.dataclass
class Clips:
    """A source of clips that move."""

    size_hw: tuple[int, int]
    frames: int
    count: int = 3
    name: str = "moving"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Clip:
        if not 0 <= i < self.count:
            raise IndexError(i)
        height, width = self.size_hw
        wide = picture((height, width + self.frames), i)
        video = np.stack([wide[:, t : t + width] for t in range(self.frames)])
        return Clip(f"clip{i}", self.size_hw, 8, video=video, caption=CAPTIONS[i])
