"""Commands about tracks that steer a video: draw them, take them from a video, look into files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from tavid_jax.data import point_lists, trajectory_files
from tavid_jax.data.arguments import positive, size
from tavid_jax.data.cache import write_whole
from tavid_jax.data.clip import ClipError
from tavid_jax.data.drags import Drag, DragError, drag_clip, drag_file, draw_paths, format_drags
from tavid_jax.data.masks import read_mask, resize_mask
from tavid_jax.data.rle_masks import frame_masks
from tavid_jax.data.segments import with_segments
from tavid_jax.data.track_formats import KINDS
from tavid_jax.data.tracked import FLEXTRAJ_GRID_HW, track_video
from tavid_jax.data.video import (
    DEFAULT_FPS,
    Fit,
    VideoError,
    fit,
    probe,
    read_picture,
    read_video,
    resample,
    write_video,
)
from tavid_jax.tracks.coordinates import in_bounds
from tavid_jax.tracks.trajectories import Trajectories

FRAMES = 49  # of FlexTraj's clips


def read_segments(paths: Sequence[str | os.PathLike], frame: int = 0) -> Bool[np.ndarray, "S h w"]:
    """Masks of segments: one file of run lengths (.pkl), or a picture for each segment.

    Args:
      paths: of the files.
      frame: whose masks are read from a .pkl.

    Raises:
      ClipError: unreadable, pictures of different sizes, or a .pkl among others.
    """
    if len(paths) == 1 and Path(paths[0]).suffix.lower() == ".pkl":
        return frame_masks(paths[0], frame)
    if any(Path(path).suffix.lower() == ".pkl" for path in paths):
        raise ClipError("give one .pkl with the masks of all segments, or one picture for each")
    masks = [read_mask(path) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            raise ClipError(f"{path}: is {mask.shape} (HxW), {paths[0]} is {masks[0].shape}")
    return np.stack(masks)


def summary(trajectories: Trajectories) -> str:
    """What trajectories hold, a fact a line."""
    t, seen = trajectories, trajectories.visibility
    height, width = t.size_hw
    way = np.linalg.norm(np.diff(t.tracks, axis=1), axis=-1) * (seen[:, 1:] & seen[:, :-1])
    inside = in_bounds(t.tracks, t.size_hw)[seen]
    lines = [
        f"points         {t.num_points}",
        f"frames         {t.num_frames}" + (f" at {t.fps:g} per second" if t.fps else ""),
        f"size           {width}x{height}",
        f"visible        {seen.mean():.1%} of places, {seen[:, 0].mean():.1%} in the first frame, "
        f"{(~seen.any(1)).sum()} points never",
        f"inside frame   {inside.mean() if inside.size else 0:.1%} of visible places",
        f"visible path   {np.median(way.sum(1)):.1f} px median, {way.sum(1).max():.1f} px longest",
        f"depth          {'yes' if t.depth is not None else 'no'}",
        f"colours        {'yes' if t.colour is not None else 'no'}",
        f"texts          {sum(map(bool, t.texts or ())) or 'none'}",
    ]
    if t.segment is None:
        return "\n".join([*lines, "segments       unknown"])
    counts = np.bincount(t.segment, minlength=t.segments + 1)
    held = ", ".join(f"{k}: {n}" for k, n in enumerate(counts[1:], 1))
    return "\n".join([*lines, f"segments       {t.segments} ({held or '-'}; none: {counts[0]})"])


def add(commands) -> None:
    """Adds the commands `drag`, `track` and `tracks` to a parser's subparsers."""
    _add_drag(commands)
    _add_track(commands)
    _add_tracks(commands)


