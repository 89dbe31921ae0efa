"""Track files in TrajLoom's public npz layout: strict reader and writer."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.data.cache import save_npz
from tavid_jax.data.clip import ClipError
from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.npy import float32, load_npz

# First match wins, as in TrajLoom's public data set class.
TRACK_KEYS = ("trajectory", "trajectories", "tracks")
VISIBILITY_KEYS = ("visibility", "visibilities", "vis")
OFFICIAL_SIZE_HW = (480, 832)


class TrackFileError(ClipError):
    """A track file breaks the layout; the message names the file and the key."""


@dataclasses.dataclass(frozen=True, eq=False)
class TrackFile:
    """Tracks read from a file.

    Attributes:
      tracks: (N, T, 2), (x, y) px of `size_hw`, pixel centres at integers; may hold NaN.
      visibility: (N, T), True = visible.
      size_hw: (H, W) that the pixels refer to, None if the file does not say.
      query_xy: (N, 2) px, None if the file does not say.
      fps: frames per second, None if the file does not say.
    """

    tracks: Float[np.ndarray, "N T 2"]
    visibility: Bool[np.ndarray, "N T"]
    size_hw: tuple[int, int] | None = None
    query_xy: Float[np.ndarray, "N 2"] | None = None
    fps: float | int | None = None


def read_tracks(path: str | os.PathLike, *, axis_order: Literal["xy", "yx"] = "xy") -> TrackFile:
    """Reads one `<video stem>.npz`.

    Keys, first match wins: tracks (N, T, 2) in `trajectory`, `trajectories`, `tracks`; visibility
    (N, T), bool or 0/1, in `visibility`, `visibilities`, `vis`. Optional beyond the public
    layout: `size_hw`, `query_xy`, `fps`. Nothing is guessed or transposed.

    Raises:
      TrackFileError: unreadable file, missing key, or a wrong shape or dtype.
    """
    if axis_order not in ("xy", "yx"):
        raise ValueError(f"axis_order must be 'xy' or 'yx', got {axis_order!r}")
    arrays = _load(path)
    name, tracks = _pick(path, arrays, TRACK_KEYS)
    if tracks.ndim != 3 or tracks.shape[-1] != 2 or tracks.dtype.kind not in "fiu":
        raise TrackFileError(
            f"{path}: {name!r} must be numbers of shape (N, T, 2), got {tracks.dtype} "
            f"{tracks.shape}"
        )
    vis_name, visibility = _pick(path, arrays, VISIBILITY_KEYS)
    if visibility.shape != tracks.shape[:2]:
        turned = visibility.shape == tracks.shape[1::-1]
        mend = "; one of the two is time-major, transpose it" if turned else ""
        raise TrackFileError(
            f"{path}: {vis_name!r} must have shape (N, T) = {tracks.shape[:2]} as {name!r}, got "
            f"{visibility.shape}{mend}"
        )
    if visibility.dtype.kind not in "biuf" or not np.isin(visibility, (0, 1)).all():
        raise TrackFileError(f"{path}: {vis_name!r} must be bool or 0/1, got {visibility.dtype}")
    with reading(path, TrackFileError, "tracks"):
        limits.check_tracks(*tracks.shape[:2])
    tracks = float32(tracks)
    return TrackFile(
        tracks=tracks[..., ::-1].copy() if axis_order == "yx" else tracks,
        visibility=visibility.astype(bool),
        size_hw=_optional_size(path, arrays),
        query_xy=_optional_queries(path, arrays, len(tracks)),
        fps=_optional_rate(path, arrays),
    )


def write_tracks(path: str | os.PathLike, file: TrackFile) -> None:
    """Writes one track file, atomically, with keys that `read_tracks` and TrajLoom's reader take.

    Raises:
      TrackFileError: shapes of tracks and visibility do not fit together.
    """
    if file.visibility.shape != file.tracks.shape[:2]:
        raise TrackFileError(
            f"{path}: visibility {file.visibility.shape} does not fit tracks {file.tracks.shape}"
        )
    extras = {"size_hw": file.size_hw, "query_xy": file.query_xy, "fps": file.fps}
    save_npz(
        path,
        trajectory=file.tracks.astype(np.float32),
        visibility=file.visibility.astype(bool),
        **{key: np.asarray(value) for key, value in extras.items() if value is not None},
    )


def _load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise TrackFileError(f"{path}: no such track file")
    with reading(path, TrackFileError, "an npz file"):
        return load_npz(path)


def _pick(path, arrays: dict[str, np.ndarray], keys: tuple[str, ...]) -> tuple[str, np.ndarray]:
    for key in keys:
        if key in arrays:
            return key, arrays[key]
    raise TrackFileError(f"{path}: none of the keys {list(keys)} is there, only {sorted(arrays)}")


def _optional_size(path, arrays: dict[str, np.ndarray]) -> tuple[int, int] | None:
    if "size_hw" not in arrays:
        return None
    size = arrays["size_hw"]
    whole = size.shape == (2,) and size.dtype.kind in "iuf" and np.isfinite(size).all()
    if not whole or not (size >= 1).all():
        raise TrackFileError(f"{path}: 'size_hw' must be two positive numbers, got {size}")
    return int(size[0]), int(size[1])


def _optional_rate(path, arrays: dict[str, np.ndarray]) -> float | None:
    if "fps" not in arrays:
        return None
    rate = arrays["fps"]
    if rate.shape != () or rate.dtype.kind not in "iuf" or not 0 < rate < np.inf:
        raise TrackFileError(f"{path}: 'fps' must be one positive number, got {rate}")
    return float(rate)


def _optional_queries(path, arrays: dict[str, np.ndarray], n: int) -> np.ndarray | None:
    if "query_xy" not in arrays:
        return None
    query = arrays["query_xy"]
    if query.shape != (n, 2) or query.dtype.kind not in "iuf":
        raise TrackFileError(
            f"{path}: 'query_xy' must have shape (N, 2) = ({n}, 2), got {query.dtype} {query.shape}"
        )
    return float32(query)
