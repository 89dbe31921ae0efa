"""FlexBench's list of videos as jobs.

Clips of a tracker have tracks and masks. Others have a rendered video of ids or keypoints of a
person, and tracks of the background beside them, of which a few are drawn behind. Where the motion
is a partner's, its ids are moved so that both objects have one centre in the first frame.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool

from tavid_jax.data.flexbench import FlexBenchEntry, Partner, Shift, read_flexbench
from tavid_jax.data.rle_masks import frame_masks
from tavid_jax.data.trajectory_files import read_trajectories
from tavid_jax.data.video import VIDEO_SUFFIXES, read_video
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.jobs import Job
from tavid_jax.tracks.codes import segments_at
from tavid_jax.tracks.sparsify import mask_scores, random_points
from tavid_jax.tracks.stamps import LARGE_STAMP
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.tracks.unaligned import unaligned_pair

# Of the background of a rendered clip: the share that is kept where there are many points, how
# many that is, and by how much rendered objects are widened, beside which none are kept.
_SHARE, _MANY, _MARGIN = 0.01, 500, 10

Mask = Bool[np.ndarray, "H W"]


def bench_jobs(
    path: str | os.PathLike,
    root: str | os.PathLike | None = None,
    follow: Follow | None = None,
    seed: int = 0,
) -> list[Job]:
    """Jobs of a list; what one entry says holds for it alone.

    Args:
      path, root: see `read_flexbench`.
      follow: options that the entries do not have, such as `native`.
      seed: of all jobs.

    Raises:
      FlexBenchError: see `read_flexbench`; ClipError: files of rendered clips that do not fit.
    """
    follow = follow or Follow()
    return [_job(entry, follow, seed) for entry in read_flexbench(path, root)]


def _job(entry: FlexBenchEntry, follow: Follow, seed: int) -> Job:
    follow = dataclasses.replace(
        follow,
        keep_points=entry.spatial_scale if entry.is_real_video else 1.0,
        choose=entry.spatial_mode,
        keep_frames=entry.temporal_scale if entry.kept_frames is None else entry.kept_frames,
        colour="frame" if entry.use_colour else "none",
    )
    if isinstance(entry.unalign, Shift):
        follow = dataclasses.replace(follow, unaligned="scale", scale=entry.unalign.scale)
    elif entry.unalign is not None:
        follow = dataclasses.replace(follow, unaligned="given")
    if isinstance(entry.unalign, Partner):
        fields = _partnered(entry, entry.unalign, seed)
    elif entry.is_real_video or isinstance(entry.unalign, Shift):
        fields = {
            "tracks": ",".join(map(str, entry.tracks)),
            "segments": ",".join(map(str, entry.segments)),
        }
    else:
        fields = _made(entry, seed)
    if not entry.is_real_video:
        follow = dataclasses.replace(follow, stamp=follow.stamp or LARGE_STAMP)
    shown = entry.image is None or entry.use_colour
    return Job(
        prompt=entry.prompt,
        name=entry.name,
        image=entry.image,
        source=entry.video if shown else None,
        follow=follow,
        seed=seed,
        **fields,
    )


def _made(entry: FlexBenchEntry, seed: int) -> dict[str, Any]:
    """Of a clip that no tracker made: rendered ids, or keypoints; and a few background points."""
    *tracks, front = entry.tracks
    rendered = front.suffix.lower() in VIDEO_SUFFIXES
    fields: dict[str, Any] = {"control_videos": [front]} if rendered else {"tracks": str(front)}
    if tracks:
        own = _objects(entry.segments[0], rendered)
        behind = _background(tracks[0], _widened(own, _MARGIN if rendered else 7), seed)
        fields["tracks"] = behind if rendered else _posed(behind, front)
    return fields


def _partnered(entry: FlexBenchEntry, partner: Partner, seed: int) -> dict[str, Any]:
    """The motion of another clip's object, over a little of one's own background."""
    own = _objects(entry.segments[0], not entry.is_real_video)
    theirs = _objects(partner.masks, not entry.is_real_video)
    front = partner.render[-1]
    if front.suffix.lower() not in VIDEO_SUFFIXES:
        pair = (read_trajectories(path, size_hw=own.shape, rescale=True)
                for path in (entry.tracks[0], front))  # fmt: skip
        return {"tracks": unaligned_pair(*pair, own, theirs, np.random.default_rng(seed))}
    shift = _centre(own) - _centre(theirs)
    fields: dict[str, Any] = {"control_videos": [_moved(read_video(front), shift)]}
    if entry.tracks[0].suffix.lower() not in VIDEO_SUFFIXES:
        moved = _moved(theirs[None], shift)[0]
        widened = _widened(own, _MARGIN) | _widened(moved, _MARGIN)
        fields["tracks"] = _background(entry.tracks[0], widened, seed)
    return fields


def _objects(path: Path, is_background: bool) -> Mask:
    """The object of a clip's first frame; the files of rendered clips hold what is not one."""
    masks = frame_masks(path, 0)
    return ~masks.any(0) if is_background else masks[int(np.argmax(mask_scores(masks)))]


def _background(path: Path, objects: Mask, seed: int) -> Trajectories:
    """A few points that start outside of the objects, in no segment of one."""
    tracks = read_trajectories(path, size_hw=objects.shape, rescale=True)
    rest = tracks.take(segments_at(tracks.tracks[:, 0], objects[None]) == 0)
    if rest.num_points > _MANY:
        rng = np.random.default_rng(seed)
        rest = rest.take(random_points(rest.num_points, _SHARE, rng))
    return rest.replace(segment=np.zeros(rest.num_points, np.int32), segments=1)


def _posed(behind: Trajectories, path: Path) -> Trajectories:
    """Keypoints of a person before the background: as near as its nearest point."""
    pose = read_trajectories(path, size_hw=behind.size_hw, frames=behind.num_frames, rescale=True)
    near = 0.0 if behind.depth is None else behind.depth[:, 0].min(initial=np.inf)
    depth = np.full(pose.visibility.shape, near if np.isfinite(near) else 0.0, np.float32)
    known = np.zeros(behind.visibility.shape) if behind.depth is None else behind.depth
    return Trajectories(
        np.concatenate([behind.tracks, pose.tracks]),
        np.concatenate([behind.visibility, pose.visibility]),
        behind.size_hw,
        depth=np.concatenate([known, depth]),
        segment=np.repeat([0, 1], [behind.num_points, pose.num_points]),
        segments=1,
    )


def _widened(mask: Mask, side: int) -> Mask:
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0


def _centre(mask: Mask) -> np.ndarray:
    """(row, column) of the middle of the object's box."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise ValueError("a rendered clip shows no object in its first frame: see its masks")
    return np.array([rows.min() + rows.max(), columns.min() + columns.max()]) // 2


def _moved(video: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Moved by whole pixels (rows, columns); black comes in at the other side."""
    moved = np.zeros_like(video)
    down, right = (int(pixels) for pixels in shift)
    height, width = video.shape[1:3]
    to = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
    of = slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right))
    moved[:, to[0], to[1]] = video[:, of[0], of[1]]
    return moved
