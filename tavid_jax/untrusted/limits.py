"""How much a file may ask for, and why: one table, looked at before memory is taken.

A limit is raised by an environment variable, `TAVID_LIMIT_` and its name in capitals:

    TAVID_LIMIT_VIDEO_BYTES=32e9 python main.py ...
"""

from __future__ import annotations

import os
from typing import NamedTuple

from tavid_jax.untrusted.errors import LimitError, UntrustedError

PREFIX = "TAVID_LIMIT_"
_MI, _GI = 2**20, 2**30


class Limit(NamedTuple):
    """A limit.

    Attributes:
      most: that is allowed by default.
      unit: of it, for messages.
      why: it is this number.
    """

    most: int
    unit: str
    why: str


LIMITS: dict[str, Limit] = {
    # --- text
    "json_bytes": Limit(2 * _GI, "bytes", "parsed JSON takes about ten times its bytes of memory"),
    "json_depth": Limit(64, "levels", "no known format nests deeper than ten"),
    "text_bytes": Limit(256 * _MI, "bytes", "a table of a million captions is smaller"),
    "caption_chars": Limit(20_000, "characters", "text encoders read at most 512 tokens"),
    # --- arrays
    "array_bytes": Limit(16 * _GI, "bytes", "more than tracks of every pixel of 81 frames take"),
    "archive_members": Limit(65_536, "members", "an npz of tracks has ten, a checkpoint thousands"),
    "pickle_bytes": Limit(4 * _GI, "bytes", "the largest of TAP-Vid's files has 1.3 GB"),
    "pickle_values": Limit(50_000_000, "values", "a value that is held twice counts twice"),
    # --- pictures and videos
    "frame_pixels": Limit(64 * _MI, "pixels", "8192x8192: 200 MB of memory a frame"),
    "picture_bytes": Limit(_GI, "bytes", "the largest frame, not packed at all, has a fifth of it"),
    "video_frames": Limit(1_000_000, "frames", "nine hours at 30 frames a second"),
    "video_seconds": Limit(100_000, "seconds", "a day; a false rate would make endless frames"),
    "video_bytes": Limit(16 * _GI, "bytes", "all frames of a clip are in memory at once"),
    # --- tracks
    "points": Limit(4 * _MI, "points", "ten for every pixel of 832x480"),
    "track_frames": Limit(100_000, "frames", "an hour at 25 frames a second"),
    "track_places": Limit(512 * _MI, "places", "4 GB of memory; points times frames"),
    "segments": Limit(65_536, "segments", "ids have 16 bits at most"),
    # --- weights
    "header_bytes": Limit(256 * _MI, "bytes", "the header of a million tensors is smaller"),
    "tokenizer_bytes": Limit(256 * _MI, "bytes", "umT5's, with 256 thousand pieces, has 17 MB"),
}


def most(name: str) -> int:
    """A limit as it holds now.

    Raises:
      UntrustedError: its environment variable holds no positive number.
    """
    variable = PREFIX + name.upper()
    text = os.environ.get(variable)
    if text is None:
        return LIMITS[name].most
    try:
        value = float(text)
        return int(value) if value >= 1 else _refuse(variable, text)
    except (ValueError, OverflowError):
        return _refuse(variable, text)


def check(name: str, value: int, what: str) -> None:
    """Refuses what a file asks for beyond a limit.

    Args:
      name: one of `LIMITS`.
      value: that is asked for.
      what: words for it, such as "its arrays, unpacked".

    Raises:
      LimitError: says what is asked for, the limit, its reason and how to raise it.
    """
    allowed = most(name)
    if value > allowed:
        limit = LIMITS[name]
        raise LimitError(
            f"refused: {what}: {_told(value)} {limit.unit}, the limit is {allowed:,} "
            f"({limit.why}); if the file is to be trusted, set "
            f"{PREFIX}{name.upper()}={_told(value, '')}"
        )


def check_tracks(points: int, frames: int, what: str = "its tracks") -> None:
    """Refuses tracks of too many points or frames, see `check`."""
    check("points", points, what)
    check("track_frames", frames, what)
    check("track_places", points * frames, what)


def check_video(frames: int, size_hw: tuple[int, int], channels: int = 3) -> None:
    """Refuses a video that is too large to be held in memory, see `check`."""
    check("frame_pixels", size_hw[0] * size_hw[1], f"frames of {size_hw[1]}x{size_hw[0]}")
    what = f"{_told(frames)} frames of {size_hw[1]}x{size_hw[0]} at once"
    check("video_bytes", frames * size_hw[0] * size_hw[1] * channels, what)


def _told(value: int, comma: str = ",") -> str:
    """A number that a file made up may have more digits than Python writes."""
    return f"{value:{comma}}" if value < 10**30 else "10^30 or more"


def _refuse(variable: str, text: str) -> int:
    raise UntrustedError(f"the environment variable {variable} must be a positive number: {text!r}")
