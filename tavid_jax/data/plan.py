"""Which clips become which examples: written before the work, compared when it goes on."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tavid_jax import places
from tavid_jax.data.files import some
from tavid_jax.data.records import RecordError, is_finished
from tavid_jax.places import Place
from tavid_jax.untrusted import texts
from tavid_jax.untrusted.errors import UntrustedError

PLAN = "plan.json"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which examples there will be.

    Attributes:
      facts: what they depend on.
      clips: one entry per example, at least "id" and "caption".
      shard_size: examples per shard; the last one may have fewer.
    """

    facts: Mapping[str, Any]
    clips: Sequence[Mapping[str, Any]]
    shard_size: int = 64

    def __post_init__(self):
        if self.shard_size < 1:
            raise ValueError(f"shard_size {self.shard_size} must be at least 1")
        counts = collections.Counter(clip["id"] for clip in self.clips)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"clip {twice[0]!r} is there twice: give clips names of their own")

    @classmethod
    def of(cls, source: Any, facts: Mapping[str, Any], shard_size: int = 64) -> Plan:
        """The plan of encoding a whole source.

        Args:
          source: of clips. One that has `entries()` and `facts()` is not read for it.
          facts: of whatever makes the examples.
          shard_size: see the class.

        Raises:
          ValueError: no clips, or no captions for some of them.
        """
        if hasattr(source, "entries"):
            entries, clips = source.entries(), source.facts()
        else:
            items = (source[i] for i in range(len(source)))
            entries = [{"id": clip.id, "caption": clip.caption} for clip in items]
            clips = {"source": source.name}
        if not entries:
            raise ValueError(f"source {source.name!r} holds no clips: there is nothing to encode")
        without = [entry["id"] for entry in entries if not entry["caption"]]
        if without:
            raise ValueError(
                f"{len(without)} of {len(entries)} clips have no caption: {some(without)}; write "
                "them into a CSV (columns videoid, text) or into <video>.txt beside each video"
            )
        return cls({**facts, "clips": clips}, entries, shard_size)

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-len(self.clips) // self.shard_size)

    def items(self, shard: int) -> range:
        """The examples of a shard."""
        start = shard * self.shard_size
        return range(start, min(start + self.shard_size, len(self.clips)))

    def path(self, folder: Place, shard: int) -> Place:
        """Where a shard lies."""
        return folder / f"{shard:05d}-of-{self.shards:05d}"

    def missing(self, folder: Place) -> list[int]:
        """Shards that are not there yet."""
        return [i for i in range(self.shards) if not is_finished(self.path(folder, i))]


def differing(
    there: Mapping[str, Any], wanted: Mapping[str, Any], only_wanted: bool = False
) -> list[str]:
    """ "size_hw: [480, 720] there, [480, 832] wanted" for every fact with another value.

    Args:
      there, wanted: nested mappings of JSON-able values.
      only_wanted: facts that `wanted` does not name do not count.
    """
    old, new = _flat(there), _flat(wanted)
    keys = new if only_wanted else {**old, **new}
    return [
        f"{key}: {old.get(key, 'nothing')!r} there, {new.get(key, 'nothing')!r} wanted"
        for key in keys
        if old.get(key, _ABSENT) != new.get(key, _ABSENT)
    ]


_ABSENT = object()


def _flat(facts: Any, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in json.loads(json.dumps(facts, default=dict)).items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def begin(folder: Place, plan: Plan) -> None:
    """Writes the plan, or checks that the one that is there is the same."""
    text = json.dumps(dataclasses.asdict(plan), sort_keys=True, indent=1)
    places.create(folder / PLAN, text.encode())  # of several hosts, one wins
    there = read_plan(folder)
    wrong = differing(there.facts, plan.facts)
    if there.shard_size != plan.shard_size:
        wrong.append(f"shard size: {there.shard_size} there, {plan.shard_size} wanted")
    wrong += _other_clips(there.clips, json.loads(text)["clips"])
    if wrong:
        raise RecordError(
            f"{folder} was begun otherwise: {'; '.join(wrong)}; go on with what it was begun "
            "with, or choose another folder"
        )


def _other_clips(there: Sequence[Mapping], now: Sequence[Mapping]) -> list[str]:
    if there == now:
        return []
    old, new = ({clip["id"]: clip for clip in clips} for clips in (there, now))
    groups = {
        "are gone": [name for name in old if name not in new],
        "are new": [name for name in new if name not in old],
        "have changed": [name for name in new if name in old and old[name] != new[name]],
    }
    told = [f"{len(names)} clips {what} ({some(names)})" for what, names in groups.items() if names]
    return told or ["the clips have another order"]


def read_plan(folder: Place) -> Plan | None:
    """The plan of a folder, None if it has none."""
    fields = read_json(folder / PLAN)
    if fields is None:
        return None
    wanted = {"facts": dict, "clips": list, "shard_size": int}
    whole = isinstance(fields, dict) and set(fields) == set(wanted)
    if not whole or not all(isinstance(fields[name], kind) for name, kind in wanted.items()):
        raise RecordError(f"{folder / PLAN} is broken: it is no plan; delete it and encode again")
    for clip in fields["clips"]:
        named = isinstance(clip, dict) and isinstance(clip.get("id"), str)
        if not named or not isinstance(clip.get("caption", ""), str):
            raise RecordError(f"{folder / PLAN} is broken: a clip of it has no id, or no words")
    try:
        return Plan(**fields)
    except ValueError as error:
        raise RecordError(f"{folder / PLAN} is broken: {error}") from error


def read_json(path: Place) -> Any:
    """What a JSON file holds, None if there is none; RecordError for a broken one."""
    try:
        return texts.read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, UntrustedError) as error:
        raise RecordError(f"{path} is broken ({error}); delete it and encode again") from error
