"""One window of a video: which frames, how they are cut, and the tracks through them."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from tavid_jax.data import cache, points
from tavid_jax.data.clip import Clip, ClipError, check_clip, sanitize
from tavid_jax.data.files import ClipFile
from tavid_jax.data.masks import fitted_masks
from tavid_jax.data.official import OFFICIAL_SIZE_HW, TrackFile, read_tracks
from tavid_jax.data.regrid import ask_at
from tavid_jax.data.track_checks import check_convention, check_grid, check_length
from tavid_jax.data.tracked import FLEXTRAJ_GRID_HW, even_points
from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.data.video import Fit, Resize, fit, iter_frames, resample, scale_points
from tavid_jax.tracks.grid import grid_shape, query_points
from tavid_jax.tracks.trajectories import Trajectories

_CACHE_VERSION = 1


@dataclasses.dataclass(frozen=True)
class FolderConfig:
    """How videos become clips; the fields are the arguments of `folder.open_clips`.

    `masked`: clips have masks, so each video gives the one clip that starts at its frame 0.
    `points`: clips have the points of their files, any number; `masked` is False then.
    `pairs`: what in a name tells the action, "" = clips have no partners.
    """

    size_hw: tuple[int, int]
    num_frames: int
    stride: int = 0
    origin: Literal["topleft", "center"] = "topleft"
    fps: float | int | None = None
    hop: int | None = None
    resize: Resize = "cover"
    tracker: Tracker | None = DISTracker()
    tracks_size_hw: tuple[int, int] | None = None
    axis_order: Literal["xy", "yx"] = "xy"
    cache_dir: str | None = None
    cache_frames_mb: float | int = 8.0
    keep_mb: float | int = 256.0
    track: bool = True
    masked: bool = False
    points: bool = False
    pairs: str = ""
    regrid: bool = True

    def __post_init__(self):
        if self.num_frames < 1 or (self.hop is not None and self.hop < 1):
            raise ValueError(
                f"num_frames and hop must be positive, got {self.num_frames} and {self.hop}"
            )
        if self.keep_mb < 0 or self.cache_frames_mb < 0:
            raise ValueError(
                f"keep_mb and cache_frames_mb must not be negative, got {self.keep_mb} and "
                f"{self.cache_frames_mb}"
            )
        if self.track:  # raises if the stride does not fit
            self.queries()

    def queries(self) -> Float[np.ndarray, "N 2"]:
        """Where the tracker starts: a point in each cell; or, with `points` and no stride, as
        FlexTraj asks it: 70x70, or one every 4 px of smaller frames."""
        if self.points and not self.stride:
            rows, columns = (max(1, side // 4) for side in self.size_hw)
            most_rows, most_columns = FLEXTRAJ_GRID_HW
            return even_points(self.size_hw, (min(rows, most_rows), min(columns, most_columns)))
        return query_points(self.size_hw, self.stride, self.origin)


def usable_frames(file: ClipFile, fps: float | int | None) -> Int[np.ndarray, " T"]:
    """Source frame shown at each output time, over the whole usable length of a file."""
    return resample(file.info.num_frames, file.info.fps, fps)


def read_window(file: ClipFile, start: int, config: FolderConfig) -> Clip:
    """The clip of `config.num_frames` frames from `start` on, counted at the output rate.

    Tracks (and small frames) come from the cache if it has them. Without `config.track` there are
    frames alone. Masks are objects 1..S: the targets, then the actor if there is one. With
    `config.points` they are segments, and points have the segment that they start in.

    Raises:
      VideoError, ClipError: the file has changed or its tracks cannot be used.
    """
    frames = usable_frames(file, config.fps)[start : start + config.num_frames]
    if not config.track:
        return check_clip(_untracked(file, start, window_video(file, frames, config), config))
    if config.points and file.tracks:
        clip = _untracked(file, start, window_video(file, frames, config), config)
        return check_clip(clip.replace(**point_fields(file, frames, config)))
    arrays = cache.cached(
        config.cache_dir, _key(file, frames, config), lambda: _make(file, frames, config)
    )
    video = arrays["video"] if "video" in arrays else window_video(file, frames, config)
    clip = _untracked(file, start, video, config).replace(
        tracks=arrays["tracks"], visibility=arrays["visibility"]
    )
    if config.points:
        followed = Trajectories(clip.tracks, clip.visibility, config.size_hw)
        return check_clip(clip.replace(**point_fields(file, frames, config, followed)))
    clip = clip.replace(
        grid_hw=grid_shape(config.size_hw, config.stride),
        query_xy=query_points(config.size_hw, config.stride, config.origin),
    )
    return check_clip(clip)


def point_fields(
    file: ClipFile,
    frames: Int[np.ndarray, " T"],
    config: FolderConfig,
    followed: Trajectories | None = None,
) -> dict[str, Any]:
    """What clips with `config.points` have besides frames: points, masks, rendered identities.

    Args:
      file, frames, config: of the window.
      followed: its points where there is no file of them.

    Raises:
      VideoError, ClipError: see `points` and `segment_files`; too short a video of identities.
    """
    if followed is None:
        fields = points.stored_fields(file, frames, window_fit(file, config), config.tracks_size_hw)
    else:
        masks = points.masks_at(file, int(frames[0]), window_fit(file, config))
        fields = points.fields_of(followed, masks)
    if file.rendered is None:
        return fields
    cut = fit(file.rendered.size_hw, config.size_hw, config.resize)
    shown = iter_frames(file.rendered.path, frames)
    return fields | {"rendered_ids": np.stack([cut.labels(frame) for frame in shown])}


def check_points(file: ClipFile, start: int, config: FolderConfig) -> None:
    """Reads what belongs to a window's points, but for what the tracker follows.

    Raises:
      ClipError: see `points` and `segment_files`.
    """
    frames = usable_frames(file, config.fps)[start : start + config.num_frames]
    cut = window_fit(file, config)
    if file.tracks:
        points.stored_fields(file, frames, cut, config.tracks_size_hw)
    else:
        points.masks_at(file, int(frames[0]), cut)


def window_name(file: ClipFile, start: int) -> str:
    """Of the clip that starts at a frame."""
    return f"{file.name}@{start:05d}"


def _untracked(
    file: ClipFile, start: int, video: UInt8[np.ndarray, "T H W 3"], config: FolderConfig
) -> Clip:
    clip = Clip(
        id=window_name(file, start),
        size_hw=config.size_hw,
        fps=config.fps or file.info.fps,
        video=video,
        caption=file.caption,
        source=file.path,
    )
    if not config.masked:
        return clip
    masks = window_masks(file, config)
    return clip.replace(masks=masks, target=1, actor=len(masks) if file.masks.actor else -1)


def window_masks(file: ClipFile, config: FolderConfig) -> Bool[np.ndarray, "S H W"]:
    """Objects in frame 0 of a file, seen as its frames are: the targets, then the actor.

    Raises:
      ClipError: see `masks.fitted_masks`.
    """
    return fitted_masks(file.masks, file.path, file.info.size_hw, window_fit(file, config))


def window_video(
    file: ClipFile,
    frames: Int[np.ndarray, " T"],
    config: FolderConfig,
    size_hw: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "T H W 3"]:
    """Decodes, cuts and resizes source frames; `size_hw` instead of the config's if given."""
    cut = window_fit(file, config)
    cut = dataclasses.replace(cut, size_hw=size_hw or cut.size_hw)
    return np.stack([cut.frame(frame) for frame in iter_frames(file.path, frames)])