def _drag(args: argparse.Namespace) -> int:
    image = _image(args.image)
    drags = [Drag.parse(text) for text in args.drag]
    stills = [Drag.parse(text) for text in args.still]
    for text, still in zip(args.still, stills, strict=True):
        if len(still.places) > 1:
            raise DragError(f"--still {text}: a still point has one place; use --drag for more")
    masks = read_segments(args.masks) if args.masks else None
    if masks is not None and masks.shape[1:] != image.shape[:2]:
        raise DragError(f"masks are {masks.shape[1:]} (HxW), the image is {image.shape[:2]}")
    held = drag_file(
        [*drags, *stills], image.shape[:2], args.frames, args.ease, masks=masks, fps=args.fps
    )
    made = point_lists.parse_points(held)
    if Path(args.out).suffix.lower() == ".json":
        write_whole(args.out, format_drags(held).encode())
    else:
        trajectory_files.write_trajectories(args.out, made)
    print(f"{made.num_points} tracks of {made.num_frames} frames: {os.path.abspath(args.out)}")
    picture = Path(args.picture or Path(args.out).with_suffix(".png"))
    _write_picture(picture, draw_paths(image, made))
    print(f"picture to check them: {picture.absolute()}")
    if args.clip:
        write_video(args.clip, drag_clip(image, made), args.fps or DEFAULT_FPS)
        print(f"clip to check them: {os.path.abspath(args.clip)}")
    return 0


def _track(args: argparse.Namespace) -> int:
    info = probe(args.video)
    chosen = resample(info.num_frames, info.fps, args.fps)[args.start :][: args.frames]
    if len(chosen) < args.frames:
        raise VideoError(
            f"{args.video}: has {len(chosen)} frames from frame {args.start} on, {args.frames} are "
            "asked for (--frames)"
        )
    size_hw = args.size or info.size_hw
    video = read_video(args.video, chosen, size_hw=size_hw, resize=args.resize)
    masks = None
    if args.masks:
        at = int(chosen[-1] if args.reverse else chosen[0])
        cut = fit(info.size_hw, size_hw, args.resize)
        masks = _fitted(read_segments(args.masks, at), info.size_hw, cut)
    try:
        made = track_video(
            video, args.grid, masks=masks, reverse=args.reverse, fps=args.fps or info.fps
        )
    except ClipError:
        raise
    except ValueError as error:
        raise VideoError(f"{args.video}: {error}") from error
    return _written(args, made)


def _tracks(args: argparse.Namespace) -> int:
    parts = trajectory_files.split_paths(args.path)
    if args.out and len(parts) > 1:
        raise ClipError("give one file to convert")
    for part in parts:
        made = trajectory_files.read_trajectories(
            part,
            size_hw=args.size,
            frames=args.frames,
            kind=args.kind,
            stored_hw=args.stored,
            rescale=args.rescale,
        )
        print(f"{part}\nformat         {args.kind or trajectory_files.identify(part)}")
        if args.masks:
            made = with_segments(made, read_segments(args.masks, 0))
        if not args.out:
            print(summary(made))
    return _written(args, made) if args.out else 0


def _written(args: argparse.Namespace, made: Trajectories) -> int:
    print(summary(made))
    trajectory_files.write_trajectories(args.out, made, kind=args.to)
    print(f"written to {os.path.abspath(args.out)}")
    return 0


def _fitted(
    masks: Bool[np.ndarray, "S h w"], source_hw: tuple[int, int], cut: Fit
) -> Bool[np.ndarray, "S H W"]:
    if masks.shape[1:] != tuple(source_hw):
        (height, width), (own_height, own_width) = masks.shape[1:], source_hw
        raise ClipError(f"masks are {width}x{height}, the video is {own_width}x{own_height}")
    x0, y0, width, height = cut.box
    boxes = masks[:, y0 : y0 + height, x0 : x0 + width]
    return np.stack([resize_mask(mask, cut.size_hw) for mask in boxes])


def _image(path: str) -> UInt8[np.ndarray, "H W 3"]:
    if not Path(path).is_file():
        raise ClipError(f"{path}: no such image")
    try:
        return read_picture(path)
    except VideoError as error:
        raise ClipError(str(error)) from error


