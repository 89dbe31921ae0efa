"""Examples in many files: made by several hosts, resumable, read as one source.

    folder/plan.json          what the examples depend on, and which clips they are; written first
    folder/00000-of-00012/    the first examples (see `records`), each shard whole or not there
    folder/shared/            what all examples have in common, one example
    folder/index.json         how large every shard is; written when all of them are there

Nothing but the plan decides what lies in a shard, so any number of hosts may make them, in any
order, at any time. In a bucket, too: a host makes a shard in its local copy and sends it; whoever
reads one fetches it first.
"""

from __future__ import annotations

import collections
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tavid_jax import places
from tavid_jax.data.files import some
from tavid_jax.data.plan import PLAN, Plan, begin, differing, read_json, read_plan
from tavid_jax.data.records import Example, RecordError, RecordSource, RecordWriter, dtype_named
from tavid_jax.places import Place
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.names import check_name

_INDEX, SHARED = "index.json", "shared"
NULL_TEXT = "null_text"
# Clips decoded ahead of the one that is being encoded, each by a thread: a clip of 81x480x832 has
# 97 MB and takes a core for about half a second, the encoders of a host's chips less than that.
_AHEAD = max(3, min(8, os.cpu_count() or 3))


@runtime_checkable
class Encoder(Protocol):
    """What makes examples of clips."""

    def facts(self) -> Mapping[str, Any]:
        """All that the examples depend on besides the clips, JSON-able."""
        ...

    def examples(self, captions: Sequence[str], clips: Iterator[Any]) -> Iterator[Example]:
        """One example for each clip, in order; all captions are known before the first clip."""
        ...

    def shared(self) -> Example:
        """Arrays that all examples have in common."""
        ...


