"""Model FLOPs of the side network that FlexTraj is compared with, see models/layers/flops.py."""

from __future__ import annotations

import dataclasses
from typing import Any

from tavid_jax.methods.finetune import flops as counting
from tavid_jax.models.cogvideox import flops as cogvideox
from tavid_jax.models.layers.flops import (
    Weights,
    Work,
    embed_condition,
    everything,
    patches,
)
from tavid_jax.models.layers.streams import TEXT, VIDEO
from tavid_jax.models.wan import flops as wan


def injected_flops(work: Work, backbone: Any, weights: Weights, shape: counting.Shape) -> None:
    """A frozen backbone and the trained copy of its first blocks that moves its tokens.

    Args:
      work: to add to.
      backbone: an `Injected` one.
      weights: of the backbone itself: all frozen.
      shape: of one evaluation, without a condition stream: the copy reads the condition's tokens.
    """
    c, side = backbone.model.config, backbone.controlnet
    is_wan = isinstance(shape, wan.WanShape)
    rows, d = shape.batch * shape.tokens, c.dim
    copy = Weights(everything, (), c.num_layers)
    fuse = dataclasses.replace(weights, trained=lambda path: path.startswith("fuse/"))
    condition = embed_condition(work, c, fuse, rows)
    # The copy enters as the backbone does, by its frozen embeddings.
    patches(work, c, weights, rows, extra=shape.extra)
    if is_wan:
        times = {VIDEO: wan._time(work, c, weights, shape.batch * shape.groups)}
        context = wan.embed_context(work, c, weights, shape)
    else:
        times = dict.fromkeys((TEXT, VIDEO), cogvideox.embed_time(work, c, weights, shape.batch))
        work.product(shape.rows(TEXT), c.text_dim, d, x=False, w=False)
    work.product(rows, d, d, x=condition, w=True)  # in front
    live = {VIDEO: True} if is_wan else {TEXT: False, VIDEO: True}
    for number in range(side.blocks):
        if is_wan:
            live = wan.block(
                work, c, copy, shape, number, live, times, context, {VIDEO: shape.batch}
            )
        else:
            last = number + 1 == side.blocks
            live = cogvideox.block(work, c, copy, shape, number, live, times, last=last)
            live.setdefault(TEXT, True)
        work.product(rows, d, d, x=True, w=True)  # behind
    added = side.layers(c.num_layers)
    counting.evaluate(work, backbone, weights, dataclasses.replace(shape, added=added))
