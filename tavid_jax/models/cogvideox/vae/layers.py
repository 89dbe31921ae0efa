"""What the encoder and the decoder are made of: causal convolutions, residual blocks, resizing."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.layers.conv import init_conv
from tavid_jax.models.layers.linear import Params, linear
from tavid_jax.models.layers.rows import spread_causal_conv, spread_frame_conv
from tavid_jax.parallel.sharding import constrain

# (parameters of a norm, features) -> normalised features, float32
Norm = Callable[[Params, Array], Array]
# Frames before the chunk, per causal convolution: a nested dict like that of the parameters.
Past = Mapping[str, Any]


def init_causal(key: PRNGKeyArray, n_in: int, n_out: int) -> Params:
    """A causal convolution with three taps along every axis."""
    return init_conv(key, (3, 3, 3), n_in, n_out)


def init_resnet(
    key: PRNGKeyArray,
    n_in: int,
    n_out: int,
    init_norm: Callable[[PRNGKeyArray, int], Params],
) -> Params:
    """A residual block; `shortcut`, one tap, is there if the width changes."""
    keys = jax.random.split(key, 5)
    params = {
        "norm1": init_norm(keys[0], n_in),
        "conv1": init_causal(keys[1], n_in, n_out),
        "norm2": init_norm(keys[2], n_out),
        "conv2": init_causal(keys[3], n_out, n_out),
    }
    return params | ({"shortcut": init_conv(keys[4], (), n_in, n_out)} if n_in != n_out else {})


def causal(
    params: Params,
    x: Float[Array, "B T H W I"],
    past: Float[Array, "B P H W I"] | None,
    dtype: DTypeLike,
) -> tuple[Float[Array, "B T H W O"], Float[Array, "B P H W I"]]:
    """A causal convolution; in front of the first chunk (past None) its first frame is repeated."""
    x = x.astype(dtype)
    if past is None:
        past = jnp.repeat(x[:, :1], params["kernel"].shape[0] - 1, axis=1)
    return spread_causal_conv(params, x, past, dtype)


def resnet(
    params: Params, x: Float[Array, "B T H W I"], past: Past | None, norm: Norm, dtype: DTypeLike
) -> tuple[Float[Array, "B T H W O"], Past]:
    """x, through `shortcut` if the width changes, + conv2(silu(norm2(conv1(silu(norm1(x))))))."""
    past = past or {}
    h = jax.nn.silu(norm(params["norm1"], x))
    h, past1 = causal(params["conv1"], h, past.get("conv1"), dtype)
    h = jax.nn.silu(norm(params["norm2"], h))
    h, past2 = causal(params["conv2"], h, past.get("conv2"), dtype)
    if "shortcut" in params:
        x = linear(params["shortcut"], x, dtype)
    return x + h, {"conv1": past1, "conv2": past2}


def resnets(
    params: Params, x: Float[Array, "B T H W I"], past: Past | None, norm: Norm, dtype: DTypeLike
) -> tuple[Float[Array, "B T H W O"], Past]:
    """The blocks "resnet0", "resnet1", ... of a level, one after the other."""
    past, new = past or {}, {}
    for index in range(sum(name.startswith("resnet") for name in params)):
        name = f"resnet{index}"
        x, new[name] = resnet(params[name], x, past.get(name), norm, dtype)
    return laid_out(x), new


def downsample(
    params: Params, x: Float[Array, "B T H W C"], halve_time: bool, dtype: DTypeLike
) -> Float[Array, "B F h w C"]:
    """Means of pairs of frames, then half the height and width by a convolution per frame.

    An odd number of frames leaves the first one alone. The convolution sees a row of zeros below
    and a column of zeros on the right, nothing above and on the left.
    """
    if halve_time:
        alone = x.shape[1] % 2
        pairs = x[:, alone:].reshape(x.shape[0], x.shape[1] // 2, 2, *x.shape[2:])
        x = jnp.concatenate([x[:, :alone], jnp.mean(pairs, axis=2)], axis=1)
    return laid_out(spread_frame_conv(params, x, dtype, before=0, stride=2))


def upsample(
    params: Params, x: Float[Array, "B F h w C"], double_time: bool, dtype: DTypeLike
) -> Float[Array, "B T H W C"]:
    """Twice the height and width by repetition, and the time if asked; a convolution per frame."""
    frames = x.shape[1]
    if double_time:
        frames = 2 * frames - frames % 2
    x = stretch(x, frames, 2)
    return laid_out(spread_frame_conv(params, x, dtype, before=1))


def stretch(x: Float[Array, "B F h w C"], frames: int, ratio: int) -> Float[Array, "B T H W C"]:
    """Repeats positions: `ratio` times along rows and columns, to `frames` frames along time.

    An odd number of frames has each of x's equally often but for the first one, which comes once.
    """
    alone = frames % 2 if frames > 1 else 0
    x = jnp.repeat(x, (frames - alone) // (x.shape[1] - alone), axis=1)
    x = x[:, x.shape[1] - frames :]
    return jnp.repeat(jnp.repeat(x, ratio, axis=2), ratio, axis=3)


def laid_out(x: Float[Array, "B T H W C"]) -> Float[Array, "B T H W C"]:
    """x over the mesh: samples over "batch", the picture in strips over "rows"."""
    return constrain(x, "batch", None, "rows", None, None)
