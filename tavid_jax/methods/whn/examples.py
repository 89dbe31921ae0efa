"""From a clip to one example: tracks of a grid of points, and what is read of its first picture."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.engine.method import Spec
from tavid_jax.methods.whn.frames import FrameFeatures
from tavid_jax.tracks.coordinates import AnyArray, denormalise, normalise
from tavid_jax.tracks.grid import grid_shape, query_points, query_row_col


@dataclasses.dataclass(frozen=True)
class Window:
    """Sizes of what is moved at once: F frames, of which the first is the given picture.

    Attributes:
      size_hw: frame size in pixels.
      stride: side of a cell in pixels: one point each.
      origin: "topleft" (published) or "center": where in its cell a point starts.
      frames: F.
    """

    size_hw: tuple[int, int]
    stride: int
    origin: str
    frames: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size_hw", tuple(self.size_hw))
        grid_shape(self.size_hw, self.stride)
        query_row_col(self.stride, self.origin)
        if self.frames < 2:
            raise ValueError(
                f"data.frames {self.frames}: a picture and what follows are at least 2"
            )

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of points."""
        return grid_shape(self.size_hw, self.stride)

    @property
    def start(self) -> Float[np.ndarray, "gh gw 2"]:
        """Where the points are in the picture, pixels (centres at integers)."""
        return query_points(self.size_hw, self.stride, self.origin).reshape(*self.grid_hw, 2)


def to_model(xy: AnyArray, size_hw: tuple[int, int]) -> AnyArray:
    """Pixels (centres at integers) -> what the networks see: 2 (x + 1/2) / W - 1 (published)."""
    return normalise(xy + 0.5, size_hw)


def to_pixels(xy: AnyArray, size_hw: tuple[int, int]) -> AnyArray:
    """The inverse of `to_model`."""
    return denormalise(xy, size_hw) - 0.5


def example_of(
    clip: Clip, window: Window, features: FrameFeatures, limit: float = 0.0
) -> dict[str, Any]:
    """One example as numpy arrays, from the first F frames of a clip.

    Returns "id", "tracks" float32 (F, gh, gw, 2) in pixels, "frame" (what `features` reads of the
    first picture), and "weight" float32 (): 0 where a point goes further than `limit` sides of the
    frame from its corner (published: 1.5), 0 for no limit, else 1.

    Raises ClipError when the clip has another size or grid, too few frames, or lacks a field.
    """
    _check(clip, window)
    tracks = np.moveaxis(clip.tracks[:, : window.frames], 0, 1)
    tracks = np.ascontiguousarray(tracks.reshape(window.frames, *window.grid_hw, 2), np.float32)
    sides = np.asarray(window.size_hw[::-1], np.float32)
    far = bool(limit) and bool(np.any(np.abs(tracks + 0.5) > limit * sides))
    return {
        "id": clip.id,
        "tracks": tracks,
        "frame": features.read(clip.video[0]),
        "weight": np.float32(not far),
    }


def example_spec(window: Window, features: FrameFeatures) -> dict[str, Spec]:
    """Shapes, dtypes and logical axes of `example_of`, without the batch axis."""
    return {
        "tracks": Spec((window.frames, *window.grid_hw, 2), np.float32, ("time", None, None, None)),
        "frame": features.spec(),
        "weight": Spec((), np.float32, ()),
    }


def _check(clip: Clip, window: Window) -> None:
    def fail(field: str, what: str) -> None:
        raise ClipError(f"clip {clip.id!r}: field {field!r} {what}")

    if tuple(clip.size_hw) != window.size_hw:
        fail("size_hw", f"is {tuple(clip.size_hw)}, the config says {window.size_hw}")
    if clip.video is None:
        fail("video", "is missing: what moves is told from its first picture; render or decode it")
    if clip.tracks is None:
        fail("tracks", "are needed; track the clip first")
    if clip.grid_hw is None or tuple(clip.grid_hw) != window.grid_hw:
        fail("grid_hw", f"is {clip.grid_hw}, the config needs a grid of {window.grid_hw} points")
    if clip.num_frames < window.frames:
        fail("tracks", f"has {clip.num_frames} frames, {window.frames} are needed")
