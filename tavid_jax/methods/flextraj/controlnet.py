"""A side network that steers by residuals: a trainable copy of a backbone's first blocks.

The alternative (ControlNet) that FlexTraj's condition stream is compared with. The copy walks the
noisy video, with the condition's tokens added to it, and the text, as the backbone does; behind
each of its blocks a projection gives what is added to the backbone's own tokens. Both projections,
before and behind, begin at zero: at first the whole is the published model.

What it costs: it sees the noise and the timestep, so that nothing of it can be kept over sampling
steps. Each evaluation walks `blocks` blocks more, where the condition stream is walked once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tavid_jax.engine.method import Params, Stored
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.depth import scan_depth, take_blocks
from tavid_jax.models.layers.linear import linear, zero_linear
from tavid_jax.models.layers.ports import Residuals
from tavid_jax.models.layers.streams import IMAGE, TEXT, VIDEO
from tavid_jax.models.wan.transformer import Wan

# Its place among the backbone's parameters, and its own nodes: the copy, the projection of the
# second condition video, the projections before and behind.
NODE = "controlnet"
BLOCKS, FUSE, BEFORE, BEHIND = "blocks", "fuse", "zero_in", "zero_out"


@dataclasses.dataclass(frozen=True)
class ControlNet:
    """How large the side network is, and where it acts.

    Attributes:
      blocks: how many of the backbone's blocks are copied, from the first on.
      spread: whether its residuals go behind blocks all over the depth, in equal distances,
        instead of behind those that were copied.

    Raises:
      ValueError: no block.
    """

    blocks: int = 2
    spread: bool = False

    def __post_init__(self):
        if self.blocks < 1:
            raise ValueError(f"control.blocks {self.blocks} must be at least 1")

    def layers(self, depth: int) -> tuple[int, ...]:
        """The backbone's blocks behind which residuals are added, ascending.

        Raises:
          ValueError: more blocks than the backbone has.
        """
        if self.blocks > depth:
            raise ValueError(f"control.blocks {self.blocks}: the backbone has {depth} to copy")
        step = depth if self.spread else self.blocks
        return tuple(i * step // self.blocks for i in range(self.blocks))


def with_controlnet(base: Params, blocks: int) -> Params:
    """A backbone's parameters with a side network under `NODE`, float32; it takes the fusion over.

    Args:
      base: as initialised.
      blocks: how many to copy.
    """
    rest = {name: node for name, node in base.items() if name != FUSE}
    fuse = {FUSE: base[FUSE]} if FUSE in base else {}
    copy = take_blocks(base[BLOCKS], 0, blocks)
    dim = base["patch_embed"]["kernel"].shape[-1]
    zero = zero_linear(jax.random.key(0), dim, dim)  # draws nothing
    behind = jax.tree.map(lambda x: jnp.zeros((blocks, *x.shape), x.dtype), zero)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), {BLOCKS: copy, **fuse})
    return rest | {NODE: wide | {BEFORE: zero, BEHIND: behind}}


def parted(params: Params) -> tuple[Params, Params]:
    """(the backbone's parameters with the fusion, those of the side network)."""
    side = params[NODE]
    network = {name: node for name, node in params.items() if name != NODE}
    return network | {name: side[name] for name in (FUSE,) if name in side}, side


@dataclasses.dataclass(frozen=True)
class _First:
    """The first blocks of a stored stack."""

    stack: Stored
    blocks: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.blocks, *self.stack.shape[1:])

    def read(self) -> np.ndarray:
        return self.stack.read()[: self.blocks]


def copied(leaves: Mapping[str, Stored], prefix: str, blocks: int) -> dict[str, Stored]:
    """What a copy of blocks starts from: {its path: parameter}, read when it is asked for.

    Args:
      leaves: {path: parameter} of a checkpoint.
      prefix: of the backbone's paths.
      blocks: how many are copied.
    """
    own, copy = f"{prefix}/{BLOCKS}/", f"{prefix}/{NODE}/{BLOCKS}/"
    return {
        copy + path.removeprefix(own): _First(leaf, blocks)
        for path, leaf in leaves.items()
        if path.startswith(own)
    }


def residuals(
    model: CogVideoX | Wan,
    params: Params,
    controlnet: ControlNet,
    condition: Float[Array, "B N D"],
    state: Float[Array, "B F H W C"],
    timestep: Array,
    extra: Float[Array, "B F H W X"] | None,
    batch: Mapping[str, Any],
) -> Residuals:
    """What the side network adds to the video tokens in one evaluation.

    Args:
      model: the backbone's transformer.
      params: from `with_controlnet`.
      controlnet: see there.
      condition: tokens of the condition videos, see `embed_condition`.
      state, timestep, extra: what the transformer reads: latents with all channels, a timestep
        for each example or more, the channels of `config.extra_channels`.
      batch: with "text" features, and "clip" tokens where the transformer reads them.
    """
    network, side = parted(params)
    enter = _enter_cogvideox if isinstance(model, CogVideoX) else _enter_wan
    tokens, rest = model.apply(
        {"params": network}, state, timestep, extra, dict(batch), method=enter
    )
    added = linear(side[BEFORE], condition, model.dtype)
    tokens = tokens | {VIDEO: tokens[VIDEO] + added.astype(tokens[VIDEO].dtype)}
    block = model.clone(config=dataclasses.replace(model.config, num_layers=1))

    def body(tokens: dict[str, Array], layer: Params) -> tuple[dict[str, Array], Array]:
        alone = jax.tree.map(lambda x: x[None], layer[BLOCKS])
        params = {"params": network | {BLOCKS: alone}}
        tokens = block.apply(params, tokens, *rest, method="blocks").streams
        return tokens, linear(layer[BEHIND], tokens[VIDEO], model.dtype)

    layers = {name: side[name] for name in (BLOCKS, BEHIND)}
    # Each block looks after its own rematerialisation.
    _, values = scan_depth(body, tokens, layers, model.scan, "none")
    return Residuals(values, controlnet.layers(model.config.num_layers))


def _enter_cogvideox(
    model: CogVideoX, state: Array, timestep: Array, extra: Array | None, batch: dict[str, Any]
) -> tuple[dict[str, Array], tuple[Any, ...]]:
    """Tokens before the first block, and what else its blocks read."""
    grid, time = model.config.grid(state.shape[1:4]), model.embed_time(timestep)
    tokens = {TEXT: model.embed_text(batch["text"], grid), VIDEO: model.embed_video(state, extra)}
    return tokens, (dict.fromkeys(tokens, time), grid)


def _enter_wan(
    model: Wan, state: Array, timestep: Array, extra: Array | None, batch: dict[str, Any]
) -> tuple[dict[str, Array], tuple[Any, ...]]:
    """The same of Wan, where text and image are only looked at."""
    context = {TEXT: model.embed_text(batch["text"])}
    if "clip" in batch:
        context[IMAGE] = model.embed_image(batch["clip"])
    carried = model.dtype if model.residual_dtype is None else model.residual_dtype
    tokens = {VIDEO: model.embed_video(state, extra).astype(carried)}
    times = {VIDEO: model.embed_time(timestep)}
    return tokens, (times, context, model.config.grid(state.shape[1:4]))
