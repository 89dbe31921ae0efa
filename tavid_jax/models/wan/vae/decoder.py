"""From a latent to pixels."""

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
from tavid_jax.models.wan.vae.resample import duplicate_up, init_up, up


def init_decoder(key: PRNGKeyArray, config: WanVAEConfig) -> Params:
    """Parameters of `decoder`."""
    stages = config.decoder_stages
    first, last, keys = stages[0], stages[-1], jax.random.split(key, 3 + len(stages))
    return {
        "conv_in": init_conv(keys[0], (3, 3, 3), config.latent_channels, first.dim_in),
        "middle": init_middle(keys[1], first.dim_in),
        **{f"stage{i}": _init_stage(keys[3 + i], s) for i, s in enumerate(stages)},
        "head": init_head(keys[2], last.dim_out, config.pixel_channels),
    }


def _init_stage(key: PRNGKeyArray, stage: Stage) -> Params:
    key, own = jax.random.split(key)
    params = init_blocks(key, stage)
    return params if stage.factor_hw == 1 else {**params, "up": init_up(own, stage)}


def decoder(
    params: Params,
    x: Float[Array, "B F h w C"],
    past: Past,
    config: WanVAEConfig,
    dtype: DTypeLike,
) -> tuple[Float[Array, "B T H W P"], Past]:
    """Patches of pixels of a latent that `post_quant_conv` has mixed; not yet clamped."""
    stages = {
        f"stage{i}": partial(_stage, stage=s, shortcut=config.residual and s.factor_hw > 1)
        for i, s in enumerate(config.decoder_stages)
    }
    layers = {"conv_in": conv3d, "middle": middle, **stages, "head": head}
    return chain(layers, params, spread(x.astype(dtype)), past, dtype)


def _stage(
    params: Params,
    x: Float[Array, "B F h w I"],
    past: Past,
    dtype: DTypeLike,
    *,
    stage: Stage,
    shortcut: bool,
) -> tuple[Float[Array, "B T H W O"], Past]:
    layers = {**blocks(stage), **({"up": up} if stage.factor_hw > 1 else {})}
    y, kept = chain(layers, params, x, past, dtype)
    return spread(y + duplicate_up(x, stage, first=past is None) if shortcut else y), kept
