"""Points in space seen by a moving camera: tracks for camera redirection of a single image.

Camera axes: x right, y down, z forward. Extrinsics (4, 4) take world to camera coordinates,
intrinsics (3, 3) take camera coordinates to pixels, pixel centres at integers. Lengths are those of
the depth map; it must be metric or at least proportional to distance (no inverse depth).
"""

import math

import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.tracks.coordinates import in_bounds
from tavid_jax.tracks.trajectories import Trajectories

_NEAR = 1e-6  # nearer points lie behind the camera


def project(
    points: Float[np.ndarray, "N 3"] | Float[np.ndarray, "N _ 3"],
    intrinsics: Float[np.ndarray, "3 3"] | Float[np.ndarray, "_ 3 3"],
    extrinsics: Float[np.ndarray, "T 4 4"],
    size_hw: tuple[int, int],
    cell: float | int | None = None,
    tolerance: float | int = 0.05,
    colour: UInt8[np.ndarray, "N 3"] | None = None,
) -> Trajectories:
    """Tracks, depth and visibility of points, at rest or moving, along a camera path.

    Args:
      points: in world coordinates; (N, T, 3) if they move.
      intrinsics: (T, 3, 3) if the lens zooms.
      size_hw: (H, W) of the picture; points outside are not visible, nor those behind the camera.
      cell: pixels; in each cell of this size only the nearest points are visible, as if the points
        were a surface. Choose about their distance in the picture. None: all are.
      tolerance: how much farther than the nearest, as a share of its depth, is still visible.
      colour: carried over.

    Raises:
      ValueError: numbers of frames that do not agree, or values that are not finite.
    """
    points = points[:, None] if points.ndim == 2 else points
    intrinsics = intrinsics[None] if intrinsics.ndim == 2 else intrinsics
    _check_path(points, intrinsics, extrinsics)
    rotation, offset = extrinsics[:, :3, :3], extrinsics[:, :3, 3]
    seen = np.matmul(rotation, points[..., None].astype(np.float64))[..., 0] + offset
    depth = seen[..., 2]
    ahead = depth > _NEAR
    flat = np.matmul(intrinsics, seen[..., None])[..., 0]
    xy = flat[..., :2] / np.where(ahead, flat[..., 2], 1.0)[..., None]
    xy = np.where(ahead[..., None], np.clip(xy, -1e6, 1e6), 0.0).astype(np.float32)
    visible = ahead & in_bounds(xy, size_hw)
    if cell is not None:
        visible &= _unoccluded(xy, depth, visible, size_hw, cell, tolerance)
    return Trajectories(
        tracks=xy,
        visibility=visible,
        size_hw=size_hw,
        depth=depth.astype(np.float32),
        colour=colour,
    )


def lift(
    depth: Float[np.ndarray, "H W"],
    xy: Float[np.ndarray, "N 2"],
    intrinsics: Float[np.ndarray, "3 3"],
    extrinsics: Float[np.ndarray, "4 4"] | None = None,
) -> Float[np.ndarray, "N 3"]:
    """World points under pixels of a frame, by its depth map at the nearest pixel.

    Args:
      depth: z of each pixel, > 0.
      extrinsics: camera of that frame; None = it is the world's origin.

    Raises:
      ValueError: a position outside the frame, or a depth there that is not finite and positive.
    """
    if not in_bounds(xy, depth.shape).all():
        raise ValueError(f"positions outside the depth map of {depth.shape}: they have no depth")
    column, row = np.rint(xy).astype(int).T
    z = depth[row, column].astype(np.float64)
    if not (np.isfinite(z) & (z > 0)).all():
        raise ValueError("depth must be finite and above 0 at every position: leave others out")
    rays = np.concatenate([xy, np.ones((len(xy), 1))], axis=1) @ np.linalg.inv(intrinsics).T
    points = rays * z[:, None]
    if extrinsics is None:
        return points
    return (points - extrinsics[:3, 3]) @ np.linalg.inv(extrinsics[:3, :3]).T


def redirect(
    depth: Float[np.ndarray, "H W"],
    xy: Float[np.ndarray, "N 2"],
    intrinsics: Float[np.ndarray, "3 3"] | Float[np.ndarray, "T 3 3"],
    extrinsics: Float[np.ndarray, "T 4 4"],
    cell: float | int | None = None,
    colour: UInt8[np.ndarray, "N 3"] | None = None,
) -> Trajectories:
    """Tracks of an image's pixels under a camera path that starts where the image was taken.

    See `lift` and `project` for arguments and errors.
    """
    first = intrinsics[0] if intrinsics.ndim == 3 else intrinsics
    points = lift(depth, xy, first, extrinsics[0])
    size_hw = (depth.shape[0], depth.shape[1])
    return project(points, intrinsics, extrinsics, size_hw, cell, colour=colour)