def window_fit(file: ClipFile, config: FolderConfig) -> Fit:
    """How the frames of a file become those of clips."""
    return fit(file.info.size_hw, config.size_hw, config.resize)


def _key(file: ClipFile, frames: Int[np.ndarray, " T"], config: FolderConfig) -> dict:
    """All that the arrays of a window depend on."""
    if config.cache_dir is None:
        return {}
    key = {"kind": "window", "version": _CACHE_VERSION, "video": cache.content_hash(file.path)}
    key["frames"] = frames.tolist()
    for field in ("size_hw", "stride", "origin", "resize", "cache_frames_mb"):
        key[field] = getattr(config, field)
    if config.points:
        key["points"] = True
    if file.tracks:
        key["tracks"] = cache.content_hash(file.tracks)
        size_hw = config.tracks_size_hw or OFFICIAL_SIZE_HW
        key |= {"tracks_size_hw": size_hw, "axis_order": config.axis_order}
        return key if config.regrid else key | {"regrid": False}
    return key | {"tracker": config.tracker.fingerprint}


def _make(file: ClipFile, frames: Int[np.ndarray, " T"], config: FolderConfig) -> cache.Arrays:
    """What the cache keeps of a window: tracks, visibility and, if small, the frames."""
    if file.tracks:
        tracks, visibility = _stored_tracks(file, frames, config)
        video = window_video(file, frames, config)
    else:
        tracks, visibility, video = _track(file, frames, config)
    arrays = {"tracks": tracks, "visibility": visibility, "video": video}
    if config.cache_dir is not None and video.nbytes > config.cache_frames_mb * 2**20:
        del arrays["video"]
    return arrays


