"""MagicData as TrajLoom trains on it: which clips are large, wide and long enough, and the split.

The paper filters by aspect ratio, resolution and length (16k of 23k clips are left), and holds out
a tenth by a seed; its bounds and its split are not public, so those here are ours and are recorded.
"""

from __future__ import annotations

import argparse
import collections
import csv
import dataclasses
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tavid_jax.data import files
from tavid_jax.data.arguments import positive, size
from tavid_jax.data.cache import write_whole
from tavid_jax.data.clip import ClipError
from tavid_jax.data.official import OFFICIAL_SIZE_HW
from tavid_jax.data.progress import Progress
from tavid_jax.data.verdicts import Verdict, write_verdicts
from tavid_jax.data.video import VIDEO_SUFFIXES, VideoError, open_video, probe

CAPTIONS, MOTION = "MagicData.csv", "MagicData_motioncaption.csv"


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which clips are used.

    Attributes:
      size_hw: (H, W) that they are trained at; smaller videos are refused.
      frames: that they need.
      aspect: most by which width / height may differ from that of `size_hw`, as a share of it
        (ours: 1280x720 is 2.6 % off 832x480).
      enlarge: most by which a side may have to be enlarged (ours: not at all).
    """

    size_hw: tuple[int, int] = OFFICIAL_SIZE_HW
    frames: int = 162
    aspect: float | int = 0.05
    enlarge: float | int = 1.0

    def refusal(self, size_hw: tuple[int, int], frames: int) -> str:
        """Kind of the reason not to use a video of this size and length, and numbers; "" = use."""
        (height, width), (h, w) = self.size_hw, size_hw
        off = (w / h) / (width / height) - 1
        if abs(off) > self.aspect:
            return f"aspect ratio: {w}x{h} is {off:+.1%} off {width}x{height}"
        if max(height / h, width / w) > self.enlarge:
            return f"resolution: {w}x{h} is smaller than {width}x{height}"
        if frames < self.frames:
            return f"length: {frames} of {self.frames} frames"
        return ""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What a selection gave.

    Attributes:
      verdicts: name of the video -> "train", "eval", or why it is refused.
      captions: name of the video -> text, of those used.
    """

    verdicts: dict[str, str]
    captions: dict[str, str]

    def part(self, split: str) -> dict[str, Verdict]:
        """The list of one split, as `config.data.clips.selected` reads it."""
        return {
            name: Verdict(told == split, told if told not in ("train", "eval") else f"in {told}")
            for name, told in self.verdicts.items()
        }

    def counts(self) -> dict[str, int]:
        """Videos by split, and by kind of refusal."""
        return dict(collections.Counter(told.split(":")[0] for told in self.verdicts.values()))


