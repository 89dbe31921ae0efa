"""Small videos, and what may happen to their bytes."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from tavid_jax.data.files import probe_all
from tavid_jax.data.synthetic import SceneConfig, sample_scene, scene_clip
from tavid_jax.data.video import write_video
from tests.faults.program import Failed, Refused

_CLIPS, _FRAMES = 6, 50


def make_videos(folder: Path) -> list[Path]:
    """A few short videos of moving objects."""
    folder.mkdir(parents=True)
    config = SceneConfig(num_frames=_FRAMES, size_hw=(64, 64))
    paths = [folder / f"clip{number}.mp4" for number in range(_CLIPS)]
    for seed, path in enumerate(paths):
        write_video(path, scene_clip(sample_scene(config, seed)).video, fps=12.0)
    return paths


def rot(videos: list[Path], number: int, shared: Path) -> bytes:
    """Zeros in the place of a video's pictures, though size and time stay; what was there.

    What decoding it told before is known in `shared`, as after an earlier start.
    """
    probe_all(videos, cache_dir=shared / "data" / "tracks")
    whole = videos[number].read_bytes()
    start, stop = whole.index(b"mdat") + 4, whole.rindex(b"moov") - 4
    if stop - start < 1000:
        raise Failed(f"{videos[number]} is no mp4 with its pictures before its index")
    put(videos[number], whole[:start] + bytes(stop - start) + whole[stop:])
    return whole


def put(file: Path, content: bytes) -> None:
    """Other bytes, the same times."""
    stat = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


# Of <sys/fanotify.h> and <fcntl.h>: what may ask before a file is opened, and about which.
_ASKS_FIRST, _ADD, _BEFORE_OPENING, _HERE = 0x04, 0x01, 0x10000, -100


@contextlib.contextmanager
def never_opens(file: Path) -> Iterator[None]:
    """Whoever opens the file within waits: the kernel asks us for leave, and we do not answer.

    Raises Refused without the right to do so.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    asked = libc.fanotify_init(_ASKS_FIRST, os.O_RDONLY)
    mask = ctypes.c_uint64(_BEFORE_OPENING)
    if asked < 0 or libc.fanotify_mark(asked, _ADD, mask, _HERE, os.fsencode(file)):
        raise Refused(f"no file can be made to hang: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.close(asked)
