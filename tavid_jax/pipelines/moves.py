"""Tracks for one image: drawn on it, taken from a video, or of a camera that moves before it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.data.arrays import read_npy
from tavid_jax.data.drags import Drag, drag_file
from tavid_jax.data.point_lists import parse_points
from tavid_jax.data.tracked import FLEXTRAJ_GRID_HW, even_points, track_video
from tavid_jax.data.video import read_video
from tavid_jax.pipelines.copying import copied
from tavid_jax.pipelines.images import read_image
from tavid_jax.tracks import camera
from tavid_jax.tracks.trajectories import Trajectories

# Name -> (numbers that follow it, what they are).
CAMERAS = {
    "zoom": (1, "FACTOR of the focal length"),
    "pan": (2, "RIGHT,DOWN degrees"),
    "dolly": (3, "RIGHT,DOWN,FORWARD in the depth's lengths"),
    "orbit": (3, "DISTANCE,RIGHT,DOWN: around the point that far ahead, degrees"),
}


def dragged(
    drags: Sequence[str], stills: Sequence[str], size_hw: tuple[int, int], frames: int
) -> Trajectories:
    """Points that a person draws on an image.

    Args:
      drags: "x0,y0:x1,y1:..." px, from the first frame to the last.
      stills: "x,y" of points that stay.
      size_hw: of the image.
      frames: of the video.

    Raises:
      DragError: no such text, none at all, or a place outside of the image.
    """
    parsed = [Drag.parse(text) for text in [*drags, *stills]]
    return parse_points(drag_file(parsed, size_hw, frames))


def cloned(video: str | os.PathLike, frames: int) -> Trajectories:
    """The motion of a video's first frames, by optical flow of an even grid of points.

    Args:
      video: a file, or a folder of images.
      frames: how many.

    Raises:
      ValueError: a video that cannot be read, is shorter, or too small.
    """
    read = read_video(video, range(frames))
    return track_video(read, _grid(read.shape[1:3]))


def redirected(
    image: UInt8[np.ndarray, "H W 3"],
    move: str,
    frames: int,
    depth: Float[np.ndarray, "H W"] | None = None,
    fov: float | int = 55.0,
) -> Trajectories:
    """An image's points seen by a camera that moves at even speed.

    Args:
      image: what it sees first.
      move: such as "orbit:2,30,0", see `CAMERAS`.
      frames: of the video.
      depth: z of every pixel, in proportion to the distance; zooming and panning need none.
      fov: horizontal angle of view, degrees.

    Raises:
      ValueError: no such move, or one that needs a depth without one; a depth of another size.
    """
    name, values = _parsed(move)
    size_hw = (int(image.shape[0]), int(image.shape[1]))
    if depth is None and name not in ("zoom", "pan"):
        raise ValueError(f"camera {move!r}: what is near moves further; give the image's depth")
    depth = np.ones(size_hw, np.float32) if depth is None else depth
    if depth.shape != size_hw:
        raise ValueError(f"the depth is {depth.shape} (HxW), the image {size_hw}: resize it")
    lens = camera.pinhole(size_hw, fov)
    lenses = camera.zoom(lens, frames, *values) if name == "zoom" else lens
    paths: dict[str, Callable[..., Any]] = {
        "zoom": lambda frames, _: camera.pan(frames),
        "pan": camera.pan,
        "dolly": lambda frames, *offset: camera.dolly(frames, offset),
        "orbit": camera.orbit,
    }
    rows, columns = _grid(size_hw)
    points = even_points(size_hw, (rows, columns))
    row, column = np.rint(points).astype(int)[:, ::-1].T
    cell = max(size_hw[0] / rows, size_hw[1] / columns)
    path = paths[name](frames, *values)
    return camera.redirect(depth, points, lenses, path, cell, image[row, column])


def _grid(size_hw: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of points: as many as the released tracker follows, fewer than pixels."""
    rows, columns = map(min, zip(FLEXTRAJ_GRID_HW, size_hw, strict=True))
    return rows, columns


def _parsed(move: str) -> tuple[str, list[float]]:
    name, _, text = move.partition(":")
    if name in CAMERAS:
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            values = []
        if len(values) == CAMERAS[name][0]:
            return name, values
    known = "; ".join(f"{name}:{what}" for name, (_, what) in CAMERAS.items())
    raise ValueError(f"camera {move!r}: there are {known}")


# ---- the command line -----------------------------------------------------------------------

# Options that make tracks.
MADE = ("drag", "still", "motion_of", "camera")


def add_moves(parser: argparse.ArgumentParser) -> None:
    """Options that make tracks instead of reading them."""
    group = parser.add_argument_group("tracks that are made here")
    for name, places, words in (
        ("--drag", "X,Y:X,Y[:...]", "a point of the image and where it goes; may be repeated"),
        ("--still", "X,Y", "a point that stays where it is; may be repeated"),
    ):
        group.add_argument(name, action="append", default=[], metavar=places, help=words)
    group.add_argument(
        "--motion-of", metavar="VIDEO", help="whose motion the image, or each of --texts, gets"
    )
    group.add_argument(
        "--camera", metavar="MOVE:...",
        help="; ".join(f"{name}:{what}" for name, (_, what) in CAMERAS.items()),
    )  # fmt: skip
    group.add_argument("--depth", metavar="NPY", help="of the image's pixels, for --camera")
    group.add_argument("--fov", type=float, default=55.0, help="of --camera (default: %(default)s)")


def tracks_of(
    args: argparse.Namespace,
    frames: int,
    points: int | None = None,
    size_hw: tuple[int, int] | None = None,
) -> Trajectories | None:
    """What the options of `add_moves` make; None without them.

    Args:
      args: parsed, with image, tracks, texts and segments.
      frames: of the video.
      points: room of a model that reads a text for each trajectory; None of others.
      size_hw: of the video, which points are drawn on where there is no image; None asks for one.

    Raises:
      ValueError: several of them, or what they need is missing or cannot be read.
    """
    drawn = bool(args.drag or args.still)
    if [args.tracks, args.motion_of, args.camera, drawn or None].count(None) < 3:
        raise ValueError("give one of --tracks, --drag (and --still), --motion-of and --camera")
    if args.motion_of is not None and points is not None:
        if args.texts is None:
            raise ValueError("--motion-of: give the words of what moves, --texts, for all segments")
        return copied(args.motion_of, frames, args.texts, points, args.segments)
    if args.motion_of is not None:
        return cloned(args.motion_of, frames)
    if not (drawn or args.camera):
        return None
    if drawn and args.image is None and size_hw is not None:
        return dragged(args.drag, args.still, size_hw, frames)
    if args.image is None:
        raise ValueError("--drag, --still and --camera move points of an image: give --image")
    image = read_image(args.image)
    if drawn:
        return dragged(args.drag, args.still, image.shape[:2], frames)
    depth = None if args.depth is None else _depth(args.depth)
    return redirected(image, args.camera, frames, depth, args.fov)


def _depth(path: str | Path) -> Float[np.ndarray, "H W"]:
    depth = read_npy(path)
    if not isinstance(depth, np.ndarray) or depth.ndim != 2 or depth.dtype.kind not in "fiu":
        raise ValueError(f"{path}: a depth is an array (H, W) of numbers")
    return depth.astype(np.float32)
