"""Where Wan's tokens are: integer grid positions, turned into rotary angles."""

import numpy as np

from tavid_jax.models.layers.rotary import Rotary, rotary_table


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Channels of a head that belong to (time, row, column): 128 -> (44, 42, 42)."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


def rotary_for(
    grid: tuple[int, int, int],
    head_dim: int,
    theta: float | int = 10000.0,
    max_positions: int = 1024,
) -> Rotary:
    """Rotary table of a token grid (f, h, w), for the "interleaved" convention.

    ValueError when an axis is longer than `max_positions`, the positions the model was made for.
    """
    if max(grid) > max_positions:
        f, h, w = grid
        raise ValueError(
            f"token grid {f}x{h}x{w} is longer than {max_positions} positions along an axis"
        )
    return rotary_table([np.arange(n) for n in grid], axis_dims(head_dim), theta)
