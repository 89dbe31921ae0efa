"""Which (colour, shape, motion) triples are kept from training, to be asked for later."""

import functools

import numpy as np
from jaxtyping import Int

CHOICES = ("all", "seen", "unseen")
_ONE_IN = 6


def is_held_out(colour: int, shape: int, kind: int) -> bool:
    """Whether a triple is held out, by the positions of its parts in the lists of the config.

    A Latin design holds one triple in six: with six colours, four shapes and five motions, exactly
    one colour per (shape, motion) and at most one motion per (colour, shape). Configs that are to
    agree name the same things in the same order; what is new comes at the end.
    """
    return (colour + shape + kind) % _ONE_IN == 0


@functools.cache
def pairs(
    choice: str, num_colours: int, num_shapes: int, num_kinds: int
) -> tuple[Int[np.ndarray, "colours most 2"], Int[np.ndarray, " colours"]]:
    """The (shape, motion) pairs that each colour may have.

    Args:
      choice: one of `CHOICES`.
      num_colours, num_shapes, num_kinds: lengths of the lists of the config.

    Returns:
      Pairs of positions per colour, the rest zero, and how many pairs each colour has.
    """
    rows = [
        [
            (shape, kind)
            for shape in range(num_shapes)
            for kind in range(num_kinds)
            if choice == "all" or is_held_out(colour, shape, kind) == (choice == "unseen")
        ]
        for colour in range(num_colours)
    ]
    counts = np.array([len(row) for row in rows])
    table = np.zeros((num_colours, max(1, counts.max()), 2), np.int64)
    for colour, row in enumerate(rows):
        table[colour, : len(row)] = np.reshape(row, (-1, 2))
    return table, counts
