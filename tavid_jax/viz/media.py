"""Arrays to picture and film files in memory, small, self-contained, with provenance inside.

Animated WebP is the default: every browser plays it, without a plug-in and without sound controls,
at a quarter of a GIF's size. mp4 needs the optional package imageio-ffmpeg.
"""

import base64
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from tavid_jax.viz import canvas

_EXIF_IMAGE_DESCRIPTION = 0x010E
_MIME = {"webp": "image/webp", "gif": "image/gif", "mp4": "video/mp4", "png": "image/png"}


class Media(NamedTuple):
    """An encoded picture or film."""

    data: bytes
    mime: str
    width: int
    height: int
    frames: int = 1


def encode_animation(
    frames: UInt8[np.ndarray, "T H W 3"],
    fps: canvas.Number,
    *,
    format: str = "webp",
    provenance: Mapping[str, Any] | None = None,
    quality: int = 82,
    hold_last: canvas.Number = 0.8,
    max_bytes: int = 400_000,
) -> Media:
    """Encode frames as an endlessly repeating animation of at most `max_bytes`.

    Quality, frame rate (of long films) and size fall until it fits; a warning if it never does.

    Args:
      frames: RGB, 0..255.
      fps: frames per second, > 0.
      format: "webp", "gif" or "mp4".
      provenance: what made this (config hash, seed, weights hash, ...), stored inside the file;
        `read_provenance` gives it back.
      quality: 1..100 at the start.
      hold_last: extra seconds for which the last frame stands before the film begins anew.

    Raises:
      ValueError: no frames, fps not positive, unknown format.
      RuntimeError: mp4 without imageio-ffmpeg.
    """
    if len(frames) == 0 or fps <= 0:
        raise ValueError(f"an animation needs frames and fps > 0, got {len(frames)} and {fps}")
    encoders = {"webp": _webp, "gif": _gif, "mp4": _mp4}
    if format not in encoders:
        raise ValueError(f"unknown animation format {format!r}: use one of {sorted(encoders)}")
    note, fps, hold_last = _note(provenance), float(fps), float(hold_last)
    data, used = _fit(encoders[format], frames, fps, hold_last, note, quality, max_bytes)
    return Media(data, _MIME[format], used.shape[2], used.shape[1], len(used))


def encode_png(
    image: UInt8[np.ndarray, "H W 3"], *, provenance: Mapping[str, Any] | None = None
) -> Media:
    """Encode one RGB picture losslessly, with provenance as a text chunk."""
    info = PngImagePlugin.PngInfo()
    if provenance:
        info.add_text("provenance", _note(provenance))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=info, optimize=True)
    return Media(buffer.getvalue(), _MIME["png"], image.shape[1], image.shape[0])


