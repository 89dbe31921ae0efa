"""From pixels to the moments of a latent."""

from functools import partial

import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.layers.conv import init_conv
from tavid_jax.models.layers.linear import Params
from tavid_jax.models.wan.vae.config import Stage, WanVAEConfig
from tavid_jax.models.wan.vae.layers import (
    Past,
    blocks,
    chain,
    conv3d,
    head,
    init_blocks,
    init_head,
    init_middle,
    middle,
    spread,
)
from tavid_jax.models.wan.vae.resample import average_down, down, init_down


def init_encoder(key: PRNGKeyArray, config: WanVAEConfig) -> Params:
    """Parameters of `encoder`."""
    stages = config.encoder_stages
    first, last, keys = stages[0], stages[-1], jax.random.split(key, 3 + len(stages))
    return {
        "conv_in": init_conv(keys[0], (3, 3, 3), config.pixel_channels, first.dim_in),
        **{f"stage{i}": _init_stage(keys[3 + i], s) for i, s in enumerate(stages)},
        "middle": init_middle(keys[1], last.dim_out),
        "head": init_head(keys[2], last.dim_out, 2 * config.latent_channels),
    }


def _init_stage(key: PRNGKeyArray, stage: Stage) -> Params:
    key, own = jax.random.split(key)
    params = init_blocks(key, stage)
    return params if stage.factor_hw == 1 else {**params, "down": init_down(own, stage)}


def encoder(
    params: Params,
    x: Float[Array, "B T H W P"],
    past: Past,
    config: WanVAEConfig,
    dtype: DTypeLike,
) -> tuple[Float[Array, "B F h w M"], Past]:
    """Moments, still to be mixed by `quant_conv`, of patches of pixels."""
    stages = {
        f"stage{i}": partial(_stage, stage=s, shortcut=config.residual)
        for i, s in enumerate(config.encoder_stages)
    }
    layers = {"conv_in": conv3d, **stages, "middle": middle, "head": head}
    return chain(layers, params, spread(x.astype(dtype)), past, dtype)


def _stage(
    params: Params,
    x: Float[Array, "B T H W I"],
    past: Past,
    dtype: DTypeLike,
    *,
    stage: Stage,
    shortcut: bool,
) -> tuple[Float[Array, "B F h w O"], Past]:
    layers = {**blocks(stage), **({"down": down} if stage.factor_hw > 1 else {})}
    y, kept = chain(layers, params, x, past, dtype)
    return spread(y + average_down(x, stage) if shortcut else y), kept
