"""Tracks as other tools have them, as arrays in memory; `trajectory_files` reads their files.

Letters: B videos (only one), T frames, N points. Every function takes arrays or lists and gives
`Trajectories` with centres at integers; `size_hw` is the (H, W) that the tool's pixels refer to,
for none of them says it.

    tool            tracks                visibility            what is done
    FlexTraj        (1, T, N, 3) x, y, z  bool (1, T, N)        z becomes the depth
    SpatialTracker  (B, T, N, 3) x, y, z  bool (B, T, N)        z becomes the depth
    CoTracker       (B, T, N, 2)          bool (B, T, N)
    Wan-Move        (B, T, N, 2)          bool (B, T, N)
    TAPIR           (B, N, T, 2) raster   bool or logits        1/2 px less; visible if
                                          (B, N, T)             (1 - p_occluded)(1 - p_far) > 1/2
    ComfyUI         (T, N, 2)             bool (T, N) or (T, 1)
    keypoints       (T, K, 2 or 3)        -                     all that are finite are visible

The axis of videos may be left out; 0 and 1 are taken for False and True.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tavid_jax.data.official import TrackFileError
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.untrusted.npy import float32
from tavid_jax.untrusted.texts import parse_json

FLEXTRAJ_SIZE_HW = (480, 720)  # of every file of FlexTraj's own


def from_flextraj(
    held: Mapping[str, Any], size_hw: tuple[int, int] = FLEXTRAJ_SIZE_HW
) -> Trajectories:
    """FlexTraj's dict of `tracks` (1, T, N, 3) and `visibility` (1, T, N); z: 0 is nearest.

    Raises:
      TrackFileError: a key is missing, or a wrong shape or dtype.
    """
    return from_spatialtracker(_take(held, "tracks"), _take(held, "visibility"), size_hw)


def from_spatialtracker(tracks: Any, visibility: Any, size_hw: tuple[int, int]) -> Trajectories:
    """(x, y, z) and visibility by frame; z grows away from the camera.

    Raises:
      TrackFileError: a wrong shape or dtype.
    """
    return _by_frame("tracks", tracks, visibility, size_hw, 3)


def from_cotracker(tracks: Any, visibility: Any, size_hw: tuple[int, int]) -> Trajectories:
    """CoTracker's pred_tracks and pred_visibility.

    Raises:
      TrackFileError: a wrong shape or dtype; a visibility that is a probability.
    """
    return _by_frame("pred_tracks", tracks, visibility, size_hw, 2)


def from_wan_move(tracks: Any, visibility: Any, size_hw: tuple[int, int]) -> Trajectories:
    """Wan-Move's two arrays, in pixels of the image that they belong to.

    Raises:
      TrackFileError: a wrong shape or dtype.
    """
    return _by_frame("tracks", tracks, visibility, size_hw, 2)


def from_tapir(
    tracks: Any,
    size_hw: tuple[int, int],
    *,
    visibles: Any = None,
    occlusion: Any = None,
    expected_dist: Any = None,
) -> Trajectories:
    """TAPIR's tracks by point, in raster pixels of the frames that it was given.

    Args:
      tracks: (N, T, 2), (x, y).
      size_hw: of those frames.
      visibles: bool (N, T); or instead of it
      occlusion: logits (N, T), and
      expected_dist: logits (N, T) that the place is far off; None = it is not.

    Raises:
      TrackFileError: a wrong shape or dtype, or neither or both visibilities.
    """
    if (visibles is None) == (occlusion is None):
        raise TrackFileError("give either 'visibles' or 'occlusion'")
    tracks = _one_video("tracks", tracks, 3)
    _check_shape("tracks", tracks, ("N", "T", 2))
    if visibles is not None:
        seen = as_bool("visibles", _one_video("visibles", visibles, 2))
    else:
        names = {"occlusion": occlusion, "expected_dist": expected_dist}
        logits = [_one_video(k, v, 2) for k, v in names.items() if v is not None]
        for logit in logits:
            _check_fits("occlusion", logit, tracks.shape[:2])
        kept = [0.5 * (1 + np.tanh(-0.5 * np.float64(logit))) for logit in logits]  # 1 - sigmoid
        seen = np.prod(kept, axis=0) > 0.5
    _check_fits("visibility", seen, tracks.shape[:2])
    return Trajectories(tracks - np.float32(0.5), seen, size_hw)


def from_comfy(held: Any, size_hw: tuple[int, int]) -> Trajectories:
    """What ComfyUI's nodes pass on: a TRACKS dict, or coordinates as JSON.

    Args:
      held: a dict of `track_path` (T, N, 2) and maybe `track_visibility` (T, N) or (T, 1); or the
        coordinates: a list of tracks, each a list of {"x": px, "y": px} by frame (or one such
        track), parsed or as text, also with single quotes.
      size_hw: of the frames that the pixels refer to.

    Raises:
      TrackFileError: none of these; tracks of different lengths; a wrong shape or dtype.
    """
    if isinstance(held, Mapping):
        tracks = _numbers("track_path", _take(held, "track_path"))
        _check_shape("track_path", tracks, ("T", "N", 2))
        seen = held.get("track_visibility")
        seen = (
            np.ones(tracks.shape[:2], bool) if seen is None else _numbers("track_visibility", seen)
        )
        if seen.ndim == 2 and seen.shape == (len(tracks), 1):
            seen = np.repeat(seen, tracks.shape[1], axis=1)
        return _by_frame("track_path", tracks, seen, size_hw, 2)
    if isinstance(held, str):
        try:
            held = parse_json(held.replace("'", '"'))
        except ValueError as error:
            raise TrackFileError(f"coordinates are no JSON ({error})") from error
    tracks = _coordinates(held)
    return Trajectories(tracks, np.ones(tracks.shape[:2], bool), size_hw)


def from_keypoints(keypoints: Any, size_hw: tuple[int, int]) -> Trajectories:
    """Keypoints of a body by frame (DWPose), (T, K, 2); a third number is left out.

    A keypoint that was not found (NaN) is not visible.

    Raises:
      TrackFileError: a wrong shape or dtype.
    """
    points = _one_video("keypoints", keypoints, 3)
    if points.ndim != 3 or points.shape[-1] not in (2, 3):
        raise TrackFileError(f"keypoints must have shape (T, K, 2), got {points.shape}")
    tracks = points[..., :2].swapaxes(0, 1)
    return Trajectories(tracks, np.isfinite(tracks).all(-1), size_hw)


def to_flextraj(trajectories: Trajectories) -> dict[str, np.ndarray]:
    """FlexTraj's dict; points of unknown depth get z = 0, so that later ones are drawn on top.

    Raises:
      TrackFileError: pixels of another size than FlexTraj's 480x720.
    """
    if tuple(trajectories.size_hw) != FLEXTRAJ_SIZE_HW:
        height, width = trajectories.size_hw
        raise TrackFileError(
            f"FlexTraj reads pixels of 720x480 only, these are of {width}x{height}: resize them "
            "first (`resized`, `--size 480x720 --rescale`)"
        )
    depth = trajectories.depth
    depth = np.zeros(trajectories.visibility.shape, np.float32) if depth is None else depth
    tracks = np.concatenate([trajectories.tracks, depth[..., None]], axis=-1)
    # FlexTraj reads the values by their order.
    return {
        "tracks": np.ascontiguousarray(tracks.swapaxes(0, 1)[None]),
        "visibility": np.ascontiguousarray(trajectories.visibility.T[None]),
    }


def to_wan_move(trajectories: Trajectories) -> tuple[np.ndarray, np.ndarray]:
    """Wan-Move's tracks (1, T, N, 2) float32 px and visibility (1, T, N) bool."""
    tracks = np.ascontiguousarray(trajectories.tracks.swapaxes(0, 1)[None])
    return tracks, np.ascontiguousarray(trajectories.visibility.T[None])


