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
    segments    int (), how many there are; without, as many as `segment` names.
    number      int32 (N,), which point of its segment each one is, if not in their order.
    colour      uint8 (N, 3), RGB.
    fps         float ().
    texts       strings (N,), words about what each point belongs to, "" = none.

Any other key in it is an error. TrajLoom's reader takes such a file too. Pickled files are read
without running what they hold (`arrays`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.data import other_tracks, point_lists
from tavid_jax.data.arrays import npy_bytes
from tavid_jax.data.cache import save_npz, write_whole
from tavid_jax.data.clip import ClipError
from tavid_jax.data.official import TrackFileError
from tavid_jax.data.track_formats import ARRAY_KEYS, READERS, USUAL_HW, opened, visibility_beside
from tavid_jax.tracks.coordinates import resize
from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError
from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import reading


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
      kind: one of `track_formats.KINDS`; None = told from the name and the content.
      stored_hw: (H, W) that the file's pixels refer to, if it does not say. Without it that is
        480x720 for "flextraj", 480x832 for "trajloom", and else `size_hw`.
      rescale: bring tracks of another size than `size_hw` to it; else they are an error.

    Raises:
      ClipError: the message names the file and what is wrong: absent, empty, damaged, of unknown
        format, fewer frames, another size, places that are not finite, content that could run.
    """
    held, found = opened(path, kind)
    with _told(path, found):
        trajectories = _stored(path, held, found, stored_hw, size_hw, frames)
        trajectories = _brought(trajectories, size_hw, rescale)
        if frames is not None and frames != trajectories.num_frames:
            trajectories = trajectories.window(0, frames)
        return trajectories


def read_stored(
    path: str | os.PathLike,
    video_hw: tuple[int, int],
    video_frames: int,
    stored_hw: tuple[int, int] | None = None,
) -> Trajectories:
    """Reads the file of a whole video's trajectories, in its own pixels and with all its frames.

    Args:
      path: of the file.
      video_hw, video_frames: (H, W) and T where neither the file nor its format says them.
      stored_hw: see `read_trajectories`.

    Raises:
      ClipError: see `read_trajectories`.
    """
    held, found = opened(path, None)
    with _told(path, found):
        return _stored(path, held, found, stored_hw, video_hw, video_frames)


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
    """The format of a file, one of `track_formats.KINDS`.

    Raises:
      ClipError: unreadable, or none of them; the message says what it holds.
    """
    return opened(path, None)[1]


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
        if trajectories.texts is not None:  # without a type, no texts at all would be numbers
            values["texts"] = np.array(trajectories.texts, np.str_)
        save_npz(path, **{k: np.asarray(v) for k, v in values.items() if v is not None})
    elif kind == "flextraj":
        write_whole(path, npy_bytes(other_tracks.to_flextraj(trajectories)))
    elif kind == "wan_move":
        tracks, seen = other_tracks.to_wan_move(trajectories)
        write_whole(visibility_beside(path), npy_bytes(seen))
        write_whole(path, npy_bytes(tracks))
    else:
        raise TrackFileError(
            f"{path}: {kind!r} cannot be written; use points, arrays, flextraj or wan_move"
        )


def resized(trajectories: Trajectories, size_hw: tuple[int, int]) -> Trajectories:
    """Trajectories of the same frames resized; pixel centres move as image resizing moves them."""
    tracks = resize(trajectories.tracks, trajectories.size_hw, size_hw)
    return trajectories.replace(tracks=tracks, size_hw=tuple(size_hw))


@contextlib.contextmanager
def _told(path: str | os.PathLike, found: str) -> Iterator[None]:
    """Errors name the file and its format."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            yield
    except (ClipError, TrajectoryError) as error:
        words = str(error).removeprefix(f"{path}: ")
        raise TrackFileError(f"{path} (format {found!r}): {words}") from error


def _stored(
    path: str | os.PathLike,
    held: Any,
    found: str,
    stored_hw: tuple[int, int] | None,
    size_hw: tuple[int, int] | None,
    frames: int | None,
) -> Trajectories:
    """As the file has them; sizes and frames count where it says none."""
    usual = stored_hw or USUAL_HW.get(found) or size_hw
    trajectories = READERS[found](path, held, usual, frames)
    with reading(path, TrackFileError, "tracks"):
        limits.check_tracks(trajectories.num_points, trajectories.num_frames)
    if stored_hw and tuple(trajectories.size_hw) != tuple(stored_hw):
        raise TrackFileError(f"says that it is in pixels of {_wh(trajectories.size_hw)}")
    return trajectories


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
