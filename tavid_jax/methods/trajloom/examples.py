"""From a clip to one example: two halves of tracks on the cell grid, and features beside them."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.engine.method import Spec


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Sizes of a clip. A window of `frames` frames is what the VAE encodes at once.

    Attributes:
      size_hw: frame size in pixels.
      stride: side of a cell in pixels: one track each.
      origin: "topleft" or "center": where in its cell a track starts.
      frames: frames of the history, and of the future (T = 4k + 1).
      temporal_stride: frames per latent frame.
    """

    size_hw: tuple[int, int]
    stride: int
    origin: str
    frames: int
    temporal_stride: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "size_hw", tuple(self.size_hw))
        if any(side % self.stride for side in self.size_hw):
            raise ValueError(
                f"data.size_hw {self.size_hw} is not a multiple of data.stride {self.stride}; "
                "change one of them"
            )
        if self.origin not in ("topleft", "center"):
            raise ValueError(f"data.origin {self.origin!r} is neither 'topleft' nor 'center'")
        if self.frames <= self.temporal_stride:
            raise ValueError(
                f"data.frames {self.frames}: at least {self.temporal_stride + 1} are needed "
                "(two latent frames)"
            )
        if (self.frames - 1) % self.temporal_stride:
            k = (self.frames - 1) // self.temporal_stride
            raise ValueError(
                f"data.frames {self.frames} is not {self.temporal_stride}k+1: take "
                f"{self.temporal_stride * k + 1} or {self.temporal_stride * (k + 1) + 1}"
            )

    @property
    def grid_hw(self) -> tuple[int, int]:
        return self.size_hw[0] // self.stride, self.size_hw[1] // self.stride

    @property
    def num_tokens(self) -> int:
        return self.grid_hw[0] * self.grid_hw[1]

    @property
    def latent_frames(self) -> int:
        return 1 + (self.frames - 1) // self.temporal_stride

    @property
    def query_row_col(self) -> tuple[int, int]:
        """The pixel of a cell that its track belongs to."""
        return (0, 0) if self.origin == "topleft" else (self.stride // 2, self.stride // 2)


@runtime_checkable
class Features(Protocol):
    """What a flow reads of a clip besides its tracks; see features.py."""

    def spec(self, geometry: Geometry) -> dict[str, Spec]:
        """Shapes, dtypes and logical axes, without the batch axis."""
        ...

    def __call__(self, clip: Clip, geometry: Geometry) -> dict[str, np.ndarray]:
        """The arrays of one clip. Raises ClipError for a clip that lacks what is needed."""
        ...


def example_of(clip: Clip, geometry: Geometry, features: Features | None = None) -> dict[str, Any]:
    """One example as numpy arrays; T frames of history, T of future, (gh, gw) cells.

    Returns "id", "history_tracks" and "future_tracks" float32 (T, gh, gw, 2) in pixels,
    "history_visibility" and "future_visibility" bool (T, gh, gw), and what `features` gives.

    Raises ClipError when the clip has another size or grid, too few frames, or lacks a field.
    """
    _check(clip, geometry)
    frames, (rows, columns) = geometry.frames, geometry.grid_hw

    def to_grid(x: np.ndarray, start: int) -> np.ndarray:
        window = np.moveaxis(x[:, start : start + frames], 0, 1)
        return np.ascontiguousarray(window.reshape(frames, rows, columns, *x.shape[2:]))

    seen = clip.visibility if clip.valid is None else clip.visibility & clip.valid
    return {
        "id": clip.id,
        "history_tracks": to_grid(clip.tracks, 0),
        "history_visibility": to_grid(seen, 0),
        "future_tracks": to_grid(clip.tracks, frames),
        "future_visibility": to_grid(seen, frames),
    } | ({} if features is None else features(clip, geometry))


def example_spec(geometry: Geometry, features: Features | None = None) -> dict[str, Spec]:
    """Shapes, dtypes and logical axes of `example_of`, without the batch axis."""
    grid = (geometry.frames, *geometry.grid_hw)
    axes = ("time", None, None)
    spec = {
        f"{half}_{name}": Spec((*grid, *rest), dtype, (*axes, *(None for _ in rest)))
        for half in ("history", "future")
        for name, rest, dtype in (("tracks", (2,), np.float32), ("visibility", (), np.bool_))
    }
    return spec | ({} if features is None else features.spec(geometry))


def _check(clip: Clip, geometry: Geometry) -> None:
    def fail(field: str, what: str) -> None:
        raise ClipError(f"clip {clip.id!r}: field {field!r} {what}")

    if tuple(clip.size_hw) != geometry.size_hw:
        fail("size_hw", f"is {tuple(clip.size_hw)}, the config says {geometry.size_hw}")
    if clip.tracks is None or clip.visibility is None:
        fail("tracks", "and 'visibility' are needed; track the clip first")
    if clip.grid_hw is None or tuple(clip.grid_hw) != geometry.grid_hw:
        fail("grid_hw", f"is {clip.grid_hw}, the config needs a grid of {geometry.grid_hw} cells")
    if clip.num_frames < 2 * geometry.frames:
        fail("tracks", f"has {clip.num_frames} frames, {2 * geometry.frames} are needed")
