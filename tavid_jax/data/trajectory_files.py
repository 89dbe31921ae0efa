"""Files of trajectories: read in any known format, written in our own, FlexTraj's and Wan-Move's.

Formats, by the name that `kind` takes:

    points          .json; points and the places that they pass, for people: see `point_lists`
    arrays          .npz, our own arrays, listed below
    trajloom        .npz of TrajLoom: see `official`
    flextraj        .npy of FlexTraj: a pickled dict of tracks and visibility, 480x720 px
    spatialtracker  .npz, .npy or .pkl with pred_tracks or tracks (B, T, N, 3), and
                    pred_visibility or visibility (B, T, N)
    cotracker       the same with (B, T, N, 2)
    tapir           the same suffixes with tracks (N, T, 2), and visibles or occlusion (N, T)
    wan_move        NAME_tracks.npy, with NAME_visibility.npy beside it
    comfy           .json or .txt with coordinates, or a dict with track_path: see `other_tracks`
    keypoints       .npy with (T, K, 2)

Our own npz holds the fields of `Trajectories`:

    tracks      float (N, T, 2), (x, y) px, centres of pixels at integers. Needed.
    visibility  bool (N, T). Needed.
    size_hw     int (2,), H and W. Needed.
    depth       float (N, T), smaller = nearer.
    segment     int (N,), 0 = in none, k = in segment k.
    segments    int (), how many there are.
    colour      uint8 (N, 3), RGB.
    fps         float ().

Any other key in it is an error. TrajLoom's reader takes such a file too. Pickled files are read
without running what they hold (`arrays`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.data import other_tracks, point_lists
from tavid_jax.data.arrays import npy_bytes, read_npy, read_npz, read_pickle
from tavid_jax.data.cache import save_npz, write_whole
from tavid_jax.data.clip import ClipError
from tavid_jax.data.official import (
    OFFICIAL_SIZE_HW,
    TRACK_KEYS,
    VISIBILITY_KEYS,
    TrackFileError,
    read_tracks,
)
from tavid_jax.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from tavid_jax.tracks.coordinates import resize
from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError

KINDS = (
    "points", "arrays", "trajloom", "flextraj", "spatialtracker", "cotracker", "tapir", "wan_move",
    "comfy", "keypoints",
)  # fmt: skip
ARRAY_KEYS = (
    "tracks", "visibility", "size_hw", "depth", "segment", "segments", "colour", "fps"
)  # fmt: skip
# Sizes of files of formats that mean one, but do not say it.
_USUAL_HW = {"flextraj": other_tracks.FLEXTRAJ_SIZE_HW, "trajloom": OFFICIAL_SIZE_HW}
_TRACKER_TRACKS, _TRACKER_SEEN = ("pred_tracks", "tracks"), ("pred_visibility", "visibility")


def read_trajectories(
    path: str | os.PathLike,
    *,
    size_hw: tuple[int, int] | None = None,
    frames: int | None = None,
    kind: str | None = None,
    stored_hw: tuple[int, int] | None = None,
    rescale: bool = False,
) -> Trajectories:
    """Reads one file of trajectories.

    Args:
      path: of the file.
      size_hw: (H, W) of the frames that the trajectories are for; None = the file's own.
      frames: T; a longer file is cut to its first T frames. None = all.
      kind: one of `KINDS`; None = told from the name and the content.
      stored_hw: (H, W) that the file's pixels refer to, if it does not say. Without it that is
        480x720 for "flextraj", 480x832 for "trajloom", and else `size_hw`.
      rescale: bring tracks of another size than `size_hw` to it; else they are an error.

    Raises:
      ClipError: the message names the file and what is wrong: absent, empty, damaged, of unknown
        format, fewer frames, another size, places that are not finite, content that could run.
    """
    held, found = _opened(path, kind)
    try:
        usual = stored_hw or _USUAL_HW.get(found) or size_hw
        trajectories = _READERS[found](path, held, usual, frames)
        if stored_hw and tuple(trajectories.size_hw) != tuple(stored_hw):
            raise TrackFileError(f"says that it is in pixels of {_wh(trajectories.size_hw)}")
        trajectories = _brought(trajectories, size_hw, rescale)
        if frames is not None and frames != trajectories.num_frames:
            trajectories = trajectories.window(0, frames)
    except (ClipError, TrajectoryError) as error:
        words = str(error).removeprefix(f"{path}: ")
        raise TrackFileError(f"{path} (format {found!r}): {words}") from error
    return trajectories


def read_pair(paths: str | os.PathLike, **options: Any) -> tuple[Trajectories, Trajectories | None]:
    """Reads FlexTraj's "forward.npy,reverse.npy"; None for the second if there is only one.

    The reverse tracks start at points of the last frame (see `tracks` for how both are merged).

    Args:
      paths: one path or two with a comma between.
      **options: of `read_trajectories`.

    Raises:
      ClipError: more than two, different numbers of frames, or see `read_trajectories`.
    """
    parts = split_paths(paths)
    if len(parts) > 2:
        raise TrackFileError(f"{paths}: {len(parts)} files; give one, or forward,reverse")
    forward, *rest = (read_trajectories(part, **options) for part in parts)
    for reverse in rest:
        if reverse.num_frames != forward.num_frames:
            raise TrackFileError(
                f"{parts[0]} has {forward.num_frames} frames, {parts[1]} {reverse.num_frames}: "
                "forward and reverse tracks must be of the same clip"
            )
    return forward, rest[0] if rest else None


def split_paths(paths: str | os.PathLike) -> list[str]:
    """The parts of "a,b"; a file whose own name holds a comma is one."""
    text = os.fspath(paths)
    if os.path.exists(text):
        return [text]
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise TrackFileError(f"{text!r}: give one path, or two with a comma between")
    return parts


def identify(path: str | os.PathLike) -> str:
    """The format of a file, one of `KINDS`.

    Raises:
      ClipError: unreadable, or none of them; the message says what it holds.
    """
    return _opened(path, None)[1]


def write_trajectories(
    path: str | os.PathLike, trajectories: Trajectories, *, kind: str | None = None
) -> None:
    """Writes trajectories, whole or not at all.

    Args:
      path: of the file; "wan_move" writes NAME_visibility.npy too.
      trajectories: what is kept exactly in "points" and "arrays"; "flextraj" keeps tracks, depth
        and visibility, "wan_move" only tracks and visibility.
      kind: "points" (the default of .json), "arrays" (of .npz), "flextraj" (of .npy) or "wan_move"
        (of ..._tracks.npy).

    Raises:
      TrackFileError: a suffix or a kind that cannot be written.
      OSError: the place cannot be written.
    """
    path = Path(path)
    kind = kind or _kind_to_write(path)
    if kind == "points":
        write_whole(path, point_lists.format_points(trajectories).encode())
    elif kind == "arrays":
        values = {name: getattr(trajectories, name) for name in ARRAY_KEYS}
        save_npz(path, **{k: np.asarray(v) for k, v in values.items() if v is not None})
    elif kind == "flextraj":
        write_whole(path, npy_bytes(other_tracks.to_flextraj(trajectories)))
    elif kind == "wan_move":
        tracks, seen = other_tracks.to_wan_move(trajectories)
        write_whole(_visibility_beside(path), npy_bytes(seen))
        write_whole(path, npy_bytes(tracks))
    else:
        raise TrackFileError(
            f"{path}: {kind!r} cannot be written; use points, arrays, flextraj or wan_move"
        )


def resized(trajectories: Trajectories, size_hw: tuple[int, int]) -> Trajectories:
    """Trajectories of the same frames resized; pixel centres move as image resizing moves them."""
    tracks = resize(trajectories.tracks, trajectories.size_hw, size_hw)
    return trajectories.replace(tracks=tracks, size_hw=tuple(size_hw))


# --- what a file holds, and which format that is


def _opened(path: str | os.PathLike, kind: str | None) -> tuple[Any, str]:
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
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if not text.strip():
            raise TrackFileError(f"{path}: file is empty")
        if '"' not in text:  # as node tools print coordinates
            text = text.replace("'", '"')
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise TrackFileError(f"{path}: is no JSON of tracks (nested too deep)") from error
    except (UnicodeDecodeError, json.JSONDecodeError, _ConstantError) as error:
        raise TrackFileError(f"{path}: is no JSON that can be read ({error})") from error


class _ConstantError(ValueError):
    pass


def _no_constant(name: str) -> None:
    raise _ConstantError(f"{name} is no place; write null where a point is not visible")


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
    return "arrays" if "tracks" in held and "size_hw" in held else "trajloom"


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
    single = {key: _single(key, held[key]) for key in ("segments", "fps") if key in held}
    fields = {k: v for k, v in held.items() if k not in ("size_hw", "segments", "fps")}
    fields["visibility"] = other_tracks.as_bool("visibility", fields["visibility"])
    return Trajectories(size_hw=(int(size[0]), int(size[1])), **fields, **single)


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
                f"must have 'pred_tracks' and 'pred_visibility', got {sorted(map(str, held))}"
            )
        return make(tracks, seen, _sized(size_hw))

    return read


def _read_tapir(path, held: Any, size_hw, frames) -> Trajectories:
    held = _mapping(held)
    given = {k: held[k] for k in ("visibles", "occlusion", "expected_dist") if k in held}
    if "visibles" in given:
        given = {"visibles": given["visibles"]}
    if "tracks" not in held:
        raise TrackFileError(f"has no 'tracks', only {sorted(map(str, held))}")
    return other_tracks.from_tapir(held["tracks"], _sized(size_hw), **given)


def _read_wan_move(path, held: Any, size_hw, frames) -> Trajectories:
    beside = _visibility_beside(path)
    if not beside.is_file():
        raise TrackFileError(
            f"{beside.name} is not beside it; if all points are always visible, read it as "
            "kind 'keypoints'"
        )
    return other_tracks.from_wan_move(held, read_npy(beside), _sized(size_hw))


def _read_comfy(path, held: Any, size_hw, frames) -> Trajectories:
    return other_tracks.from_comfy(held, _sized(size_hw))


def _read_keypoints(path, held: Any, size_hw, frames) -> Trajectories:
    if isinstance(held, np.ndarray) and held.ndim == 4 and len(held) == 1:
        held = held[0]
    return other_tracks.from_keypoints(held, _sized(size_hw))


_READERS: dict[str, Reader] = {
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
    if not isinstance(held, Mapping):
        raise TrackFileError(f"holds {_told(held)}, not arrays by name")
    return held


def _visibility_beside(path: str | os.PathLike) -> Path:
    path = Path(path)
    if not path.name.endswith("tracks.npy"):
        raise TrackFileError(f"{path}: Wan-Move's files are named NAME_tracks.npy")
    return path.with_name(path.name.removesuffix("tracks.npy") + "visibility.npy")


def _kind_to_write(path: Path) -> str:
    if path.name.endswith("_tracks.npy"):
        return "wan_move"
    kinds = {".json": "points", ".npz": "arrays", ".npy": "flextraj"}
    if path.suffix.lower() not in kinds:
        raise TrackFileError(f"{path}: tracks are written as .json, .npz or .npy")
    return kinds[path.suffix.lower()]


def _brought(
    trajectories: Trajectories, size_hw: tuple[int, int] | None, rescale: bool
) -> Trajectories:
    if size_hw is None or tuple(trajectories.size_hw) == tuple(size_hw):
        return trajectories
    if not rescale:
        raise TrackFileError(
            f"is in pixels of {_wh(trajectories.size_hw)}, the frames are {_wh(size_hw)}: resize "
            "the tracks with rescale=True (--rescale), or tell the true size by stored_hw "
            "(--stored HxW)"
        )
    return resized(trajectories, size_hw)


def _wh(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"
