"""Where CogVideoX's tokens are: fixed sin-cos tables and rotary angles of a token grid.

2B adds a fixed table to its tokens; 5B and 1.5 turn queries and keys; 5B-I2V does both, with a
learned table that started as the fixed one.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tavid_jax.models.layers.embeddings import sin_cos_table
from tavid_jax.models.layers.rotary import Rotary, rotary_table

# How rows and columns are placed: fitted into the training grid (the 1.0 models), or counted
# from zero (1.5).
Placement = Literal["crop", "slice"]


def sincos_table(
    grid: tuple[int, int, int],
    dim: int,
    spatial_scale: float | int = 1.875,
    temporal_scale: float | int = 1.0,
    text_length: int = 0,
) -> Float[Array, "N dim"]:
    """Fixed 3-D sin-cos table (text_length + f*h*w, dim), float32; text rows are zero.

    Channels: time dim/4, then column 3dim/8, then row 3dim/8, sine before cosine in each; the
    position on an axis is its index divided by that axis' scale. Video rows are frame-major.
    """
    if dim % 16:
        raise ValueError(f"a 3-D sin-cos table has a width that divides by 16, got {dim}")
    f, h, w = grid
    widths = (dim // 4, 3 * dim // 8, 3 * dim // 8)
    # Spread over the grid by the program, which so holds small constants only.
    time = sin_cos_table(_scaled(f, temporal_scale), widths[0])[:, None, None]
    column = sin_cos_table(_scaled(w, spatial_scale), widths[1])[None, None, :]
    row = sin_cos_table(_scaled(h, spatial_scale), widths[2])[None, :, None]
    parts = [
        jnp.broadcast_to(part, (f, h, w, width))
        for part, width in zip((time, column, row), widths, strict=True)
    ]
    video = jnp.concatenate(parts, axis=-1).reshape(f * h * w, dim)
    return jnp.concatenate([jnp.zeros((text_length, dim), jnp.float32), video])


def _scaled(length: int, scale: float | int) -> Float[np.ndarray, " P"]:
    """Indices over the scale, divided in float32 as for the published tables."""
    return np.arange(length, dtype=np.float32) / np.float32(scale)


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Channels of a head that belong to (time, row, column): 64 -> (16, 24, 24)."""
    if head_dim % 16:
        raise ValueError(f"3-D rotary positions need a head dim that divides by 16, got {head_dim}")
    return head_dim // 4, 3 * head_dim // 8, 3 * head_dim // 8


def crop_region(
    grid_hw: tuple[int, int], base_hw: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, left), (bottom, right)) of a grid resized into the base grid and centred there.

    The aspect ratio is kept; halves round to even, as Python's `round` does.
    """
    h, w = grid_hw
    base_h, base_w = base_hw
    if h / w > base_h / base_w:
        height, width = base_h, round(base_h / h * w)
    else:
        height, width = round(base_w / w * h), base_w
    top, left = round((base_h - height) / 2), round((base_w - width) / 2)
    return (top, left), (top + height, left + width)


def crop_positions(
    grid_hw: tuple[int, int], base_hw: tuple[int, int]
) -> tuple[Float[np.ndarray, " H"], Float[np.ndarray, " W"]]:
    """Row and column positions of a token grid inside the grid the 1.0 models were trained on.

    n lines from the start of the crop region to end * (n - 1) / n. (The factor takes in the
    offset of the region too, so a region away from zero is slightly compressed: the published
    models were trained so.)
    """
    starts, ends = crop_region(grid_hw, base_hw)
    rows, columns = (
        np.linspace(start, end * (n - 1) / n, n)
        for start, end, n in zip(starts, ends, grid_hw, strict=True)
    )
    return rows, columns


def rotary_for(
    grid: tuple[int, int, int],
    head_dim: int,
    base_hw: tuple[int, int],
    placement: Placement = "crop",
    theta: float | int = 10000.0,
) -> Rotary:
    """Rotary table of a token grid (f, h, w), for the "interleaved" convention.

    Args:
      grid: tokens along (frames, rows, columns).
      head_dim: width of a head; divides by 16.
      base_hw: the token grid of the config's sample size: (30, 45) for 480x720.
      placement: "crop" places rows and columns by `crop_positions` (1.0 models); "slice"
        counts them from zero, and base_hw is the largest grid (1.5 models).
      theta: base of the frequencies.
    """
    f, h, w = grid
    if placement == "crop":
        rows, columns = crop_positions((h, w), base_hw)
    elif placement == "slice":
        if h > base_hw[0] or w > base_hw[1]:
            raise ValueError(
                f"token grid of {h}x{w} exceeds the largest one, {base_hw[0]}x{base_hw[1]}"
            )
        rows, columns = np.arange(h), np.arange(w)
    else:
        raise ValueError(f'placement is "crop" or "slice", got {placement!r}')
    return rotary_table([np.arange(f), rows, columns], axis_dims(head_dim), theta)
