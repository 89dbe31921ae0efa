"""Frames in and out: video files and image folders by OpenCV, with frame-rate and resize rules."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import UntrustedError, reading
from tavid_jax.untrusted.pictures import check_container, check_picture
from tavid_jax.untrusted.texts import read_text

VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", ".mov", ".m4v", ".gif")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
DEFAULT_FPS = 24.0  # of image folders, and of files that do not say
RATE_FILE = "fps.txt"  # in a folder of images: their rate, one number
_MASK = re.compile(r"\.((target|mask)(_\d+)?|actor)\.png", re.IGNORECASE)  # see `masks`

Resize = Literal["cover", "squash"]


class VideoError(ValueError):
    """A video cannot be used; the message names the file and the reason."""


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What decoding a whole video told about it.

    Attributes:
      path: video file, or folder of images.
      num_frames: frames that really decode (headers are often wrong).
      size_hw: (H, W) in pixels.
      fps: frames per second.
    """

    path: str
    num_frames: int
    size_hw: tuple[int, int]
    fps: float | int


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a frame becomes H x W: cut out the box (x0, y0, width, height), then resize it.

    Pixel centres map by (x - x0 + 1/2) * W / width - 1/2, the rule that `cv2.resize` follows.
    """

    box: tuple[int, int, int, int]
    size_hw: tuple[int, int]

    def frame(self, frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Cuts and resizes one frame: area average when shrinking, bilinear when enlarging."""
        x0, y0, width, height = self.box
        return resize_image(frame[y0 : y0 + height, x0 : x0 + width], self.size_hw)

    def labels(self, frame: Shaped[np.ndarray, "h w *c"]) -> Shaped[np.ndarray, "H W *c"]:
        """Cuts and resizes labels, uint8: each pixel takes the nearest one."""
        x0, y0, width, height = self.box
        part = np.ascontiguousarray(frame[y0 : y0 + height, x0 : x0 + width])
        return cv2.resize(part, self.size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    def points(self, xy: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Moves (x, y) points of the whole source frame with it; float32 px of `size_hw`."""
        x0, y0, width, height = self.box
        return scale_points(xy - np.array([x0, y0]), (height, width), self.size_hw)


def fit(source_hw: tuple[int, int], size_hw: tuple[int, int], resize: Resize = "cover") -> Fit:
    """Chooses the box: all of the frame ("squash"), or its largest centred part of the target's
    aspect ratio ("cover"), rounded to whole source pixels.
    """
    (h, w), (height, width) = source_hw, size_hw
    if resize == "squash":
        return Fit((0, 0, w, h), size_hw)
    if resize != "cover":
        raise ValueError(f"resize must be 'cover' or 'squash', got {resize!r}")
    scale = min(h / height, w / width)
    box_h, box_w = min(h, round(height * scale)), min(w, round(width * scale))
    box_h, box_w = max(box_h, 1), max(box_w, 1)
    return Fit(((w - box_w) // 2, (h - box_h) // 2, box_w, box_h), size_hw)


def scale_points(
    xy: Float[np.ndarray, "*n 2"], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> Float[np.ndarray, "*n 2"]:
    """Moves (x, y) px with a resize, pixel centres at integers: (x + 1/2) * s - 1/2; float32."""
    scale = np.array([to_hw[1] / from_hw[1], to_hw[0] / from_hw[0]])
    return ((np.asarray(xy, np.float64) + 0.5) * scale - 0.5).astype(np.float32)


def resize_image(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resizes one image: area average when shrinking, bilinear when enlarging."""
    if tuple(image.shape[:2]) == tuple(size_hw):
        return np.ascontiguousarray(image)
    smaller = size_hw[0] < image.shape[0] or size_hw[1] < image.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), size_hw[::-1], interpolation=method)