def _track(
    file: ClipFile, frames: Int[np.ndarray, " T"], config: FolderConfig
) -> tuple[Float[np.ndarray, "N T 2"], Bool[np.ndarray, "N T"], UInt8[np.ndarray, "T H W 3"]]:
    """Follows the grid at the tracker's resolution, not at that of the clip."""
    cut, tracker = window_fit(file, config), config.tracker
    query_xy = config.queries()
    work_hw = tracker.working_hw((cut.box[3], cut.box[2]))
    work = dataclasses.replace(cut, size_hw=work_hw)
    large, small = [], []
    for frame in iter_frames(file.path, frames):
        large.append(work.frame(frame))
        small.append(cut.frame(frame))
    try:
        tracks, visibility = tracker(np.stack(large), scale_points(query_xy, cut.size_hw, work_hw))
    except ValueError as error:
        raise ClipError(f"{file.path}: cannot be tracked: {error}") from error
    tracks = scale_points(tracks, work_hw, cut.size_hw)
    tracks[:, 0] = query_xy  # exactly, whatever the two scalings rounded
    return tracks, visibility, np.stack(small)


def read_checked(file: ClipFile, config: FolderConfig) -> TrackFile:
    """A video's track file by its rules: plausible pixels, and without `regrid` the clip's grid.

    Raises:
      ConventionError: other conventions than (N, T, 2), (x, y) px.
      ClipError: unreadable; another grid or too many frames, unless `regrid` is on.
    """
    stored = read_tracks(file.tracks, axis_order=config.axis_order)
    check_convention(file.tracks, stored, _stored_hw(stored, config))
    if not config.regrid:
        check_length(file.tracks, stored.tracks.shape[1], file.info.num_frames)
        start = _fitted(stored.tracks[:, :1], stored, file, config)[:, 0]
        query_xy = query_points(config.size_hw, config.stride, config.origin)
        check_grid(file.tracks, stored, start, query_xy, config.stride)
    return stored


def _stored_hw(stored: TrackFile, config: FolderConfig) -> tuple[int, int]:
    return stored.size_hw or config.tracks_size_hw or OFFICIAL_SIZE_HW


def _fitted(
    tracks: Float[np.ndarray, "N T 2"], stored: TrackFile, file: ClipFile, config: FolderConfig
) -> Float[np.ndarray, "N T 2"]:
    """Px of a track file -> px of the clip."""
    tracks = scale_points(tracks, _stored_hw(stored, config), file.info.size_hw)
    return window_fit(file, config).points(tracks)


def _stored_tracks(
    file: ClipFile, frames: Int[np.ndarray, " T"], config: FolderConfig
) -> tuple[Float[np.ndarray, "N T 2"], Bool[np.ndarray, "N T"]]:
    """Reads the window's frames of the track file and asks them for our grid."""
    stored = read_checked(file, config)
    clip = Clip(
        id=file.name,
        size_hw=config.size_hw,
        fps=file.info.fps,
        tracks=stored.tracks[:, frames],
        visibility=stored.visibility[:, frames],
        source=file.tracks,
    )
    clip = check_clip(sanitize(clip))
    tracks = _fitted(clip.tracks, stored, file, config)
    limit = np.array(config.size_hw[::-1]) - 0.5
    visibility = clip.visibility & ((tracks >= -0.5) & (tracks < limit)).all(axis=-1)
    if config.regrid:
        query_xy = query_points(config.size_hw, config.stride, config.origin)
        tracks, visibility = ask_at(tracks, visibility, query_xy, config.stride)
    if not visibility.any():
        raise ClipError(f"{file.tracks}: no track is visible from frame {frames[0]} on")
    return tracks, visibility
