"""From pixels to the moments of a latent."""

import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.cogvideox.vae import layers
from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig
from tavid_jax.models.layers.conv import init_conv
from tavid_jax.models.layers.linear import Params
from tavid_jax.models.layers.norms import group_norm, init_norm


def init_encoder(key: PRNGKeyArray, config: CogVideoXVAEConfig) -> Params:
    """Parameters of the encoder: conv_in, level0, level1, ..., mid, norm_out, conv_out."""
    first, last, middle, *keys = jax.random.split(key, 3 + len(config.widths))
    bottom = config.widths[-1]
    params = {"conv_in": layers.init_causal(first, 3, config.widths[0])}
    before = config.widths[0]
    for index, (level_key, width) in enumerate(zip(keys, config.widths, strict=True)):
        widths = (before, *(config.resnets * (width,)))
        params[f"level{index}"] = _init_level(level_key, widths)
        if index + 1 < len(config.widths):
            down_key = jax.random.fold_in(level_key, 0)
            params[f"level{index}"]["down"] = init_conv(down_key, (3, 3), width, width)
        before = width
    return params | {
        "mid": _init_level(middle, (bottom, bottom, bottom)),
        "norm_out": init_norm(bottom),
        "conv_out": layers.init_causal(last, bottom, 2 * config.latent_channels),
    }


def _init_level(key: PRNGKeyArray, widths: tuple[int, ...]) -> dict:
    keys = jax.random.split(key, len(widths) - 1)
    pairs = zip(keys, widths, widths[1:], strict=False)
    return {
        f"resnet{index}": layers.init_resnet(k, n_in, n_out, lambda _, width: init_norm(width))
        for index, (k, n_in, n_out) in enumerate(pairs)
    }


def encode_chunk(
    params: Params,
    video: Float[Array, "B T H W 3"],
    past: layers.Past | None,
    config: CogVideoXVAEConfig,
    dtype: DTypeLike,
) -> tuple[Float[Array, "B F h w M"], layers.Past]:
    """Mean and log-variance of one chunk; group norms take their statistics over all of it.

    Args:
      params: from `init_encoder`.
      video: a chunk of pixels.
      past: what the chunk before returned, None for the first.
      config: of the model.
      dtype: of convolutions and activations.
    """

    def norm(p: Params, x: Array) -> Array:
        return group_norm(x, config.groups, p["scale"], p["bias"])

    past, new = past or {}, {}
    x, new["conv_in"] = layers.causal(params["conv_in"], video, past.get("conv_in"), dtype)
    for index in range(len(config.widths)):
        name = f"level{index}"
        level = params[name]
        x, new[name] = layers.resnets(level, x, past.get(name), norm, dtype)
        if "down" in level:
            x = layers.downsample(level["down"], x, config.halves_time(index), dtype)
    x, new["mid"] = layers.resnets(params["mid"], x, past.get("mid"), norm, dtype)
    x = jax.nn.silu(norm(params["norm_out"], x))
    x, new["conv_out"] = layers.causal(params["conv_out"], x, past.get("conv_out"), dtype)
    return x, new
