"""Formats of files of tracks: which one a file is of and what it holds (`trajectory_files`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.data import other_tracks, point_lists
from tavid_jax.data.arrays import read_npy, read_npz, read_pickle
from tavid_jax.data.official import (
    OFFICIAL_SIZE_HW,
    TRACK_KEYS,
    VISIBILITY_KEYS,
    TrackFileError,
    read_tracks,
)
from tavid_jax.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.untrusted.errors import UntrustedError, reading
from tavid_jax.untrusted.texts import parse_json, read_text

KINDS = (
    "points", "arrays", "trajloom", "flextraj", "spatialtracker", "cotracker", "tapir", "wan_move",
    "comfy", "keypoints",
)  # fmt: skip
ARRAY_KEYS = (
    "tracks", "visibility", "size_hw", "depth", "segment", "segments", "number", "colour", "fps",
    "texts",
)  # fmt: skip
_FIELDS = {
    "tracks": ("fiu", ("N", "T", 2)),
    "visibility": ("b", ("N", "T")),
    "depth": ("fiu", ("N", "T")),
    "segment": ("iu", ("N",)),
    "number": ("iu", ("N",)),
    "colour": ("u", ("N", 3)),
    "texts": ("U", ("N",)),
}
_KINDS_OF = {"fiu": "numbers", "b": "bool", "iu": "integers", "u": "uint8", "U": "strings"}
# Sizes of files of formats that mean one, but do not say it.
USUAL_HW = {"flextraj": other_tracks.FLEXTRAJ_SIZE_HW, "trajloom": OFFICIAL_SIZE_HW}
_TRACKER_TRACKS, _TRACKER_SEEN = ("pred_tracks", "tracks"), ("pred_visibility", "visibility")


def opened(path: str | os.PathLike, kind: str | None) -> tuple[Any, str]:
    """(what a file holds, its format: `kind`, or else told from name and content).

    Raises:
      ClipError: unreadable, or of no known format; the message says what it holds.
    """
    if kind is not None and kind not in KINDS:
        raise TrackFileError(f"no format {kind!r} of tracks: use one of {', '.join(KINDS)}")
    held = _held(path)
    return held, kind or _identified(path, held)


def _held(path: str | os.PathLike) -> Any:
    """What the file holds: a dict of arrays, an array, or parsed JSON."""
    suffix = Path(path).suffix.lower()
    if suffix in (".json", ".txt"):
        return _json(path)
    readers = {".npz": read_npz, ".npy": read_npy, ".pkl": read_pickle}
    if suffix in readers:
        return readers[suffix](path)
    if suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES or Path(path).is_dir():
        raise TrackFileError(
            f"{path}: is a video or picture, no file of tracks; make tracks from a video by "
            "`python -m tavid_jax.data track VIDEO OUT.npz`"
        )
    raise TrackFileError(f"{path}: tracks are .json, .txt, .npz, .npy or .pkl files")


def _json(path: str | os.PathLike) -> Any:
    if not Path(path).is_file():
        raise TrackFileError(f"{path}: no such file")
    with reading(path, TrackFileError, "JSON of tracks"):
        text = read_text(path, "json_bytes")
        if not text.strip():
            raise UntrustedError("file is empty")
        if '"' not in text:  # as node tools print coordinates
            text = text.replace("'", '"')
        return parse_json(text, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise UntrustedError(f"{name} is no place; write null where a point is not visible")


def _identified(path: str | os.PathLike, held: Any) -> str:
    if isinstance(held, list):
        return "comfy"
    if isinstance(held, np.ndarray):
        kind = _array_kind(path, held)
    else:
        kind = _dict_kind(path, held) if isinstance(held, Mapping) else None
    if kind is None:
        raise TrackFileError(
            f"{path}: no known format of tracks; it holds {_told(held)}. Known are "
            f"{', '.join(KINDS)}: name one by `kind` (--kind) if it is one of them"
        )
    return kind


def _array_kind(path: str | os.PathLike, array: np.ndarray) -> str | None:
    numeric = array.dtype.kind in "fiu"
    named = Path(path).name.endswith("tracks.npy")
    if numeric and array.ndim in (3, 4) and array.shape[-1] == 2 and (named or array.ndim == 4):
        return "wan_move"
    return "keypoints" if numeric and array.ndim == 3 and array.shape[-1] in (2, 3) else None


def _dict_kind(path: str | os.PathLike, held: Mapping) -> str | None:
    if "points" in held:
        return "points"
    if "track_path" in held:
        return "comfy"
    if held and all(isinstance(key, int | np.integer) for key in held):
        raise TrackFileError(
            f"{path}: holds a dict by frame number: masks, no tracks (see `rle_masks`)"
        )
    tracks = _first(held, ("pred_tracks", *TRACK_KEYS))
    if not isinstance(tracks, np.ndarray):
        return None
    if "visibles" in held or "occlusion" in held:
        return "tapir"
    seen = _first(held, (*_TRACKER_SEEN, *VISIBILITY_KEYS))
    if not isinstance(seen, np.ndarray) or tracks.ndim not in (3, 4):
        return None
    if tracks.shape[-1] == 3:
        own = "tracks" in held and tracks.ndim == 4 and Path(path).suffix.lower() == ".npy"
        return "flextraj" if own else "spatialtracker"
    if tracks.ndim == 4 or "pred_tracks" in held:
        return "cotracker"
    # Both say a size; where points were asked for is only TrajLoom's.
    own = "tracks" in held and "size_hw" in held and "query_xy" not in held
    return "arrays" if own else "trajloom"


def _first(held: Mapping, keys: tuple[str, ...]) -> Any:
    return next((held[key] for key in keys if key in held), None)


def _told(held: Any) -> str:
    if isinstance(held, np.ndarray):
        return f"an array {held.dtype} {held.shape}"
    if not isinstance(held, Mapping):
        return f"a {type(held).__name__}"
    arrays = [f"{k!r} {_told(v).removeprefix('an array ')}" for k, v in list(held.items())[:8]]
    return ", ".join(arrays) or "nothing"


# --- readers: (path, content, size if it says none, T if it says none) -> Trajectories

Reader = Callable[[Any, Any, tuple[int, int] | None, int | None], Trajectories]


def _sized(size_hw: tuple[int, int] | None) -> tuple[int, int]:
    if size_hw is None:
        raise TrackFileError(
            "does not say which size its pixels refer to: give size_hw (--size HxW), that of the "
            "frames that were tracked"
        )
    return tuple(size_hw)


def _read_points(path, held: Any, size_hw, frames) -> Trajectories:
    if not isinstance(held, Mapping):
        raise TrackFileError(f"holds {_told(held)}, not an object with 'points'")
    return point_lists.parse_points(held, size_hw=size_hw, frames=frames)


def _read_arrays(path, held: Any, size_hw, frames) -> Trajectories:
    held = _mapping(held)
    unknown = sorted(set(held) - set(ARRAY_KEYS))
    if unknown:
        raise TrackFileError(f"has unknown keys {unknown}; known are {', '.join(ARRAY_KEYS)}")
    missing = [key for key in ("tracks", "visibility") if key not in held]
    if missing:
        raise TrackFileError(f"has no {missing[0]!r}, only {sorted(held)}")
    size = np.asarray(held["size_hw"]) if "size_hw" in held else np.array(_sized(size_hw))
    if size.shape != (2,) or size.dtype.kind not in "iu":
        raise TrackFileError(f"'size_hw' must be two integers, got {size.dtype} {size.shape}")
    held = {**held, "visibility": other_tracks.as_bool("visibility", held["visibility"])}
    _check_fields(held)
    single = {key: _single(key, held[key]) for key in ("segments", "fps") if key in held}
    if "segment" in held and "segments" not in held and held["segment"].dtype.kind in "iu":
        single["segments"] = int(held["segment"].max(initial=0))
    fields = {k: v for k, v in held.items() if k not in ("size_hw", "segments", "fps")}
    if "texts" in held:
        fields["texts"] = tuple(held["texts"].tolist())
    return Trajectories(size_hw=(int(size[0]), int(size[1])), **fields, **single)


def _check_fields(held: Mapping) -> None:
    sizes: dict[str, int] = {}
    for key, (kinds, shape) in _FIELDS.items():
        if key not in held:
            continue
        array = held[key]
        wanted = "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
        fits = array.ndim == len(shape) and all(
            side == (letter if isinstance(letter, int) else sizes.setdefault(letter, side))
            for side, letter in zip(array.shape, shape, strict=True)
        )
        if not fits or array.dtype.kind not in kinds:
            known = ", ".join(f"{letter}={side}" for letter, side in sizes.items())
            raise TrackFileError(
                f"{key!r} must be {_KINDS_OF[kinds]} {wanted}, got {array.dtype} {array.shape}"
                + (f" with {known}" if known else "")
            )


def _single(key: str, value: np.ndarray) -> float | int:
    if value.shape != () or value.dtype.kind not in "fiu":
        raise TrackFileError(f"{key!r} must be one number, got {value.dtype} {value.shape}")
    return value.item()


def _read_trajloom(path, held: Any, size_hw, frames) -> Trajectories:
    file = read_tracks(path)
    return Trajectories(file.tracks, file.visibility, file.size_hw or _sized(size_hw), fps=file.fps)


def _read_flextraj(path, held: Any, size_hw, frames) -> Trajectories:
    return other_tracks.from_flextraj(_mapping(held), _sized(size_hw))


def _read_tracker(make: Callable[..., Trajectories]) -> Reader:
    def read(path, held: Any, size_hw, frames) -> Trajectories:
        held = _mapping(held)
        tracks, seen = _first(held, _TRACKER_TRACKS), _first(held, _TRACKER_SEEN)
        if tracks is None or seen is None:
            raise TrackFileError(
                f"must have 'pred_tracks' and 'pred_visibility', got {_told(held)}"
            )
        return make(tracks, seen, _sized(size_hw))

    return read


def _read_tapir(path, held: Any, size_hw, frames) -> Trajectories:
    held = _mapping(held)
    given = {k: held[k] for k in ("visibles", "occlusion", "expected_dist") if k in held}
    if "visibles" in given:
        given = {"visibles": given["visibles"]}
    if "tracks" not in held:
        raise TrackFileError(f"has no 'tracks', it holds {_told(held)}")
    return other_tracks.from_tapir(held["tracks"], _sized(size_hw), **given)


def _read_wan_move(path, held: Any, size_hw, frames) -> Trajectories:
    beside = visibility_beside(path)
    if not beside.is_file():
        raise TrackFileError(
            f"{beside.name} is not beside it; if all points are always visible, read it as "
            "kind 'keypoints'"
        )
    return other_tracks.from_wan_move(_array(held), read_npy(beside), _sized(size_hw))


def _read_comfy(path, held: Any, size_hw, frames) -> Trajectories:
    return other_tracks.from_comfy(held, _sized(size_hw))


def _read_keypoints(path, held: Any, size_hw, frames) -> Trajectories:
    return other_tracks.from_keypoints(_array(held), _sized(size_hw))


READERS: dict[str, Reader] = {
    "points": _read_points,
    "arrays": _read_arrays,
    "trajloom": _read_trajloom,
    "flextraj": _read_flextraj,
    "spatialtracker": _read_tracker(other_tracks.from_spatialtracker),
    "cotracker": _read_tracker(other_tracks.from_cotracker),
    "tapir": _read_tapir,
    "wan_move": _read_wan_move,
    "comfy": _read_comfy,
    "keypoints": _read_keypoints,
}


def _mapping(held: Any) -> Mapping:
    if not isinstance(held, Mapping) or not all(isinstance(key, str) for key in held):
        raise TrackFileError(f"holds {_told(held)}, not arrays by name")
    return held


def _array(held: Any) -> np.ndarray:
    if not isinstance(held, np.ndarray):
        raise TrackFileError(f"holds {_told(held)}, not one array")
    return held


def visibility_beside(path: str | os.PathLike) -> Path:
    """Wan-Move's NAME_visibility.npy of NAME_tracks.npy.

    Raises:
      TrackFileError: another name.
    """
    path = Path(path)
    if not path.name.endswith("tracks.npy"):
        raise TrackFileError(f"{path}: Wan-Move's files are named NAME_tracks.npy")
    return path.with_name(path.name.removesuffix("tracks.npy") + "visibility.npy")