def choose(
    root: str | os.PathLike,
    rule: Rule = Rule(),  # noqa: B008 (frozen)
    *,
    seed: int = 42,
    eval_share: float | int = 0.1,
    tracks: str | os.PathLike | None = None,
    decode: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Chosen:
    """Judges every video of MagicData, and splits those that are used.

    Args:
      root: folder that holds videos/ (or the videos), and the two files of captions if there.
      rule: the bounds.
      seed: of the split; the same videos and seed give the same one.
      eval_share: that is held out.
      tracks: folder of track files, without which a video is refused; None = not asked for.
      decode: whether length is counted by decoding instead of read in the file's head.
      progress: called with (judged, all).

    Raises:
      ClipError: no videos, none that is used, or captions that cannot be read.
    """
    if not 0 <= eval_share < 1:
        raise ClipError(f"the share held out must lie in [0, 1), got {eval_share}")
    place = Path(root) / "videos" if (Path(root) / "videos").is_dir() else Path(root)
    paths = [p for p in files.find_videos(place) if p.suffix.lower() in VIDEO_SUFFIXES]
    if not paths:
        raise ClipError(f"{place}: holds no video")
    verdicts: dict[str, str] = {}
    for number, (path, name) in enumerate(zip(paths, files.names(list(map(str, paths))),
                                              strict=True), 1):  # fmt: skip
        verdicts[name] = _refusal(path, rule, tracks, decode)
        progress(number, len(paths))
    used = [name for name, told in verdicts.items() if not told]
    if not used:
        raise ClipError(f"{place}: none of {len(paths)} videos is used ({_some(verdicts)})")
    order = np.random.default_rng(seed).permutation(len(used))
    held_out = {used[i] for i in order[: round(eval_share * len(used))]}
    for name in used:
        verdicts[name] = "eval" if name in held_out else "train"
    words = captions(root)
    return Chosen(verdicts, {name: words.get(Path(name).name, "") for name in used})


def captions(root: str | os.PathLike) -> dict[str, str]:
    """Caption of each video of MagicData, with the words on its camera behind it if there are any.

    Raises:
      ClipError: a file that cannot be read.
    """
    plain, motion = (
        files.read_captions(Path(root) / name) if (Path(root) / name).is_file() else {}
        for name in (CAPTIONS, MOTION)
    )
    joined = {}
    for name in {**plain, **motion}:
        first, second = plain.get(name, ""), motion.get(name, "")
        # A file of whole captions has the plain one in it already.
        joined[name] = second if first and first in second else f"{first} {second}".strip()
    return joined


def write_chosen(out: str | os.PathLike, chosen: Chosen, facts: Mapping[str, Any]) -> list[Path]:
    """Writes train.csv and eval.csv (verdicts), captions.csv and summary.json; each whole.

    Args:
      out: folder.
      chosen: from `choose`.
      facts: what it was made by, JSON-able.
    """
    out = Path(out)
    for split in ("train", "eval"):
        write_verdicts(out / f"{split}.csv", chosen.part(split))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["videoid", "text"])
    writer.writerows([Path(name).name, text] for name, text in chosen.captions.items())
    write_whole(out / "captions.csv", stream.getvalue().encode())
    captioned = sum(map(bool, chosen.captions.values()))
    summary = {**facts, "counts": chosen.counts(), "captioned": captioned}
    write_whole(out / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    return [out / name for name in ("train.csv", "eval.csv", "captions.csv", "summary.json")]


def _refusal(path: Path, rule: Rule, tracks: str | os.PathLike | None, decode: bool) -> str:
    try:
        size_hw, frames = _head(path)
        told = rule.refusal(size_hw, frames)
        if not told and decode:
            told = rule.refusal(size_hw, probe(path).num_frames)
    except VideoError as error:
        return f"broken: {str(error).removeprefix(f'{path}: ')}"
    if not told and tracks and not files.find_tracks(path, tracks, (".npz",)):
        return "no track file"
    return told


def _head(path: Path) -> tuple[tuple[int, int], int]:
    """((H, W), frames) as the file says."""
    capture = open_video(path)
    try:
        keys = cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_COUNT
        height, width, frames = (int(capture.get(key)) for key in keys)
    finally:
        capture.release()
    if min(height, width) < 1:
        raise VideoError(f"{path}: has no picture")
    return (height, width), frames


def _some(verdicts: Mapping[str, str]) -> str:
    return files.some([f"{name}: {told}" for name, told in verdicts.items()])


def add(commands) -> None:
    """Adds the command `magicdata` to a parser's subparsers."""
    rule = Rule()
    parser = commands.add_parser(
        "magicdata",
        help="choose and split the clips of MagicData that TrajLoom trains on",
        description=(
            "Keeps videos of the right aspect ratio, resolution and length, holds out a share of "
            "them by a seed, and writes OUT/train.csv and eval.csv (read by "
            "--config.data.clips.selected), captions.csv (--config.data.clips.captions; words on "
            "the camera behind those on the scene) and summary.json. The bounds of the paper are "
            "not public: the defaults are ours. Exit code 1 if nothing is kept."
        ),
    )
    parser.set_defaults(run=_run)
    parser.add_argument("root", metavar="ROOT", help=f"holds videos/, {CAPTIONS}, {MOTION}")
    parser.add_argument("out", metavar="OUT", help="folder to write to")
    parser.add_argument("--size", type=size, default=rule.size_hw, metavar="HxW",
                        help="that clips are trained at (default: 480x832)")  # fmt: skip
    parser.add_argument("--frames", type=positive(int), default=rule.frames,
                        help="least length (default: %(default)s)")  # fmt: skip
    parser.add_argument("--aspect", type=positive(float), default=rule.aspect,
                        help="most that the aspect ratio may be off (default: %(default)s)",
                        )  # fmt: skip
    parser.add_argument("--enlarge", type=positive(float), default=rule.enlarge,
                        help="most that a video may be enlarged (default: %(default)s)",
                        )  # fmt: skip
    parser.add_argument("--seed", type=int, default=42, help="of the split (default: 42)")
    parser.add_argument("--eval-share", type=float, default=0.1,
                        help="share held out (default: %(default)s)")  # fmt: skip
    parser.add_argument("--tracks", metavar="FOLDER", help="refuse videos without a track file")
    parser.add_argument("--decode", action="store_true",
                        help="count frames by decoding (slow), not by the file's head",
                        )  # fmt: skip


def _run(args: argparse.Namespace) -> int:
    rule = Rule(args.size, args.frames, args.aspect, args.enlarge)
    chosen = choose(
        args.root,
        rule,
        seed=args.seed,
        eval_share=args.eval_share,
        tracks=args.tracks,
        decode=args.decode,
        progress=Progress(),
    )
    facts = {"rule": dataclasses.asdict(rule), "seed": args.seed, "eval_share": args.eval_share}
    facts |= {"lengths": "decoded" if args.decode else "of the files' heads"}
    for path in write_chosen(args.out, chosen, facts):
        print(os.path.abspath(path))
    for kind, count in sorted(chosen.counts().items(), key=lambda item: -item[1]):
        print(f"{count:7d}  {kind}")
    return 0