def write_shards(
    folder: str | os.PathLike,
    plan: Plan,
    source: Any,
    encoder: Encoder,
    *,
    index: int = 0,
    count: int = 1,
    at_once: int = 512,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Makes this host's share of the shards, but those that are there already.

    A host that is killed loses the shard that it was at. Equal plans give equal bytes, whoever
    makes them.

    Args:
      folder: of all shards; every host writes into the same one, or they are copied together.
      plan: from `Plan.of`.
      source: where the plan's clips are read from.
      encoder: makes the examples.
      index: of this host, whose shards are `index`, `index + count`, ...; host 0 also makes what
        is shared.
      count: number of hosts.
      at_once: clips whose captions are encoded before the first of their videos is.
      progress: called with (examples made, examples to make) by this host; may raise to stop.

    Returns:
      Whether all shards of all hosts are there now.

    Raises:
      ValueError: numbers that do not fit together.
      RecordError: the folder was begun with another plan.
    """
    if not 0 <= index < count:
        raise ValueError(f"shard {index}/{count}: hosts count from 0 to {count - 1}")
    folder = places.place(folder)
    begin(folder, plan)
    mine = [shard for shard in plan.missing(folder) if shard % count == index]
    total = sum(len(plan.items(shard)) for shard in mine)
    done = itertools.count(1)
    for group in _batched(mine, max(1, at_once // plan.shard_size)):
        items = [item for shard in group for item in plan.items(shard)]
        captions = [plan.clips[item]["caption"] for item in items]
        made = encoder.examples(captions, _read_ahead(source, items))
        for shard in group:
            with RecordWriter(plan.path(folder, shard), {"shard": shard}) as writer:
                for item in plan.items(shard):
                    writer.write({"id": plan.clips[item]["id"], **next(made)})
                    progress(next(done), total)
    if index == 0 and not (folder / SHARED).is_dir():
        with RecordWriter(folder / SHARED) as writer:
            writer.write(encoder.shared())
    return _finish(folder, plan)


class ShardedRecords:
    """Random access to all examples of a folder; picklable and safe under threads.

    Arrays are handed out in the types that the facts' "arrays" name, whatever they are stored in.

    Attributes:
      name: name of the folder.
      folder: where the shards lie.
      meta: the facts that the examples were made from.
      clips: {"id", "caption", ...} of every example.

    Args:
      folder: written by `write_shards`.
      expect: facts that must hold; those that are not named may be anything.

    Raises:
      RecordError: no such folder; shards that are missing, which are named; made from other facts,
        which are named with both values.
    """

    def __init__(self, folder: str | os.PathLike, expect: Mapping[str, Any] | None = None):
        self.folder = places.place(folder)
        self.name = self.folder.name
        plan = read_plan(self.folder)
        if plan is None:
            raise RecordError(f"{folder}: holds no encoded clips; make them first")
        self._plan, self.meta, self.clips = plan, plan.facts, plan.clips
        self._check(expect or {})
        self._index = read_json(self.folder / _INDEX) or _gather(self.folder, plan)
        self._check_sizes()
        self._opened: dict[int, RecordSource] = {}
        with reading(self.folder / PLAN, RecordError, "a plan"):
            types = {name: one["dtype"] for name, one in self.meta.get("arrays", {}).items()}
            self._types = {name: dtype_named(type_) for name, type_ in types.items()}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Example:
        """Example `index`; arrays may be read-only."""
        shard, offset = divmod(range(len(self))[index], self._plan.shard_size)
        return self._typed(self._shard(shard)[offset])

    @property
    def shared(self) -> Example:
        """What all examples have in common."""
        return RecordSource(self.folder / SHARED)[0]

    @property
    def null_text(self) -> np.ndarray:
        """Features (L, D) of the empty caption."""
        return self.shared[NULL_TEXT]

    def _typed(self, example: Example) -> Example:
        for name in example.keys() & self._types.keys():
            example[name] = example[name].astype(self._types[name], copy=False)
        return example

    def _shard(self, shard: int) -> RecordSource:
        if shard not in self._opened:  # two threads may both open it
            self._opened[shard] = RecordSource(self._plan.path(self.folder, shard))
        return self._opened[shard]

    def _check(self, expect: Mapping[str, Any]) -> None:
        wrong = differing(self.meta, expect, only_wanted=True)
        if wrong:
            raise RecordError(
                f"{self.folder} was encoded otherwise: {'; '.join(wrong)}; encode the clips again "
                "into another folder, or set the run to what is there"
            )

    def _check_sizes(self) -> None:
        """A folder that was copied in part."""
        with reading(self.folder / _INDEX, RecordError, "an index of shards"):
            sizes = {check_name(name): size for name, size in self._index["bytes"].items()}
        there = _sizes(self.folder)
        lost = [name for name, size in sizes.items() if there.get(name, 0) != size]
        if lost:
            raise RecordError(
                f"{self.folder}: {some(lost)} are not as they were written; delete "
                f"{_INDEX} and them, then encode again: the others are kept"
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}


def _finish(folder: Place, plan: Plan) -> bool:
    if plan.missing(folder) or not (folder / SHARED).is_dir():
        return False
    if not (folder / _INDEX).exists():
        places.write_text(folder / _INDEX, json.dumps(_gather(folder, plan), indent=1))
    # What killed hosts left; all is made, so nobody is at work on it.
    for left in places.copy_of(folder).glob(".*-of-*.part"):
        shutil.rmtree(left, ignore_errors=True)
    return True


def _gather(folder: Place, plan: Plan) -> dict[str, Any]:
    """The index of a folder whose shards are all there."""
    missing = plan.missing(folder)
    if missing or not (folder / SHARED).is_dir():
        names = [plan.path(folder, i).name for i in missing] or [SHARED]
        raise RecordError(
            f"{folder} is not finished: {len(missing)} of {plan.shards} shards are missing "
            f"({some(names)}); run the command that began it again"
        )
    names, there = [plan.path(folder, i).name for i in range(plan.shards)], _sizes(folder)
    return {"count": len(plan.clips), "bytes": {name: there.get(name, 0) for name in names}}


def _sizes(folder: Place) -> dict[str, int]:
    """Bytes in each folder below."""
    total: dict[str, int] = collections.defaultdict(int)
    for name, size in places.sizes(folder).items():
        total[name.partition("/")[0]] += size
    return total


def _read_ahead(source: Any, items: Sequence[int]) -> Iterator[Any]:
    """The source's items, decoded by threads before they are asked for."""
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="clips") as pool:
        waiting: collections.deque = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(source.__getitem__, item))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _batched(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
