"""A folder of grounded clips from raw ones: by several hosts, resumable, whole or not there.

    folder/plan.json          which raw clips there are and what is done to them; written first
    folder/00000-of-00012/    those of the first raw clips that were kept (see `packing`), and in
                              its meta.json what became of each; every shard is whole or not there
    folder/index.json         all that is known of every clip; written when all shards are there

A host that is killed loses the shard that it was at; the same command goes on. Equal plans give
equal bytes.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.grounding.grounder import RULES, Grounded, Grounder, LeftOut, ProviderError
from tavid_jax.data.grounding.packing import Codec, pack
from tavid_jax.data.plan import PLAN, Plan, begin, read_json, read_plan
from tavid_jax.data.records import RecordError, RecordSource, RecordWriter
from tavid_jax.data.video import VideoError

KIND = "grounded clips"  # in the facts of a plan: how such a folder is told from others
INDEX = "index.json"
_AHEAD = 2  # clips decoded before they are asked for
_VERSION = 1
_TOLD = 5  # reasons of a kind that a summary names


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of raw clips.

    Attributes:
      kept: an entry for each grounded clip, in order: id, caption, texts, points, motion, fps, and
        `blind`, the frames in which no point is seen.
      left_out: (id, kind, reason) of the others.
      notes: (id, kind, words) of objects left out of clips that were kept.
    """

    kept: list[dict[str, Any]]
    left_out: list[tuple[str, str, str]]
    notes: list[tuple[str, str, str]]

    @property
    def read(self) -> int:
        """How many raw clips there were."""
        return len(self.kept) + len(self.left_out)

    def text(self) -> str:
        """As lines of text."""
        objects = [len(entry["texts"]) for entry in self.kept]
        points = [entry["points"] for entry in self.kept]
        lines = [f"{self.read} clips read, {len(self.kept)} kept, {len(self.left_out)} left out"]
        if self.kept:
            lines.append(
                f"kept: {np.mean(objects):.1f} objects and {np.mean(points):.1f} points a clip, "
                f"median way {np.median([entry['motion'] for entry in self.kept]):.1%} of the "
                "diagonal"
            )
        for title, told in (("left out", self.left_out), ("objects left out", self.notes)):
            kinds = collections.Counter(kind for _, kind, _ in told)
            for kind, count in kinds.most_common():
                lines.append(f"{title}, {kind}: {count}")
                some = [(name, why) for name, its, why in told if its == kind]
                lines += [f"    {name}: {why}" for name, why in some[:_TOLD]]
                lines += [f"    and {len(some) - _TOLD} more"] if len(some) > _TOLD else []
        return "\n".join(lines)


