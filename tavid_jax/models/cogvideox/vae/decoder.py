"""From a latent to pixels; the latent steers every norm."""

import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.cogvideox.vae import layers
from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig
from tavid_jax.models.layers.conv import init_conv
from tavid_jax.models.layers.linear import Params, linear
from tavid_jax.models.layers.norms import group_norm, init_norm


def init_decoder(key: PRNGKeyArray, config: CogVideoXVAEConfig) -> Params:
    """Parameters of the decoder: conv_in, mid, level3, ..., level0, norm_out, conv_out.

    Levels are numbered by resolution, as the encoder's: level0 makes the pixels.
    """
    first, last, middle, out, *keys = jax.random.split(key, 4 + len(config.widths))
    latents, bottom = config.latent_channels, config.widths[-1]
    params = {
        "conv_in": layers.init_causal(first, latents, bottom),
        "mid": _init_level(middle, (bottom, bottom, bottom), latents),
    }
    before = bottom
    for index in reversed(range(len(config.widths))):
        width = config.widths[index]
        level = _init_level(keys[index], (before, *((config.resnets + 1) * (width,))), latents)
        if index:
            up_key = jax.random.fold_in(keys[index], 0)
            level["up"] = init_conv(up_key, (3, 3), width, width)
        params[f"level{index}"] = level
        before = width
    return params | {
        "norm_out": init_spatial_norm(out, before, latents),
        "conv_out": layers.init_causal(last, before, 3),
    }


def _init_level(key: PRNGKeyArray, widths: tuple[int, ...], latents: int) -> dict:
    keys = jax.random.split(key, len(widths) - 1)
    pairs = zip(keys, widths, widths[1:], strict=False)

    def norm(key: PRNGKeyArray, width: int) -> Params:
        return init_spatial_norm(key, width, latents)

    return {
        f"resnet{index}": layers.init_resnet(k, n_in, n_out, norm)
        for index, (k, n_in, n_out) in enumerate(pairs)
    }


def init_spatial_norm(key: PRNGKeyArray, width: int, latents: int) -> Params:
    """A group norm with maps from a latent to its scale and shift."""
    scale_key, shift_key = jax.random.split(key)
    return {
        "norm": init_norm(width),
        "scale": init_conv(scale_key, (), latents, width),
        "shift": init_conv(shift_key, (), latents, width),
    }


def spatial_norm(
    params: Params,
    x: Float[Array, "B T H W D"],
    latents: Float[Array, "B F h w C"],
    groups: int,
    dtype: DTypeLike,
) -> Float[Array, "B T H W D"]:
    """group_norm(x) * scale(latent) + shift(latent), the latent stretched to x; float32.

    Scale and shift are maps per position, so they are taken before the latent is stretched.
    """
    normed = group_norm(x, groups, params["norm"]["scale"], params["norm"]["bias"])
    ratio = x.shape[2] // latents.shape[2]
    scale, shift = (
        layers.stretch(linear(params[name], latents, dtype), x.shape[1], ratio)
        for name in ("scale", "shift")
    )
    return normed * scale + shift


def decode_chunk(
    params: Params,
    latents: Float[Array, "B F h w C"],
    past: layers.Past | None,
    config: CogVideoXVAEConfig,
    dtype: DTypeLike,
) -> tuple[Float[Array, "B T H W 3"], layers.Past]:
    """Pixels of one chunk; group norms take their statistics over all of it.

    Args:
      params: from `init_decoder`.
      latents: a chunk of a latent, in the autoencoder's own units.
      past: what the chunk before returned, None for the first.
      config: of the model.
      dtype: of convolutions and activations.
    """

    def norm(p: Params, x: Array) -> Array:
        return spatial_norm(p, x, latents, config.groups, dtype)

    past, new = past or {}, {}
    x, new["conv_in"] = layers.causal(params["conv_in"], latents, past.get("conv_in"), dtype)
    x, new["mid"] = layers.resnets(params["mid"], x, past.get("mid"), norm, dtype)
    for index in reversed(range(len(config.widths))):
        name = f"level{index}"
        level = params[name]
        x, new[name] = layers.resnets(level, x, past.get(name), norm, dtype)
        if "up" in level:
            # Time is doubled at the deepest levels, though it was halved at the shallowest.
            double = config.halves_time(len(config.widths) - 1 - index)
            x = layers.upsample(level["up"], x, double, dtype)
    x = jax.nn.silu(norm(params["norm_out"], x))
    x, new["conv_out"] = layers.causal(params["conv_out"], x, past.get("conv_out"), dtype)
    return x, new
