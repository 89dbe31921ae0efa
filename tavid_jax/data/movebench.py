"""MoveBench's folder (Wan-Move), read and checked:

    MoveBench/en/single_track.txt          video path,caption: one clip a line, split at the first
    MoveBench/en/multi_track.txt           comma; zh/ has the same with Chinese captions
    MoveBench/.../first_frame/ID.jpg       ID is the video's name without its ending
    MoveBench/.../track/single/ID_tracks.npy, ID_visibility.npy

Pictures and tracks lie in the folder of the language or beside it. Tracks are in pixels of the
first frame, 832x480, and of 81 frames.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from tavid_jax.data.clip import ClipError
from tavid_jax.untrusted.errors import UntrustedError, told
from tavid_jax.untrusted.names import inside
from tavid_jax.untrusted.texts import read_text

LANGUAGES = ("en", "zh")
KINDS = ("single", "multi")


class MoveBenchError(ClipError):
    """The folder is broken; the message names the file."""


@dataclasses.dataclass(frozen=True)
class MoveBenchClip:
    """One clip.

    Attributes:
      name: its ID.
      caption: what it shows.
      image: its first frame.
      tracks: that it follows, Wan-Move's format.
      video: the true one, None where it is not in the folder.
    """

    name: str
    caption: str
    image: Path
    tracks: Path
    video: Path | None


def read_movebench(
    root: str | os.PathLike, language: str = "en", kind: str = "single"
) -> list[MoveBenchClip]:
    """The clips of a list, in its order.

    Args:
      root: the folder MoveBench.
      language: one of `LANGUAGES`.
      kind: one of `KINDS`: tracks of one object, or of several.

    Raises:
      MoveBenchError: an unknown language or kind; a list that is missing, empty or broken; an ID
        that is there twice, or without its picture or tracks.
    """
    for name, value, known in (("language", language, LANGUAGES), ("kind", kind, KINDS)):
        if value not in known:
            raise MoveBenchError(f"MoveBench has no {name} {value!r}: there are {', '.join(known)}")
    folders = (Path(root) / language, Path(root))
    path = folders[0] / f"{kind}_track.txt"
    try:
        lines = read_text(path).splitlines()
    except (OSError, UntrustedError) as error:
        raise MoveBenchError(
            f"{path}: cannot be read ({told(error)}); is {root} MoveBench?"
        ) from error
    clips: dict[str, MoveBenchClip] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        video, comma, caption = line.partition(",")
        name = Path(video.strip()).stem
        if not comma or not name or not caption.strip():
            raise MoveBenchError(f"{path}, line {number}: is no VIDEO,CAPTION: {line.strip()!r}")
        if name in clips:
            raise MoveBenchError(f"{path}, line {number}: {name} is there twice")
        try:
            clips[name] = MoveBenchClip(
                name,
                caption.strip(),
                _needed(path, folders, f"first_frame/{name}.jpg"),
                _needed(path, folders, f"track/{kind}/{name}_tracks.npy"),
                _found(folders, video.strip()),
            )
        except UntrustedError as error:
            raise MoveBenchError(f"{path}, line {number}: {error}") from error
    if not clips:
        raise MoveBenchError(f"{path} lists no clip")
    return list(clips.values())


def _found(folders: tuple[Path, ...], name: str) -> Path | None:
    paths = [inside(folder, name) for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def _needed(path: Path, folders: tuple[Path, ...], name: str) -> Path:
    found = _found(folders, name)
    if found is None:
        places = " or ".join(str(folder) for folder in folders)
        raise MoveBenchError(f"{path} names a clip without {name} (in {places})")
    return found