def as_bool(name: str, array: np.ndarray) -> np.ndarray:
    """A visibility that is bool or 0/1 as bool.

    Raises:
      TrackFileError: any other number; `name` is the array's.
    """
    if array.dtype.kind not in "biuf":
        raise TrackFileError(f"{name!r} must be bool or 0/1, got {array.dtype} {array.shape}")
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise TrackFileError(
            f"{name!r} must be bool or 0/1, got numbers from {array.min():g} to {array.max():g}: "
            "compare them with the tracker's threshold first"
        )
    return array.astype(bool)


def _by_frame(
    name: str, tracks: Any, visibility: Any, size_hw: tuple[int, int], numbers: int
) -> Trajectories:
    tracks = _one_video(name, tracks, 3)
    _check_shape(name, tracks, ("T", "N", numbers))
    seen = as_bool("visibility", _one_video("visibility", visibility, 2))
    _check_fits("visibility", seen, tracks.shape[:2])
    points = tracks.swapaxes(0, 1)
    depth = points[..., 2] if numbers == 3 else None
    return Trajectories(points[..., :2], seen.T, size_hw, depth=depth)


def _one_video(name: str, array: Any, dims: int) -> np.ndarray:
    array = _numbers(name, array)
    if array.ndim == dims + 1:
        if len(array) != 1:
            raise TrackFileError(f"{name!r} holds {len(array)} videos {array.shape}: keep one")
        array = array[0]
    return array


def _numbers(name: str, array: Any) -> np.ndarray:
    try:
        array = np.asarray(array)
    except ValueError as error:  # rows of different lengths
        raise TrackFileError(f"{name!r} is no array ({error})") from error
    if array.dtype.kind not in "fiub":
        raise TrackFileError(f"{name!r} must be numbers, got {array.dtype} {array.shape}")
    return array if array.dtype.kind == "b" else float32(array)


def _check_shape(name: str, array: np.ndarray, want: tuple[str | int, ...]) -> None:
    if array.ndim != 3 or array.shape[-1] != want[-1] or array.dtype.kind == "b":
        letters = "(" + ", ".join(map(str, want)) + ")"
        raise TrackFileError(f"{name!r} must be numbers {letters}, got {array.dtype} {array.shape}")
    if 0 in array.shape:
        raise TrackFileError(f"{name!r} is empty: {array.shape}")


def _check_fits(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != tuple(shape):
        raise TrackFileError(f"{name!r} has shape {array.shape}, the tracks want {tuple(shape)}")


def _coordinates(tracks: Any) -> np.ndarray:
    """(N, T, 2) of lists of {"x", "y"}."""
    if isinstance(tracks, Sequence) and tracks and isinstance(tracks[0], Mapping):
        tracks = [tracks]
    try:
        places = [[[float(place["x"]), float(place["y"])] for place in one] for one in tracks]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TrackFileError(
            'coordinates must be lists of {"x": px, "y": px}, one list for each track'
        ) from error
    lengths = sorted({len(one) for one in places})
    if len(lengths) != 1 or not lengths[0]:
        raise TrackFileError(f"coordinates must be of one length, got {lengths or 'none'}")
    return float32(np.asarray(places, np.float64))


def _take(held: Mapping[str, Any], key: str) -> Any:
    if key not in held:
        raise TrackFileError(f"has no {key!r}, only {sorted(map(str, held))}")
    return held[key]
