"""The chips that a config is meant to run on and how they are laid out, from the smallest on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

#: Chip -> topologies, smallest first. Whole hosts alone (8 chips of v5e and v6e, 4 of v5p): what
#: can be rented without sharing a host. In steps of two or four, up to what the largest preset, a
#: 14B with one video per chip, needs.
LADDERS: dict[str, tuple[str, ...]] = {
    "v5e": ("v5e:2x4", "v5e:4x4", "v5e:8x8", "v5e:16x16"),
    "v5p": ("v5p:2x2x1", "v5p:2x2x2", "v5p:2x2x4", "v5p:4x4x4"),
    "v6e": ("v6e:2x4", "v6e:4x4", "v6e:8x8", "v6e:16x16"),
}
#: A video's tokens lie on at most so many chips: their exchange is one more of every block's work,
#: and eight chips of a host are near each other.
MOST_CONTEXT = 8


def chips_in(topology: str) -> int:
    """8 of "v5e:2x4"."""
    return math.prod(int(n) for n in topology.partition(":")[2].split("x"))


def layouts(chip: str, config: Any) -> Iterator[tuple[str, dict[str, int]]]:
    """(topology, sizes of the mesh axes), smallest first, for the config's own batches.

    As many data ways as every stage's micro-batches split over, and no example split that need not
    be: what chips are left share examples, over `context`. A config that says `mesh.context` has at
    least that.
    """
    stages = [config.stages[name] for name in config.order if config.stages[name].kind == "train"]
    examples = math.gcd(*(s.batch_size // s.micro_batches for s in stages))
    least = max(1, config.mesh.context)
    for topology in LADDERS[chip]:
        chips = chips_in(topology)
        if chips % least:
            continue
        ways = math.gcd(examples, chips // least)
        if chips // ways <= MOST_CONTEXT:
            yield topology, dict(replica=1, fsdp=ways, context=chips // ways, tensor=1)
