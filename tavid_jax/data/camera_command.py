"""The command `camera`: captions that say how the camera moves, and pictures to check them by."""

from __future__ import annotations

import argparse
import collections
import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tavid_jax.data import files
from tavid_jax.data.arguments import positive, size
from tavid_jax.data.cache import write_whole
from tavid_jax.data.clip import ClipError
from tavid_jax.data.official import TrackFile
from tavid_jax.data.progress import Progress
from tavid_jax.data.track_sources import TrackSource, find_sources, read_source
from tavid_jax.data.video import VideoError, iter_frames, resize_image
from tavid_jax.tracks.camera_motion import MOTIONS, CameraMotion, captioned, describe, estimate
from tavid_jax.viz import camera_motion as pictures
from tavid_jax.viz import media, sheets

_FRAMES = 162  # of TrajLoom's clips, history and future
_TOLD = 30  # clips of which each has a line
_SHEET, _COLUMNS, _THUMB_HW = 60, 5, (156, 270)


@dataclasses.dataclass(frozen=True)
class Told:
    """What became of one clip.

    Attributes:
      source: the clip.
      motion: of its camera.
      phrase: the sentence, "" where nothing can be told.
      text: its caption with the sentence.
    """

    source: TrackSource
    motion: CameraMotion
    phrase: str
    text: str

    def line(self) -> str:
        """Name, sentence and numbers."""
        rates = ", ".join(f"{name} {getattr(self.motion, name).value:+.3f}" for name in MOTIONS)
        return (
            f"{self.source.name}: {self.phrase or '(nothing can be told)'}\n"
            f"    {rates}, shake {self.motion.shake:.3f}, reliable {self.motion.reliable:.0%}"
        )


def captions_csv(told: Sequence[Told]) -> str:
    """TrajLoom's captions file: columns videoid, video_path, text."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["videoid", "video_path", "text"])
    writer.writerows([one.source.name, one.source.path, one.text] for one in told)
    return stream.getvalue()


def add(commands) -> None:
    """Adds the command to a parser's subparsers."""
    camera = commands.add_parser(
        "camera",
        help="captions that say how the camera moves, from track files or videos",
        description=(
            "Reads the dominant motion of every clip's tracks, says it in a sentence such as 'The "
            "camera slowly pans right.' and writes it behind the clip's caption into a CSV that "
            "training reads by --config.data.clips.captions. Track files are TrajLoom's npz; a "
            "video without one is tracked by optical flow. Exit code 1 if no clip can be read."
        ),
    )
    camera.set_defaults(run=_camera)
    camera.add_argument(
        "paths", nargs="+", metavar="PATH", help="track files, videos, folders of either, globs"
    )
    camera.add_argument("--out", default="captions.csv", metavar="CSV", help="default: %(default)s")
    camera.add_argument(
        "--captions",
        metavar="CSV",
        help="captions so far, columns text and videoid or video_path (default: the .txt of the "
        "same name beside each video)",
    )
    camera.add_argument(
        "--plots", metavar="DIR", help="a picture of every clip and sheets of all, to check by"
    )
    camera.add_argument(
        "--fps",
        type=positive(float),
        help="rate of track files that state none and belong to no video",
    )
    camera.add_argument(
        "--frames",
        type=positive(int),
        default=_FRAMES,
        help="of a clip, from the first on (default: %(default)s)",
    )
    camera.add_argument(
        "--tracks-size",
        type=size,
        metavar="HxW",
        help="frame size of track files that state none (default: 480x832)",
    )


def _camera(args: argparse.Namespace) -> int:
    sources = find_sources(args.paths)
    captions = _captions(args.captions, sources)
    told, thumbs, progress = [], [], Progress()
    for number, source in enumerate(sources, 1):
        try:
            file = read_source(source, frames=args.frames, fps=args.fps, size_hw=args.tracks_size)
        except (ClipError, VideoError) as error:
            print(f"SKIPPED {error}")
            continue
        motion = estimate(file.tracks, file.visibility, file.size_hw, file.fps)
        phrase = describe(motion)
        told.append(Told(source, motion, phrase, captioned(captions[source.name], phrase)))
        if args.plots:
            thumbs.append(_picture(Path(args.plots), told[-1], file))
        progress(number, len(sources))
    if not told:
        return 1
    write_whole(args.out, captions_csv(told).encode())
    print(_summary(told))
    if args.plots:
        for sheet in _sheets(Path(args.plots), told, thumbs):
            print(f"sheet: {sheet.absolute()}")
    print(f"captions: {os.path.abspath(args.out)} (read them by --config.data.clips.captions)")
    return 0


def _captions(path: str | None, sources: Sequence[TrackSource]) -> dict[str, str]:
    """Caption of every clip, "" where there is none.

    Raises:
      ClipError: a file of captions of which none belongs to a clip.
    """
    if path is None:
        return {s.name: files.find_caption(s.video) if s.video else "" for s in sources}
    known = files.read_captions(path)
    found = {source.name: known.get(source.name, "") for source in sources}
    unknown = [name for name in known if name not in found]
    if len(unknown) == len(known):
        raise ClipError(
            f"{path}: none of its {len(known)} captions ({files.some(unknown)}) belongs to a clip "
            f"({files.some(list(found))})"
        )
    if unknown:
        print(f"{len(unknown)} captions of {path} have no clip ({files.some(unknown)})")
    return found


def _summary(told: Sequence[Told]) -> str:
    if len(told) <= _TOLD:
        return "\n".join(one.line() for one in told)
    counts = collections.Counter(one.phrase or "(nothing can be told)" for one in told)
    return "\n".join(f"{count:6d}  {phrase}" for phrase, count in counts.most_common(_TOLD))


def _picture(folder: Path, told: Told, file: TrackFile) -> UInt8[np.ndarray, "h w 3"]:
    """Writes the picture of a clip; gives its thumbnail."""
    frame = None
    if told.source.video:
        frame = resize_image(next(iter_frames(told.source.video, [0])), file.size_hw)
    drawn = pictures.frame_with_tracks(file.tracks, file.visibility, file.size_hw, frame)
    png = pictures.camera_figure(drawn, told.motion, told.phrase, told.source.name)
    write_whole(folder / f"{told.source.name}.png", png)
    return resize_image(drawn, _THUMB_HW)


def _sheets(
    folder: Path, told: Sequence[Told], thumbs: Sequence[UInt8[np.ndarray, "h w 3"]]
) -> list[Path]:
    """Sheets of all clips with their sentences, so many on each."""
    paths = []
    for start in range(0, len(told), _SHEET):
        words = [f"{one.source.name}: {one.phrase or '(nothing)'}" for one in told[start:][:_SHEET]]
        shown = [thumb[None] for thumb in thumbs[start : start + _SHEET]]
        sheet = sheets.moving_sheet(shown, words, columns=_COLUMNS)[0]
        paths.append(folder / f"index{f'_{start // _SHEET + 1}' if start else ''}.png")
        write_whole(paths[-1], media.encode_png(sheet).data)
    return paths
