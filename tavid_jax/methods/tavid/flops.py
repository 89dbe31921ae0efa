"""Model FLOPs of the loss on attention, see models/layers/flops.py."""

from __future__ import annotations

from tavid_jax.methods.tavid.attention import BOTH, T2V, TEXT, V2T, AttentionLoss
from tavid_jax.models.layers.flops import Work


def attention_flops(
    attention: AttentionLoss,
    grid: tuple[int, int, int],
    *,
    batch: int,
    text: int,
    targets: int,
    width: int,
    joint: bool,
) -> int:
    """Of all blocks that are looked at: a few rows of logits, their sums, and the gradients.

    Args:
      attention: see there.
      grid: video tokens along (frames, rows, columns).
      batch, text, targets: examples, tokens of a prompt, maps of each example.
      width: of the backbone's tokens.
      joint: whether text and video are one sequence, or video asks text alone.
    """
    work, first = Work(), grid[1] * grid[2]
    video = grid[0] * first
    directions = (V2T, T2V) if attention.direction == BOTH else (attention.direction,)
    for direction in directions:
        rows, target = (first, text) if direction == V2T else (text, video)
        keys = text + video if joint and attention.norm != TEXT else target
        # In one loop over heads, gradients go to all of its operands.
        work.product(batch * rows, width, keys, x=True, w=True)
        # Of the mean over heads.
        work.product(batch * rows, target, targets, x=True, w=True)
    return attention.blocks.most * work.flops