def pinhole(size_hw: tuple[int, int], fov_degrees: float | int = 55.0) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of a centred camera with that horizontal angle of view.

    Raises:
      ValueError: an angle outside (0, 180).
    """
    if not 0 < fov_degrees < 180:
        raise ValueError(f"angle of view must be in (0, 180) degrees, got {fov_degrees}")
    height, width = size_hw
    focal = width / 2 / math.tan(math.radians(fov_degrees) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])


def zoom(
    intrinsics: Float[np.ndarray, "3 3"], frames: int, factor: float | int
) -> Float[np.ndarray, "T 3 3"]:
    """Intrinsics whose focal length grows evenly (in logarithm) to `factor` times itself.

    Raises:
      ValueError: a factor that is not positive.
    """
    if not factor > 0:
        raise ValueError(f"zoom factor must be above 0, got {factor}")
    path = np.repeat(intrinsics[None], frames, axis=0)
    path[:, :2, :2] *= (factor ** _ramp(frames))[:, None, None]
    return path


def pan(
    frames: int, right_degrees: float | int = 0.0, down_degrees: float | int = 0.0
) -> Float[np.ndarray, "T 4 4"]:
    """Extrinsics of a camera that turns on the spot, at even speed."""
    path = _still(frames)
    path[:, :3, :3] = _turn(_ramp(frames), right_degrees, down_degrees).swapaxes(-1, -2)
    return path


def dolly(
    frames: int, offset: tuple[float | int, float | int, float | int] = (0.0, 0.0, 1.0)
) -> Float[np.ndarray, "T 4 4"]:
    """Extrinsics of a camera that moves straight to `offset` (right, down, forward)."""
    path = _still(frames)
    path[:, :3, 3] = -_ramp(frames)[:, None] * np.asarray(offset)
    return path


def orbit(
    frames: int,
    distance: float | int,
    right_degrees: float | int = 0.0,
    down_degrees: float | int = 0.0,
) -> Float[np.ndarray, "T 4 4"]:
    """Extrinsics of a camera that circles the point `distance` ahead and keeps looking at it.

    It turns by those angles, so it moves the other way: to the left if it turns right.
    """
    path = pan(frames, right_degrees, down_degrees)
    centre = np.array([0.0, 0.0, distance])
    path[:, :3, 3] = centre - path[:, :3, :3] @ centre
    return path


def _still(frames):
    return np.repeat(np.eye(4)[None], frames, axis=0)


def _ramp(frames):
    return np.linspace(0.0, 1.0, frames)


def _turn(share, right_degrees, down_degrees):
    """Camera-to-world rotations: first down about x, then right about y."""
    right, down = (np.radians(a) * share for a in (right_degrees, -down_degrees))
    zero, one = np.zeros_like(share), np.ones_like(share)
    cos, sin = np.cos(right), np.sin(right)
    about_y = np.array([[cos, zero, sin], [zero, one, zero], [-sin, zero, cos]])
    cos, sin = np.cos(down), np.sin(down)
    about_x = np.array([[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]])
    return np.moveaxis(about_y, -1, 0) @ np.moveaxis(about_x, -1, 0)


def _check_path(points, intrinsics, extrinsics):
    frames = len(extrinsics)
    for name, count in (("points", points.shape[1]), ("intrinsics", len(intrinsics))):
        if count not in (1, frames):
            raise ValueError(f"{name} have {count} frames, extrinsics {frames}")
    given = {"points": points, "intrinsics": intrinsics, "extrinsics": extrinsics}
    for name, values in given.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} are not finite: leave those points or frames out")


def _unoccluded(xy, depth, visible, size_hw, cell, tolerance):
    """Points that no visible point of their cell and frame is clearly in front of."""
    if not cell > 0:
        raise ValueError(f"cell must be above 0 pixels, got {cell}")
    wide = int(size_hw[1] / cell) + 1
    place = (xy[..., 1] // cell).astype(int) * wide + (xy[..., 0] // cell).astype(int)
    place = np.where(visible, place, 0)
    nearest = np.full((xy.shape[1], (int(size_hw[0] / cell) + 1) * wide), np.inf)
    frame = np.broadcast_to(np.arange(xy.shape[1]), place.shape)
    np.minimum.at(nearest, (frame, place), np.where(visible, depth, np.inf))
    return depth <= nearest[frame, place] * (1 + tolerance)