def data_uri(data: bytes, mime: str) -> str:
    """`data:` address of the bytes, for src attributes of a page without other files."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def save(path: str | os.PathLike, media: Media) -> None:
    """Write the bytes so that `path` holds either the whole file or what it held before."""
    path = os.fspath(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(media.data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_provenance(data: bytes) -> dict[str, Any]:
    """The provenance inside bytes that this module made; {} where there is none."""
    note: str | bytes
    if data[4:8] == b"ftyp":
        note = _mp4_comment(data)
    else:
        with Image.open(io.BytesIO(data)) as image:
            note = (
                image.info.get("provenance")
                or image.info.get("comment")
                or image.getexif().get(_EXIF_IMAGE_DESCRIPTION)
                or ""
            )
    return json.loads(note) if note else {}


def _note(provenance: Mapping[str, Any] | None) -> str:
    return json.dumps(provenance, sort_keys=True, default=str) if provenance else ""


# Share of the quality, zoom, every n-th frame: from best to smallest. Only long films are thinned.
_LADDER = (
    (1.0, 1.0, 1), (0.7, 1.0, 1), (0.7, 1.0, 2), (0.45, 1.0, 2), (0.5, 0.75, 1), (0.5, 0.75, 2),
    (0.4, 0.55, 1), (0.4, 0.55, 2), (0.3, 0.4, 2), (0.3, 0.3, 2), (0.2, 0.3, 1),
)  # fmt: skip
_LONG = 48

Encoder = Callable[[np.ndarray, float, float, str, int], bytes]


def _fit(
    encoder: Encoder,
    frames: np.ndarray,
    fps: float,
    hold_last: float,
    note: str,
    quality: int,
    max_bytes: int,
) -> tuple[bytes, np.ndarray]:
    best, full = None, 0
    for share, zoom, stride in _LADDER:
        if stride > 1 and len(frames) < _LONG:
            continue
        # Skip what, judged by the first attempt, is hopeless: encoding takes seconds.
        if full * share**0.7 * zoom**1.6 / stride**0.8 > 1.5 * max_bytes:
            continue
        size_hw = tuple(max(2, round(side * zoom)) for side in frames.shape[1:3])
        # Thinned from the end, so that the last frame, the one people compare, stays.
        thinned = frames[(len(frames) - 1) % stride :: stride]
        sized = canvas.resize_clip(thinned, size_hw)
        data = encoder(sized, fps / stride, hold_last, note, max(1, round(quality * share)))
        full = full or len(data)
        if best is None or len(data) < len(best[0]):
            best = data, sized
        if len(data) <= max_bytes:
            return data, sized
    logging.warning(
        "animation of %d frames takes %d bytes at its smallest, more than the %d asked for",
        len(frames), len(best[0]), max_bytes,
    )  # fmt: skip
    return best


def _durations(count: int, fps: float, hold_last: float, unit_ms: int) -> list[int]:
    """Milliseconds per frame in whole units, rounded so that the total does not drift."""
    edges = np.round(np.arange(count + 1) * 1000 / fps / unit_ms).astype(int) * unit_ms
    shown = np.maximum(np.diff(edges), unit_ms)
    shown[-1] += round(hold_last * 1000 / unit_ms) * unit_ms
    return shown.tolist()


def _webp(frames: np.ndarray, fps: float, hold_last: float, note: str, quality: int) -> bytes:
    exif = Image.Exif()
    if note:
        exif[_EXIF_IMAGE_DESCRIPTION] = note
    images = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    images[0].save(
        buffer, "WEBP", save_all=True, append_images=images[1:], loop=0, quality=quality, method=2,
        duration=_durations(len(images), fps, hold_last, 1), exif=exif.tobytes() if note else b"",
    )  # fmt: skip
    return buffer.getvalue()


def _gif(frames: np.ndarray, fps: float, hold_last: float, note: str, quality: int) -> bytes:
    colors = int(np.clip(round(2.56 * quality * 1.2), 16, 256))
    # One palette for all frames: no flicker, and still regions cost nothing.
    mosaic = np.concatenate(list(frames[:: max(1, len(frames) // 8)]), axis=0)
    palette = Image.fromarray(mosaic).quantize(colors, dither=Image.Dither.NONE)
    images = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    ]
    buffer = io.BytesIO()
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], loop=0, comment=note.encode(),
        duration=_durations(len(images), fps, hold_last, 10),
    )  # fmt: skip
    return buffer.getvalue()


def check_mp4() -> None:
    """Whether mp4 can be written: to be asked before hours of work. RuntimeError if it cannot."""
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise RuntimeError(
            "mp4 needs the package imageio-ffmpeg: pip install 'tavid_jax[video]', or use "
            "format='webp'"
        ) from error


def _mp4(frames: np.ndarray, fps: float, hold_last: float, note: str, quality: int) -> bytes:
    check_mp4()
    import imageio_ffmpeg

    even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    held = np.repeat(even[-1:], round(hold_last * fps), axis=0)
    crf = int(np.interp(quality, [1, 41, 82, 100], [45, 34, 23, 16]))
    options = ["-crf", str(crf), "-movflags", "+faststart", "-metadata", f"comment={note}"]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "clip.mp4")
        writer = imageio_ffmpeg.write_frames(
            path, (even.shape[2], even.shape[1]), fps=fps, codec="libx264", quality=None,
            macro_block_size=1, output_params=options, pix_fmt_in="rgb24",
        )  # fmt: skip
        with warnings.catch_warnings():
            # JAX warns of every fork; behind this one comes nothing but ffmpeg.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            writer.send(None)
        for frame in np.concatenate([even, held]):
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        with open(path, "rb") as file:
            return file.read()


def _mp4_comment(data: bytes) -> str:
    """The iTunes-style comment atom: '©cmt', then size, 'data', type, locale, text."""
    at = data.rfind(b"\xa9cmt")
    if at < 0:
        return ""
    size = int.from_bytes(data[at + 4 : at + 8], "big")
    return data[at + 20 : at + 4 + size].decode()
