"""Layers of Wan's autoencoders, and how the past is handed through them.

A layer is a function (parameters, frames of a chunk, its past, dtype) -> (frames, past of the
next chunk). The past is what the layer keeps of the frames before; None says that there are none,
and every layer then does what the published models do at the start of a video. Called so on a
whole video, a layer gives what it gives chunk by chunk.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.layers.attention import Part, Query, attention
from tavid_jax.models.layers.conv import init_conv
from tavid_jax.models.layers.linear import Params, linear, torch_linear
from tavid_jax.models.layers.mlp import silu
from tavid_jax.models.layers.norms import init_norm
from tavid_jax.models.layers.rows import spread_causal_conv
from tavid_jax.models.wan.vae.config import Stage
from tavid_jax.parallel.sharding import constrain, context_ways

# The past of one layer: an array, a dict of its own layers' pasts, or {} where it keeps nothing.
Past = Any
Layer = Callable[[Params, Array, Past, DTypeLike], tuple[Array, Past]]
# Below this, the length of a vector of channels counts as this.
LEAST_LENGTH = 1e-12


def chain(
    layers: Mapping[str, Layer],
    params: Params,
    x: Float[Array, "B T H W I"],
    past: Past,
    dtype: DTypeLike,
) -> tuple[Float[Array, "B R h w O"], Past]:
    """One named layer after the other; each finds its parameters and its past under its name."""
    kept = {}
    for name, layer in layers.items():
        own = None if past is None else past[name]
        x, kept[name] = layer(params[name], x, own, dtype)
    return x, kept


def spread(x: Float[Array, "B T H W C"]) -> Float[Array, "B T H W C"]:
    """Frames laid out over the mesh: examples and rows are divided."""
    return constrain(x, "batch", None, "rows", None, None)


def conv3d(
    params: Params, x: Float[Array, "B T H W I"], past: Past, dtype: DTypeLike
) -> tuple[Float[Array, "B T H W O"], Past]:
    """Causal convolution; zeros lie before the first frame. Keeps as many frames as it needs."""
    past = no_frames(x, params["kernel"].shape[0] - 1) if past is None else past
    return spread_causal_conv(params, x, past, dtype)


def no_frames(x: Float[Array, "B T H W C"], count: int) -> Float[Array, "B P H W C"]:
    """Zeros in the place of `count` frames before x."""
    return jnp.zeros((x.shape[0], count, *x.shape[2:]), x.dtype)


def channel_norm(params: Params, x: Float[Array, "*S C"], dtype: DTypeLike) -> Float[Array, "*S C"]:
    """scale * sqrt(C) * x / |x| per position, with a floor under the length |x|; in float32."""
    x = x.astype(jnp.float32)
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.maximum(squares, LEAST_LENGTH**2))
    return (x * inverse * (x.shape[-1] ** 0.5 * params["scale"])).astype(dtype)


def activate(params: Params, x: Float[Array, "*S C"], dtype: DTypeLike) -> Float[Array, "*S C"]:
    """What stands in front of the convolutions: norm, then SiLU."""
    return silu(channel_norm(params, x, jnp.float32)).astype(dtype)


def init_residual_block(key: PRNGKeyArray, n_in: int, n_out: int) -> Params:
    """Parameters; the shortcut has some only where the number of channels changes."""
    keys = jax.random.split(key, 3)
    params = {
        "norm1": init_norm(n_in, bias=False),
        "conv1": init_conv(keys[0], (3, 3, 3), n_in, n_out),
        "norm2": init_norm(n_out, bias=False),
        "conv2": init_conv(keys[1], (3, 3, 3), n_out, n_out),
    }
    return params if n_in == n_out else {**params, "shortcut": torch_linear(keys[2], n_in, n_out)}


def residual_block(
    params: Params, x: Float[Array, "B T H W I"], past: Past, dtype: DTypeLike
) -> tuple[Float[Array, "B T H W O"], Past]:
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), x projected where the channels change."""
    straight = linear(params["shortcut"], x, dtype) if "shortcut" in params else x
    first, second = (None, None) if past is None else (past["conv1"], past["conv2"])
    h, first = conv3d(params["conv1"], activate(params["norm1"], x, dtype), first, dtype)
    h, second = conv3d(params["conv2"], activate(params["norm2"], h, dtype), second, dtype)
    return straight + h, {"conv1": first, "conv2": second}


def init_blocks(key: PRNGKeyArray, stage: Stage) -> Params:
    """Parameters of the residual blocks of a stage."""
    dims = [stage.dim_in, *stage.blocks * [stage.dim]]
    keys = jax.random.split(key, stage.blocks)
    return {f"res{i}": init_residual_block(k, dims[i], stage.dim) for i, k in enumerate(keys)}


def blocks(stage: Stage) -> dict[str, Layer]:
    """The residual blocks of a stage."""
    return {f"res{i}": residual_block for i in range(stage.blocks)}


def init_attention_block(key: PRNGKeyArray, dim: int) -> Params:
    """Parameters of `attention_block`."""
    key_in, key_out = jax.random.split(key)
    return {
        "norm": init_norm(dim, bias=False),
        "qkv": torch_linear(key_in, dim, 3 * dim),
        "proj": torch_linear(key_out, dim, dim),
    }


def attention_block(
    params: Params, x: Float[Array, "B T H W C"], past: Past, dtype: DTypeLike
) -> tuple[Float[Array, "B T H W C"], Past]:
    """Adds self-attention among the positions of each frame: one head as wide as the channels."""
    del past  # frames do not see one another
    batch, frames, rows, columns, channels = x.shape
    tokens = channel_norm(params["norm"], x, dtype).reshape(batch * frames, -1, channels)
    q, k, v = (y[:, :, None] for y in jnp.split(linear(params["qkv"], tokens, dtype), 3, axis=-1))
    # Devices share the queries; keys and values are small enough for each to have all.
    split = rows * columns % context_ways() == 0
    (mixed,) = attention([Query(q, split=split)], [Part(k, v)])
    return x + linear(params["proj"], mixed.reshape(x.shape), dtype), {}


def init_middle(key: PRNGKeyArray, dim: int) -> Params:
    """Parameters of `middle`."""
    keys = jax.random.split(key, 3)
    return {
        "res0": init_residual_block(keys[0], dim, dim),
        "attn": init_attention_block(keys[1], dim),
        "res1": init_residual_block(keys[2], dim, dim),
    }


def middle(
    params: Params, x: Float[Array, "B T H W C"], past: Past, dtype: DTypeLike
) -> tuple[Float[Array, "B T H W C"], Past]:
    """What happens at the coarsest resolution."""
    layers = {"res0": residual_block, "attn": attention_block, "res1": residual_block}
    y, kept = chain(layers, params, x, past, dtype)
    return spread(y), kept


def init_head(key: PRNGKeyArray, n_in: int, n_out: int) -> Params:
    """Parameters of `head`."""
    return {"norm": init_norm(n_in, bias=False), "conv": init_conv(key, (3, 3, 3), n_in, n_out)}


def head(
    params: Params, x: Float[Array, "B T H W I"], past: Past, dtype: DTypeLike
) -> tuple[Float[Array, "B T H W O"], Past]:
    """The last convolution of either half."""
    return conv3d(params["conv"], activate(params["norm"], x, dtype), past, dtype)