def image_files(folder: str | os.PathLike) -> list[Path]:
    """Images directly inside a folder, in natural order (frame 2 before frame 10).

    Masks that belong to videos (`<stem>.target.png`, ...) are no frames.
    """
    files = (p for p in Path(folder).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    files = (p for p in files if p.is_file() and not _MASK.search(p.name))
    return sorted(files, key=lambda p: natural_key(p.name))


def stated_rate(folder: str | os.PathLike) -> float | None:
    """Frames per second that `fps.txt` in a folder of images states; None without one.

    Raises:
      VideoError: no positive number stands there.
    """
    path = Path(folder) / RATE_FILE
    if not path.is_file():
        return None
    try:
        rate = float(read_text(path))
    except (OSError, ValueError):
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise VideoError(f"{path}: must hold one positive number, the frames per second")
    return rate


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that compares digit runs as integers."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def probe(path: str | os.PathLike, fps: float | int | None = None) -> VideoInfo:
    """Decodes a whole video once to learn its true length, size and rate.

    Args:
      path: video file or folder of images.
      fps: rate to assume where the file does not say (default 24). A folder of images says it in
        `fps.txt`.

    Raises:
      VideoError: missing, unreadable, or no frame decodes.
    """
    path = Path(path)
    if not path.exists():
        raise VideoError(f"{path}: no such file or folder")
    if path.is_dir():
        files = image_files(path)
        if not files:
            raise VideoError(f"{path}: folder holds no images ({', '.join(IMAGE_SUFFIXES)})")
        for image in _iter_images(path, list(range(len(files)))):
            size_hw = image.shape[:2]
        rate = stated_rate(path) or fps or DEFAULT_FPS
        return _checked(VideoInfo(str(path), len(files), size_hw, rate))
    capture = open_video(path)
    try:
        with reading(path, VideoError, "a video"):
            ok, frame = capture.read()
            count, most = 1, limits.most("video_frames")
            while ok and count <= most and capture.grab():
                count += 1
            stated = capture.get(cv2.CAP_PROP_FPS)
    except cv2.error as error:
        raise VideoError(f"{path}: cannot be decoded ({error})") from error
    finally:
        capture.release()
    if not ok:
        raise VideoError(f"{path}: opens, but not one frame can be decoded (zero-frame video)")
    rate = stated if np.isfinite(stated) and 0 < stated <= 1000 else (fps or DEFAULT_FPS)
    return _checked(VideoInfo(str(path), count, (frame.shape[0], frame.shape[1]), float(rate)))


def _checked(info: VideoInfo) -> VideoInfo:
    with reading(info.path, VideoError, "a video"):
        limits.check("video_frames", info.num_frames, "its length")
        limits.check("video_seconds", math.ceil(info.num_frames / info.fps), "its duration")
    return info


def resample(
    num_frames: int, source_fps: float | int, fps: float | int | None
) -> Int[np.ndarray, " T"]:
    """Source frame shown at each output time k / fps (nearest); all frames when fps is None.

    A rate above the source's repeats frames, and tracks then stand still between them.
    """
    if fps is None:
        return np.arange(num_frames)
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    count = int(np.floor((num_frames - 1) * fps / source_fps + 1e-6)) + 1
    frames = np.floor(np.arange(count) * (source_fps / fps) + 0.5).astype(int)
    return np.minimum(frames, num_frames - 1)


def iter_frames(
    path: str | os.PathLike, frames: Sequence[int] | Int[np.ndarray, " T"]
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yields the named source frames as RGB, in the given (ascending) order.

    Frames before the first are decoded and dropped rather than sought: seeking is not exact in
    every container.

    Raises:
      VideoError: the video ends before the last frame named.
    """
    frames = [int(f) for f in frames]
    if any(b < a for a, b in zip(frames, frames[1:], strict=False)):
        raise ValueError("frame numbers must ascend")
    path = Path(path)
    if path.is_dir():
        yield from _iter_images(path, frames)
        return
    capture = open_video(path)
    try:
        position, size = -1, None
        for wanted in frames:
            while position < wanted and capture.grab():
                position += 1
            if position < wanted:
                raise VideoError(f"{path}: ends after {position + 1} frames, frame {wanted} wanted")
            ok, bgr = capture.retrieve()
            if not ok:
                raise VideoError(f"{path}: frame {wanted} cannot be decoded")
            size = size or bgr.shape
            if bgr.shape != size:
                raise VideoError(
                    f"{path}: frame {wanted} is {bgr.shape[1]}x{bgr.shape[0]}, frames before it "
                    f"are {size[1]}x{size[0]}"
                )
            yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    except cv2.error as error:
        raise VideoError(f"{path}: cannot be decoded ({error})") from error
    finally:
        capture.release()


def read_video(
    path: str | os.PathLike,
    frames: Sequence[int] | Int[np.ndarray, " T"] | None = None,
    *,
    size_hw: tuple[int, int] | None = None,
    resize: Resize = "cover",
    fps: float | int | None = None,
) -> UInt8[np.ndarray, "T H W 3"]:
    """Reads a video (or the named source frames of it) as one RGB array.

    Args:
      path: video file or folder of images.
      frames: ascending source frame numbers; None = all, resampled to `fps`.
      size_hw: (H, W) to bring frames to; None = native.
      resize: "cover" keeps the aspect ratio and cuts the centre, "squash" does neither.
      fps: output rate when `frames` is None; None = native.

    Raises:
      VideoError: missing, unreadable or too short.
    """
    if frames is None:
        info = probe(path)
        frames = resample(info.num_frames, info.fps, fps)
    if len(frames) == 0:
        raise VideoError(f"{path}: no frames asked for")
    shots: list[np.ndarray] = []
    for frame in iter_frames(path, frames):
        if not shots:
            with reading(path, VideoError, "a video"):
                limits.check_video(len(frames), size_hw or frame.shape[:2])
        shots.append(fit(frame.shape[:2], size_hw, resize).frame(frame) if size_hw else frame)
    return np.stack(shots)


def write_video(
    path: str | os.PathLike, video: Iterable[UInt8[np.ndarray, "H W 3"]], fps: float | int
) -> None:
    """Writes RGB frames as an mp4 (H.264 by imageio-ffmpeg if installed, else MPEG-4 by OpenCV).

    The file appears whole or not at all. Sides are padded to even numbers by repeating the edge.
    """
    path = Path(path)
    frames = [_even(np.asarray(frame)) for frame in video]
    if not frames:
        raise VideoError(f"{path}: no frames to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix or '.mp4'}")
    try:
        (_write_ffmpeg if _has_ffmpeg() else _write_opencv)(partial, frames, fps)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes; of names and bytes of all images for a folder."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in image_files(path) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(json.dumps(file.name).encode())
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def open_video(path: str | os.PathLike) -> cv2.VideoCapture:
    """A video file, opened; nothing of it is decoded yet, and its frames are not too large.

    Raises:
      VideoError: absent, empty, no video, or of more pixels than a limit.
    """
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: file is empty")
    try:
        check_container(path)
    except UntrustedError as error:
        raise VideoError(f"{path}: {error}") from error
    with reading(path, VideoError, "a video"):
        capture = cv2.VideoCapture(str(path))
        height, width = (
            capture.get(key) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        )
        if np.isfinite(height * width):
            limits.check("frame_pixels", int(height * width), f"frames of {width:g}x{height:g}")
    if not capture.isOpened():
        capture.release()
        raise VideoError(f"{path}: not a video that OpenCV can open (broken file or codec)")
    return capture


def read_picture(path: str | os.PathLike) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels of one picture.

    Raises:
      VideoError: absent, no picture, or of more pixels than a limit.
    """
    with reading(path, VideoError, "an image"):
        check_picture(path)
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise VideoError(f"{path}: image cannot be decoded ({error})") from error
    if image is None:
        raise VideoError(f"{path}: image cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _iter_images(folder: Path, frames: list[int]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    files = image_files(folder)
    size = None
    for wanted in frames:
        if wanted >= len(files):
            raise VideoError(f"{folder}: ends after {len(files)} images, frame {wanted} wanted")
        image = read_picture(files[wanted])
        size = size or image.shape
        if image.shape != size:
            raise VideoError(
                f"{files[wanted]}: is {image.shape[1]}x{image.shape[0]}, images before it are "
                f"{size[1]}x{size[0]}"
            )
        yield image


def _even(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    h, w = frame.shape[:2]
    return np.pad(frame, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")


def _has_ffmpeg() -> bool:
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return False
    return True


def _write_ffmpeg(path: Path, frames: list[np.ndarray], fps: float | int) -> None:
    import imageio_ffmpeg

    h, w = frames[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path), (w, h), fps=fps, codec="libx264", quality=8, macro_block_size=2
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def _write_opencv(path: Path, frames: list[np.ndarray], fps: float | int) -> None:
    h, w = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (w, h))
    if not writer.isOpened():
        raise VideoError(f"{path}: OpenCV has no encoder for this file name")
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
