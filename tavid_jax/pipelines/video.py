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

from tavid_jax.pipelines.following import Guide
from tavid_jax.viz import media
from tavid_jax.viz.panels import Panel, side_by_side

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
      guide: what draws the condition videos or trajectories that it follows; None without.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    fps: int | float
    name: str
    provenance: Mapping[str, Any]
    latents: Float[np.ndarray, "F h w C"]
    masks: tuple[Float[np.ndarray, "H W"], ...] = ()
    guide: Guide | None = None

    def save(self, path: str | os.PathLike) -> Path:
        """Write it as .mp4, .webp or .gif; the file is whole or not there.

        Raises:
          ValueError: another ending.
          RuntimeError: mp4 without imageio-ffmpeg.
        """
        return self._saved(Path(path), self.frames)

    def save_beside_condition(self, path: str | os.PathLike) -> Path:
        """Write it beside the condition videos that it follows, for people to look at: see
        `save`; ValueError for a video that follows none."""
        if self.guide is None:
            raise ValueError(f"{self.name} follows no condition videos")
        shown = zip(self.guide.LABELS, self.guide.videos(), strict=True)
        panels = [Panel(label, video) for label, video in shown if video.any()]
        return self._saved(Path(path), side_by_side([*panels, Panel("video", self.frames)]))

    def _saved(self, path: Path, frames: UInt8[np.ndarray, "T H W 3"]) -> Path:
        format = path.suffix.lower().lstrip(".")
        if format not in ("mp4", "webp", "gif"):
            raise ValueError(f"{path}: videos are written as .mp4, .webp or .gif")
        path.parent.mkdir(parents=True, exist_ok=True)
        media.save(path, self._encoded(format, frames))
        return path

    def _encoded(self, format: str, frames: UInt8[np.ndarray, "T H W 3"]) -> media.Media:
        return media.encode_animation(
            frames,
            self.fps,
            format=format,
            provenance=self.provenance,
            quality=QUALITY,
            hold_last=0.0,
            max_bytes=1 << 40,  # as good as it is, however large
        )

    def _repr_html_(self) -> str:
        """Shown by notebooks."""
        encoded = self._encoded("webp", self.frames)
        data = base64.b64encode(encoded.data).decode("ascii")
        return f'<img src="data:{encoded.mime};base64,{data}" alt="{self.name}">'
