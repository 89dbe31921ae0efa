"""Clips that show the same action by different actors, found by their names."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence

from tavid_jax.data.clip import ClipError


def partners(clips: Sequence[tuple[str, int]], pattern: str) -> list[int | None]:
    """The partner of every clip: another one of the same action, from the same frame on.

    Args:
      clips: (name of the file, first frame) of each.
      pattern: regular expression, searched in names. What its group `action` (or, without one of
        that name, its first) finds is the action. Where it has a group `actor` too, partners must
        differ in that: `actor_(?P<actor>\\d+)_ani_(?P<action>\\d+)`.

    Returns:
      Index of the partner; None for a clip that has none. Of several files that come into question
      it is the one that follows, in the order given and around its end.

    Raises:
      ClipError: a pattern that cannot be read.
    """
    _check(pattern)
    told = [_told(name, pattern) for name, _ in clips]
    groups = collections.defaultdict(list)
    for index, (_, start) in enumerate(clips):
        if told[index] is not None:
            groups[told[index][0], start].append(index)
    chosen: list[int | None] = [None] * len(clips)
    for group in groups.values():
        for place, index in enumerate(group):
            others = (*group[place + 1 :], *group[:place])
            apart = (i for i in others if _differ(clips[index], clips[i], told[index], told[i]))
            chosen[index] = next(apart, None)
    return chosen


def _check(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ClipError(f"pairs={pattern!r} is no regular expression: {error}") from error
    if not groups:
        raise ClipError(
            f"pairs={pattern!r} has no group: put the part of a name that tells the action into "
            r"parentheses, as in 'ani_(\d+)'"
        )


def _told(name: str, pattern: str) -> tuple[str, str | None] | None:
    """(action, actor) that a name tells; None if it tells none."""
    found = re.search(pattern, name)
    if found is None:
        return None
    named = found.groupdict()
    return named.get("action") or found[1], named.get("actor")


def _differ(one: tuple[str, int], other: tuple[str, int], told, other_told) -> bool:
    """Whether two clips of an action are different files, by different actors if those are told."""
    return one[0] != other[0] and (told[1] is None or told[1] != other_told[1])
