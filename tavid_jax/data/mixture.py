"""Several sets of clips as one source, each with its share of the places.

Which set a place belongs to is counted, not drawn: of the first n places of the source every set
has its share, to within less than one place for every set before it.
"""

from __future__ import annotations

import fractions
import math
from collections.abc import Mapping
from typing import Any

_FINEST = 10**6  # denominator of a weight


class Mixture:
    """A random-access source of several others, picklable if they are.

    An epoch is so long that every item of every set occurs in it; items of sets that are small for
    their share occur more often. Items are those of the sets, unchanged.

    Attributes:
      name: of the mixture.
      sets: the sources by name.

    Args:
      name: see the attribute.
      sets: see the attribute.
      weights: share of each set, positive; they need not sum to 1.

    Raises:
      ValueError: no set, an empty one, or a weight that is not positive.
    """

    def __init__(self, name: str, sets: Mapping[str, Any], weights: Mapping[str, float | int]):
        weights = {part: weights[part] for part in sets}
        check_weights(name, weights)
        self.name, self.sets = name, dict(sets)
        self._sources = list(self.sets.values())
        for part, source in self.sets.items():
            if not len(source):
                raise ValueError(f"mixture {name!r}: set {part!r} is empty")
        self._turns = _whole(weights)
        self._length = self._epoch()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        source, item = self.place(index)
        return source[item]

    def place(self, index: int) -> tuple[Any, int]:
        """(source, item): where item `index` of the mixture comes from.

        Raises:
          IndexError: no such item.
        """
        number, before = _turn(range(len(self))[index], self._turns)
        source = self._sources[number]
        return source, before % len(source)

    def __repr__(self) -> str:
        return f"Mixture({self.name}, {len(self)} items of {', '.join(self.sets)})"

    def _epoch(self) -> int:
        """The number of places from which on all items of all sets have been shown."""
        total, sizes = sum(self._turns), list(map(len, self._sources))
        length = max(-(-n * total // turns) for n, turns in zip(sizes, self._turns, strict=True))
        while any(count < n for count, n in zip(_counts(length, self._turns), sizes, strict=True)):
            length += 1
        return length


def check_weights(name: str, weights: Mapping[str, float | int]) -> None:
    """Raises ValueError if a mixture names no set, or a weight is not positive."""
    if not weights:
        raise ValueError(f"mixture {name!r} names no set")
    for part, weight in weights.items():
        if not (math.isfinite(weight) and weight * _FINEST >= 1):
            raise ValueError(
                f"mixture {name!r}: set {part!r} has the weight {weight}; weights must be positive"
                " (leave out what is not wanted)"
            )


def _whole(weights: Mapping[str, float | int]) -> tuple[int, ...]:
    """Weights as whole numbers in the same proportion."""
    parts = [fractions.Fraction(weight).limit_denominator(_FINEST) for weight in weights.values()]
    common = math.lcm(*(part.denominator for part in parts))
    whole = [int(part * common) for part in parts]
    return tuple(number // math.gcd(*whole) for number in whole)


def _turn(place: int, turns: tuple[int, ...]) -> tuple[int, int]:
    """(which set a place belongs to, how many of the places before it did).

    Of the places that are left for a set and those after it, the later ones together have their
    share rounded down; where that number does not grow, it is this set's turn.
    """
    left = sum(turns)
    for number, own in enumerate(turns[:-1]):
        later, then = (n * (left - own) // left for n in (place, place + 1))
        if later == then:
            return number, place - later
        place, left = later, left - own
    return len(turns) - 1, place


def _counts(places: int, turns: tuple[int, ...]) -> list[int]:
    """How many of the first places belong to each set."""
    counts, left = [], sum(turns)
    for own in turns:
        later = places * (left - own) // left
        counts.append(places - later)
        places, left = later, left - own
    return counts
