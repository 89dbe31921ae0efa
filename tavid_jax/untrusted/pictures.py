"""Sizes of pictures and kinds of videos, told from their first bytes before they are decoded."""

from __future__ import annotations

import io
import os
from typing import Any

from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import UntrustedError

_HEAD = 64
_FRAME_MARKS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG's SOF markers
_BARE_MARKS = frozenset((0x01, *range(0xD0, 0xD8)))  # without a length
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def check_picture(source: str | os.PathLike | bytes) -> tuple[int, int]:
    """(H, W) of a PNG, JPEG, WebP, BMP or GIF, from its head.

    Args:
      source: a file, or its bytes.

    Raises:
      UntrustedError: none of these, damaged, or more pixels than the limit `frame_pixels`.
      OSError: it cannot be read.
    """
    if isinstance(source, bytes):
        size_hw = _size(io.BytesIO(source))
    else:
        with open(source, "rb") as stream:
            size_hw = _size(stream)
    if min(size_hw) < 1:
        raise UntrustedError(f"is a picture of {size_hw[1]}x{size_hw[0]} pixels")
    what = f"a picture of {size_hw[1]}x{size_hw[0]}"
    limits.check("frame_pixels", size_hw[0] * size_hw[1], what)
    return size_hw


def picture_bytes(path: str | os.PathLike) -> io.BytesIO:
    """A picture's file in memory, measured: from a file, decoders take what it claims that follows.

    Raises:
      UntrustedError: see `check_picture`; a file that is larger than a limit.
      OSError: it cannot be read.
    """
    limits.check("picture_bytes", os.stat(path).st_size, "its size")
    check_picture(path)
    with open(path, "rb") as stream:
        return io.BytesIO(stream.read())


def check_container(path: str | os.PathLike) -> None:
    """Refuses a video file that does not begin as MP4, MOV, AVI, Matroska, WebM or GIF do.

    Decoders tell formats from the content, whatever a file is named, and some of these are lists
    that name other files and addresses.

    Raises:
      UntrustedError: another kind of file.
      OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        head = stream.read(_HEAD)
    known = (
        head[4:8] in _MP4_BOXES
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or head[:4] in (b"\x1a\x45\xdf\xa3", b"GIF8")
    )
    if not known:
        raise UntrustedError("not a video: it does not begin as MP4, MOV, AVI, MKV, WebM or GIF do")


def _size(stream: Any) -> tuple[int, int]:
    head = stream.read(_HEAD)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")
    if head.startswith(b"\xff\xd8"):
        return _jpeg(stream)
    if head.startswith(b"GIF8") and len(head) >= 10:
        return int.from_bytes(head[8:10], "little"), int.from_bytes(head[6:8], "little")
    if head.startswith(b"BM") and len(head) >= 26:
        return _bmp(head)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp(head)
    raise UntrustedError("is no PNG, JPEG, WebP, BMP or GIF: it does not begin as one")


def _bmp(head: bytes) -> tuple[int, int]:
    if int.from_bytes(head[14:18], "little") == 12:  # the oldest kind
        return int.from_bytes(head[20:22], "little"), int.from_bytes(head[18:20], "little")
    height = int.from_bytes(head[22:26], "little", signed=True)  # negative: from the top
    return abs(height), int.from_bytes(head[18:22], "little", signed=True)


def _webp(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        return height, width
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))
        return height, width
    raise UntrustedError("is a damaged WebP")


def _jpeg(stream: Any) -> tuple[int, int]:
    """Walks from marker to marker until the one that tells the size."""
    stream.seek(2)
    while True:
        byte = stream.read(1)
        while byte == b"\xff":  # any number of them may stand before a marker
            mark = stream.read(1)
            if mark != b"\xff":
                break
        else:
            raise UntrustedError("is a damaged JPEG: no marker where one is due")
        if not mark or mark[0] in (0xD8, 0xD9, 0xDA):
            raise UntrustedError("is a damaged JPEG: it does not tell its size")
        if mark[0] in _BARE_MARKS:
            continue
        length = int.from_bytes(stream.read(2), "big")
        if mark[0] in _FRAME_MARKS:
            data = stream.read(5)
            if len(data) < 5:
                raise UntrustedError("is a damaged JPEG: it is cut off")
            return int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:5], "big")
        if length < 2:
            raise UntrustedError("is a damaged JPEG: a part without length")
        stream.seek(length - 2, os.SEEK_CUR)