def _write_picture(path: Path, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    _, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    write_whole(path, png.tobytes())


# --- arguments


def _add_drag(commands) -> None:
    drag = commands.add_parser(
        "drag",
        help="draw tracks on an image",
        description=(
            "Writes tracks that start at places of an image and move along straight lines, at "
            "constant speed over all frames, and a picture of them to check. Places are x,y in px "
            "of the image, from its upper left corner."
        ),
    )
    drag.set_defaults(run=_drag)
    drag.add_argument("image", metavar="IMAGE", help="first frame")
    drag.add_argument("out", metavar="OUT", help=".json (to be changed by hand), .npz or .npy")
    _add_drags(drag)
    drag.add_argument("--frames", type=positive(int), default=FRAMES, help="default: %(default)s")
    drag.add_argument(
        "--ease",
        choices=point_lists.EASES,
        default="linear",
        help="smooth: start and end at rest, turn no corners (default: %(default)s)",
    )
    drag.add_argument("--fps", type=positive(float), help="rate that the file states")
    _add_masks(drag, "the image")
    drag.add_argument("--picture", metavar="PNG", help="default: OUT with suffix .png")
    drag.add_argument("--clip", metavar="MP4", help="write the motion over the image too")


def _add_drags(parser: argparse.ArgumentParser) -> None:
    for name, places, words in (
        ("--drag", "X,Y:X,Y[:...]", "a point and the places that it passes; may be repeated"),
        ("--still", "X,Y", "a point that stays where it is; may be repeated"),
    ):
        parser.add_argument(name, action="append", default=[], metavar=places, help=words)


def _add_track(commands) -> None:
    track = commands.add_parser(
        "track",
        help="take tracks from a video, to give its motion to another image",
        description=(
            "Follows a grid of points through a video by optical flow. With masks of its first "
            "frame (of the last, if --reverse) points know their segment."
        ),
    )
    track.set_defaults(run=_track)
    track.add_argument("video", metavar="VIDEO", help="video file, or folder of images")
    track.add_argument("out", metavar="OUT", help=".npz, .json or .npy (FlexTraj's)")
    track.add_argument(
        "--grid", type=size, default=FLEXTRAJ_GRID_HW, metavar="ROWSxCOLUMNS",
        help="points of the grid (default: {}x{})".format(*FLEXTRAJ_GRID_HW),
    )  # fmt: skip
    track.add_argument("--start", type=_count, default=0, help="first frame (default: 0)")
    track.add_argument("--frames", type=positive(int), default=FRAMES, help="default: %(default)s")
    track.add_argument(
        "--fps", type=positive(float), help="rate to resample to (default: the video's own)"
    )
    track.add_argument("--size", type=size, metavar="HxW", help="bring frames to this size first")
    track.add_argument(
        "--resize", choices=["cover", "squash"], default="cover", help="default: %(default)s"
    )
    track.add_argument(
        "--reverse",
        action="store_true",
        help="lay the grid in the last frame and follow it back, for points that appear later",
    )
    _add_masks(track, "the video at its own size")
    _add_to(track)


def _add_tracks(commands) -> None:
    tracks = commands.add_parser(
        "tracks",
        help="say what a file of tracks holds, and convert it",
        description=(
            "Tells the format of a file of tracks and what it holds. With OUT it is written again: "
            "as .json (for people), .npz, .npy (FlexTraj's) or ..._tracks.npy (Wan-Move's)."
        ),
    )
    tracks.set_defaults(run=_tracks)
    tracks.add_argument("path", metavar="IN", help="a file, or forward.npy,reverse.npy")
    tracks.add_argument("out", metavar="OUT", nargs="?", help="file to write")
    tracks.add_argument(
        "--size", type=size, metavar="HxW", help="size of the frames that the tracks are for"
    )
    tracks.add_argument(
        "--stored", type=size, metavar="HxW", help="size that the file's pixels refer to"
    )
    tracks.add_argument(
        "--rescale", action="store_true", help="bring tracks of another size to --size"
    )
    tracks.add_argument("--frames", type=positive(int), help="use the first frames only")
    tracks.add_argument("--kind", choices=KINDS, help="format of IN (default: told from it)")
    _add_masks(tracks, "the first frame, at the size of the tracks")
    _add_to(tracks)


def _add_masks(parser: argparse.ArgumentParser, of: str) -> None:
    parser.add_argument(
        "--masks",
        nargs="+",
        metavar="FILE",
        help=f"masks of segments of {of}: a picture for each (white inside), or one .pkl of run "
        "lengths",
    )


def _add_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to",
        choices=["points", "arrays", "flextraj", "wan_move"],
        help="format of OUT (default: by its name)",
    )


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be 0, 1, 2, ..., got {text}")
    return int(text)
