"""Folders of clips made from other data sets: videos, masks, captions and a manifest.

OUT/<name>.mp4 or OUT/<name>/   a video, or a folder of images with its rate in fps.txt
OUT/<name>.target.png           masks of its first frame, see `masks`
OUT/<name>.actor.png
OUT/<name>.txt                  its caption
OUT/manifest.jsonl              one line of facts per clip: what it was made from
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool

from tavid_jax.data.clip import ClipError
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.names import check_name

MANIFEST = "manifest.jsonl"


@dataclasses.dataclass(frozen=True)
class Imported:
    """What an import has made.

    Attributes:
      folder: of the clips.
      count: how many there are.
      skipped: (name, reason) of what could not be used.
    """

    folder: Path
    count: int
    skipped: tuple[tuple[str, str], ...]


class ClipsWriter:
    """Writes such a folder; it appears whole when the `with` block ends well, or not at all.

    Args:
      folder: to make.

    Attributes:
      skipped: (name, reason), to be filled by the user of this class.
      place: where files of the clips are written to until then.

    Raises:
      ClipError: the folder is there already; on leaving, nothing was written.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        if self.folder.exists():
            raise ClipError(f"{folder}: is there already; delete it or name another folder")
        self.skipped: list[tuple[str, str]] = []
        self.place = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.part")
        self._rows: list[Mapping[str, Any]] = []

    def __enter__(self) -> ClipsWriter:
        self.place.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self.place, ignore_errors=True)

    def path(self, name: str) -> Path:
        """Where a file of this name is written to.

        Raises:
          ClipError: a name with folders in it, such as a data set may make up.
        """
        with reading(self.folder, ClipError, "a folder of clips"):
            return self.place / check_name(name)

    def add(
        self,
        name: str,
        target: Bool[np.ndarray, "h w"],
        actor: Bool[np.ndarray, "h w"] | None = None,
        caption: str = "",
        **facts: Any,
    ) -> None:
        """Masks, caption and manifest line of the clip whose video was written under this name."""
        self._mask(f"{name}.target.png", target)
        if actor is not None:
            self._mask(f"{name}.actor.png", actor)
        if caption:
            self.path(f"{name}.txt").write_text(f"{caption}\n", encoding="utf-8")
        self._rows.append({"name": name, "caption": caption, **facts})

    def result(self) -> Imported:
        """What was made; after the `with` block."""
        return Imported(self.folder, len(self._rows), tuple(self.skipped))

    def _mask(self, name: str, mask: Bool[np.ndarray, "h w"]) -> None:
        _, png = cv2.imencode(".png", mask.astype(np.uint8) * 255)
        self.path(name).write_bytes(png.tobytes())

    def _finish(self) -> None:
        if not self._rows:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.skipped[:5])
            raise ClipError(f"{self.folder}: no clip could be made: {reasons or 'nothing found'}")
        lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in self._rows)
        (self.place / MANIFEST).write_text(lines, encoding="utf-8")
        os.replace(self.place, self.folder)


def link(source: Path, place: Path) -> None:
    """A link to a file, or a copy where the file system has no links."""
    try:
        place.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, place)
