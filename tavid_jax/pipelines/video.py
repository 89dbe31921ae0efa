"""What a pipeline gives: frames, and where they came from."""

from __future__ import annotations

import base64
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.viz import media

# Of mp4 files, 1..100: no block is seen.
QUALITY = 94


@dataclasses.dataclass(frozen=True, eq=False)
class Video:
    """A video that was made.

    Attributes:
      frames: RGB, 0..255.
      fps: frames per second.
      name: of its job, without ending.
      provenance: what made it: model, weights, prompt, seed, options. It stands in the file too.
      latents: what was decoded, in the transformer's units.
      masks: of its targets in the first frame, (H, W) in [0, 1] each.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    fps: int | float
    name: str
    provenance: Mapping[str, Any]
    latents: Float[np.ndarray, "F h w C"]
    masks: tuple[Float[np.ndarray, "H W"], ...] = ()

    def save(self, path: str | os.PathLike) -> Path:
        """Write it as .mp4, .webp or .gif; the file is whole or not there.

        Raises:
          ValueError: another ending.
          RuntimeError: mp4 without imageio-ffmpeg.
        """
        path = Path(path)
        format = path.suffix.lower().lstrip(".")
        if format not in ("mp4", "webp", "gif"):
            raise ValueError(f"{path}: videos are written as .mp4, .webp or .gif")
        path.parent.mkdir(parents=True, exist_ok=True)
        media.save(path, self._encoded(format))
        return path

    def _encoded(self, format: str) -> media.Media:
        return media.encode_animation(
            self.frames,
            self.fps,
            format=format,
            provenance=self.provenance,
            quality=QUALITY,
            hold_last=0.0,
            max_bytes=1 << 40,  # as good as it is, however large
        )

    def _repr_html_(self) -> str:
        """Shown by notebooks."""
        encoded = self._encoded("webp")
        data = base64.b64encode(encoded.data).decode("ascii")
        return f'<img src="data:{encoded.mime};base64,{data}" alt="{self.name}">'