def ground_clips(
    source: Any,
    grounder: Grounder,
    folder: str | os.PathLike,
    *,
    codec: Codec = "jpeg",
    shard_size: int = 64,
    strict: bool = False,
    index: int = 0,
    count: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary | None:
    """Grounds this host's share of a source's clips, but for shards that are there already.

    Args:
      source: `RawClips`, `SceneClips`, or any other random-access source of clips with `entries()`
        and `facts()`.
      grounder: what is done to each.
      folder: of all shards.
      codec: of frames, see `packing.pack`.
      shard_size: raw clips of a shard.
      strict: whether bad input ends the work: a clip that cannot be used, or an object without a
        text or a visible point. What a rule leaves out does not.
      index: of this host, whose shards are `index`, `index + count`, ...
      count: number of hosts.
      progress: called with (clips done, clips to do) by this host; may raise to stop.

    Returns:
      What became of all clips; None while shards of other hosts are missing.

    Raises:
      ValueError: numbers that do not fit together, or no clips.
      ClipError: a provider that fails; with `strict` what is wrong with a clip.
      RecordError: the folder was begun otherwise, or holds something else.
    """
    if not 0 <= index < count:
        raise ValueError(f"shard {index}/{count}: hosts count from 0 to {count - 1}")
    folder = Path(folder)
    plan = _plan(source, grounder, codec, shard_size)
    _check_folder(folder)
    for path, reason in getattr(source, "skipped", ()) if strict else ():
        raise ClipError(f"{path}: {reason}")
    begin(folder, plan)
    mine = [shard for shard in plan.missing(folder) if shard % count == index]
    total, done = sum(len(plan.items(shard)) for shard in mine), itertools.count(1)
    for shard in mine:
        with RecordWriter(plan.path(folder, shard), {"shard": shard}) as writer:
            told: dict[str, list] = {"kept": [], "left_out": [], "notes": []}
            for item, clip in _read_ahead(source, plan.items(shard)):
                name = plan.clips[item]["id"]
                made = _made(clip, grounder, name, strict, told)
                if made is not None:
                    writer.write(pack(made.clip, codec, made.motion.median))
                progress(next(done), total)
            writer.meta |= told
    return _finish(folder, plan)


def read_summary(folder: str | os.PathLike) -> Summary:
    """What became of the clips of a finished folder.

    Raises:
      RecordError: no folder of grounded clips, or one that is not finished.
    """
    folder = Path(folder)
    if not is_grounded(folder):
        raise RecordError(f"{folder}: holds no grounded clips; make them by the command `ground`")
    plan = read_plan(folder)
    facts = read_json(folder / INDEX) or _gather(folder, plan)
    return Summary(
        facts["kept"], [tuple(one) for one in facts["left_out"]], [tuple(n) for n in facts["notes"]]
    )


def is_grounded(folder: str | os.PathLike) -> bool:
    """Whether a folder was begun by `ground_clips`."""
    plan = Path(folder) / PLAN
    if not plan.is_file():
        return False
    try:
        return json.loads(plan.read_text())["facts"].get("kind") == KIND
    except (ValueError, KeyError, AttributeError, TypeError, OSError):
        return False


def _plan(source: Any, grounder: Grounder, codec: Codec, shard_size: int) -> Plan:
    entries = source.entries()
    if not entries:
        raise ValueError(f"source {source.name!r} holds no clips: there is nothing to ground")
    facts = {"kind": KIND, "version": _VERSION, "codec": codec, "clips": source.facts()}
    return Plan(facts | grounder.facts(), entries, shard_size)


def _check_folder(folder: Path) -> None:
    there = folder.iterdir() if folder.is_dir() else ()
    held = [path.name for path in there if not path.name.startswith(".")]
    if held and not is_grounded(folder):
        raise RecordError(
            f"{folder}: is there and holds other things ({held[0]}); choose a folder of its own"
        )


def _made(
    clip: Clip | Exception, grounder: Grounder, name: str, strict: bool, told: dict[str, list]
) -> Grounded | None:
    """The grounded clip, or None and why not; what is to be told of it is."""
    try:
        if isinstance(clip, Exception):
            raise LeftOut("input", str(clip))
        made = grounder(clip)
    except ProviderError:
        raise
    except LeftOut as error:
        if strict and error.kind not in RULES:
            raise ClipError(f"clip {name!r}: {error}") from error
        told["left_out"].append([name, error.kind, str(error)])
        return None
    wrong = [words for kind, words in made.notes if kind not in RULES]
    if strict and wrong:
        raise ClipError(f"clip {name!r}: {wrong[0]}")
    told["kept"].append(_entry(made))
    told["notes"] += [[name, kind, words] for kind, words in made.notes]
    return made


def _entry(made: Grounded) -> dict[str, Any]:
    clip = made.clip
    return {
        "id": clip.id,
        "caption": clip.caption,
        "texts": list(clip.local_captions),
        "points": len(clip.tracks),
        "motion": round(made.motion.median, 5),
        "seen": round(made.motion.seen, 5),
        "fps": float(clip.fps),
        "size_hw": [int(side) for side in clip.size_hw],
        "frames": clip.num_frames,
        "blind": np.flatnonzero(~clip.visibility.any(axis=0)).tolist(),
    }


def _read_ahead(source: Any, items: range) -> Iterator[tuple[int, Clip | Exception]]:
    """Clips, decoded by threads before they are asked for; what cannot be read is its error."""

    def read(item: int) -> Clip | Exception:
        try:
            return source[item]
        except (ClipError, VideoError, OSError) as error:
            return error

    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="clips") as pool:
        waiting: collections.deque = collections.deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(read, item)))
                if len(waiting) > _AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _finish(folder: Path, plan: Plan) -> Summary | None:
    missing = plan.missing(folder)
    if missing:
        logging.info("%d of %d shards are left to other hosts", len(missing), plan.shards)
        return None
    if not (folder / INDEX).exists():
        partial = folder / f".{INDEX}.{os.getpid()}.part"
        partial.write_text(json.dumps(_gather(folder, plan), indent=1))
        partial.replace(folder / INDEX)
    for left in folder.glob(".*-of-*.part"):  # of killed hosts; all is made, nobody is at work
        shutil.rmtree(left, ignore_errors=True)
    return read_summary(folder)


def _gather(folder: Path, plan: Plan) -> dict[str, Any]:
    """The index of a folder whose shards are all there."""
    missing = plan.missing(folder)
    if missing:
        raise RecordError(
            f"{folder} is not finished: {len(missing)} of {plan.shards} shards are missing "
            f"({plan.path(folder, missing[0]).name}, ...); run the command that began it again"
        )
    gathered: dict[str, list] = {"kept": [], "left_out": [], "notes": [], "counts": []}
    for shard in range(plan.shards):
        meta = shard_meta(plan.path(folder, shard))
        for name in ("kept", "left_out", "notes"):
            gathered[name] += meta[name]
        gathered["counts"].append(len(meta["kept"]))
    return gathered


def shard_meta(folder: Path) -> dict[str, Any]:
    """What a shard says of its clips.

    Raises:
      RecordError: see `records.RecordSource`.
    """
    facts = read_json(folder / "meta.json")
    try:
        return facts["meta"] if facts["count"] == 0 else RecordSource(folder).meta
    except (KeyError, TypeError) as error:
        raise RecordError(f"{folder}: meta.json is broken; delete the folder") from error
