"""The points of a clip as a user has them: any number, in any format, cut as the frames are.

Beside a video (or in a folder of their own) these are looked for, see `trajectory_files`:

    <stem>.npz, <stem>.json, <stem>_tracks.npy, <stem>.npy          frame t is the video's frame t
    <stem>_tracks_reverse.npz, <stem>_tracks_reverse.npy            the same, followed backward from
                                                                    the last frame: points that
                                                                    appear later

Beside the video, `<stem>.ids.mp4` holds identities that were drawn elsewhere, and masks lie as
`segment_files` says.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from tavid_jax.data import files
from tavid_jax.data.clip import ClipError
from tavid_jax.data.masks import check_shape
from tavid_jax.data.segment_files import SHAPE_TOLERANCE, find_segments, segment_masks
from tavid_jax.data.segments import with_segments
from tavid_jax.data.trajectory_files import read_stored, resized
from tavid_jax.data.video import Fit
from tavid_jax.tracks.merging import DISTANCE, merge_two_way
from tavid_jax.tracks.stamps import REFERENCE_HW
from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError

SUFFIXES = (".npz", ".json", "_tracks.npy", ".npy")
REVERSE_SUFFIXES = ("_tracks_reverse.npz", "_tracks_reverse.npy")

Masks = Bool[np.ndarray, "S H W"]


def with_files(
    file: files.ClipFile,
    tracks: str | os.PathLike | None,
    masks: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None = None,
) -> files.ClipFile:
    """The file with all that belongs to its points, cut to the frames of rendered identities.

    Args:
      file: with its tracks, if it has any.
      tracks, masks: see `folder.open_clips`.
      cache_dir: remembers lengths of videos.

    Raises:
      ClipError: a video of identities that cannot be read, or of another aspect ratio; see
        `segment_files.find_segments`.
    """
    if masks is not None:
        found = find_segments(files.stem(file.path), masks or Path(file.path).parent)
        file = dataclasses.replace(file, segments=found)
    if file.tracks:
        reverse = files.find_tracks(file.path, tracks, REVERSE_SUFFIXES)
        file = dataclasses.replace(file, reverse=reverse)
    path = files.find_rendered(file.path)
    if path is None:
        return file
    found, bad = files.probe_all([path], cache_dir=cache_dir)
    if bad:
        raise ClipError(f"{path}: {bad[0][1]}")
    mend, size_hw = "render it as the video is seen", file.info.size_hw
    check_shape(found[0].size_hw, str(path), file.path, size_hw, SHAPE_TOLERANCE, mend)
    frames = min(file.info.num_frames, found[0].num_frames)
    info = dataclasses.replace(file.info, num_frames=frames)
    return dataclasses.replace(file, info=info, rendered=found[0])


def read_points(
    path: str | os.PathLike,
    file: files.ClipFile,
    cut: Fit,
    stored_hw: tuple[int, int] | None = None,
) -> Trajectories:
    """All frames of a file of tracks in the pixels of clips; points outside of the cut are unseen.

    Args:
      path: of `file.tracks` or `file.reverse`.
      file: the video.
      cut: how its frames become those of clips.
      stored_hw: (H, W) that the file's pixels refer to, spanning the whole, uncut frame; None = as
        the file or its format says, else the video's.

    Raises:
      ClipError: see `read_trajectories`; no points; pixels of another aspect ratio than the video,
        unless `stored_hw` says so.
    """
    video_hw = file.info.size_hw
    stored = read_stored(path, video_hw, file.info.num_frames, stored_hw)
    if not stored.num_points or not stored.num_frames:
        raise ClipError(f"{path}: holds no points; leave the file out to have the video tracked")
    (height, width), ratio = stored.size_hw, np.divide(*stored.size_hw) / np.divide(*video_hw)
    if stored_hw is None and abs(ratio - 1) > SHAPE_TOLERANCE:
        raise ClipError(
            f"{path}: is in pixels of {width}x{height}, {file.path} is {video_hw[1]}x{video_hw[0]}:"
            " another aspect ratio; if the tracker saw the whole frame squeezed to another size, "
            "name that by tracks_size_hw"
        )
    tracks = cut.points(resized(stored, video_hw).tracks)
    inside = ((tracks >= -0.5) & (tracks < np.array(cut.size_hw[::-1]) - 0.5)).all(axis=-1)
    return stored.replace(tracks=tracks, visibility=stored.visibility & inside, size_hw=cut.size_hw)


def with_lengths(
    file: files.ClipFile, cut: Fit, stored_hw: tuple[int, int] | None = None
) -> files.ClipFile:
    """The file cut to the frames of which there are tracks too, and knowing where nothing is seen.

    Raises:
      ClipError: see `read_points`.
    """
    read = [read_points(path, file, cut, stored_hw) for path in (file.tracks, file.reverse) if path]
    lengths = [one.num_frames for one in read]
    if len(set(lengths)) > 1:
        raise ClipError(
            f"{file.reverse}: has {lengths[1]} frames, {file.tracks} has {lengths[0]}: forward and "
            "reverse tracks must be of the same video"
        )
    frames = min([file.info.num_frames, *lengths])
    seen = read[0].visibility[:, :frames].any(axis=0)  # those of the second may be left out
    info = dataclasses.replace(file.info, num_frames=frames)
    return dataclasses.replace(file, info=info, blind=frozenset(np.flatnonzero(~seen).tolist()))


def stored_fields(
    file: files.ClipFile,
    frames: Int[np.ndarray, " T"],
    cut: Fit,
    stored_hw: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """What the tracks of a file's frames are to a clip: fields of `Clip`.

    Points that were followed backward are added where no others end. They lie in segments of the
    last frame: where only one end has masks they are left out.

    Args:
      file: with tracks.
      frames: of the source.
      cut: how they become those of clips.
      stored_hw: see `read_points`.

    Raises:
      ClipError: see `read_points` and `segment_files.segment_masks`; forward and reverse tracks
        that do not fit together.
    """
    forward = _taken(read_points(file.tracks, file, cut, stored_hw), frames)
    masks = masks_at(file, int(frames[0]), cut)
    if file.reverse is None:
        return fields_of(forward, masks)
    last_masks = masks_at(file, int(frames[-1]), cut)
    if (masks is None) != (last_masks is None):
        return fields_of(forward, masks)
    reverse = _taken(read_points(file.reverse, file, cut, stored_hw), frames)
    if masks is not None and last_masks is not None:
        forward, reverse = with_segments(forward, masks), with_segments(reverse, last_masks, -1)
        most = max(len(masks), len(last_masks))
        forward, reverse = (one.replace(segments=most) for one in (forward, reverse))
    distance = DISTANCE * cut.size_hw[0] / REFERENCE_HW[0]
    try:
        # Not by the forward file alone: that only knows the first frame of the whole video.
        merged = merge_two_way(forward, reverse, "positions", distance)
    except TrajectoryError as error:
        raise ClipError(f"{file.reverse}: {error}") from error
    return fields_of(merged, masks, segmented=True) | {"two_way": True}


def masks_at(file: files.ClipFile, frame: int, cut: Fit) -> Masks | None:
    """Of a source frame, see `segment_files.segment_masks`."""
    return segment_masks(file.segments, frame, file.path, file.info.size_hw, cut)


def fields_of(
    trajectories: Trajectories, masks: Masks | None, segmented: bool = False
) -> dict[str, Any]:
    """Fields of `Clip`: points, and the segments of the masks unless they have theirs already."""
    if masks is not None and not segmented:
        trajectories = with_segments(trajectories, masks)
    names = ("tracks", "visibility", "depth", "segment")
    return {name: getattr(trajectories, name) for name in names} | {"masks": masks}


def _taken(trajectories: Trajectories, frames: Int[np.ndarray, " T"]) -> Trajectories:
    """The named frames."""
    names = ("tracks", "visibility", "depth")
    held = {name: getattr(trajectories, name) for name in names}
    return trajectories.replace(**{k: None if v is None else v[:, frames] for k, v in held.items()})
