"""Convolutions over time of a (B, T, N, C) field, written as taps and one matrix product each."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.layers.linear import Params, dense


def temporal_conv(
    params: Params,
    x: Float[Array, "B T N I"],
    *,
    stride: int = 1,
    padding: Literal["edge", "zeros"] = "zeros",
    dtype: DTypeLike,
) -> Float[Array, "B L N O"]:
    """out[j] = bias + sum_k kernel[k] . x[stride*j + k - K//2], per token.

    kernel (K, I, O) with odd K. Outside the clip x is zero ("zeros") or the nearest frame
    ("edge"). L = (T-1)//stride + 1.
    """
    kernel = dense(params["kernel"], dtype)
    reach = kernel.shape[0] // 2
    mode = {"edge": "edge", "zeros": "constant"}[padding]
    x = jnp.pad(x.astype(dtype), ((0, 0), (reach, reach), (0, 0), (0, 0)), mode=mode)
    span = x.shape[1] - 2 * reach
    taps = [x[:, k : k + span : stride] for k in range(kernel.shape[0])]
    # One (K*I, O) product: strided slices have a cheap gradient, a gather has not.
    y = jnp.matmul(jnp.concatenate(taps, axis=-1), kernel.reshape(-1, kernel.shape[-1]))
    return y + params["bias"].astype(dtype)


def temporal_conv_transpose(
    params: Params, z: Float[Array, "B L N I"], *, stride: int, dtype: DTypeLike
) -> Float[Array, "B T N O"]:
    """Transposed convolution, L -> T = stride*(L-1) + 1 frames.

    kernel (K, I, O) in Flax's ConvTranspose layout (transpose_kernel=False), i.e. tap m adds
    z[j] . kernel[m] to frame stride*j + K//2 - m. Before that the latents are edge-padded
    by K//2 on both sides and the surplus frames cropped, which changes something only if
    stride <= K//2; otherwise the padding is not computed.
    """
    kernel = dense(params["kernel"], dtype)
    reach = kernel.shape[0] // 2
    pad = reach if stride <= reach else 0
    z = jnp.pad(z.astype(dtype), ((0, 0), (pad, pad), (0, 0), (0, 0)), mode="edge")
    products = jnp.einsum("blni,kio->kblno", z, kernel)
    zero = jnp.zeros((), products.dtype)
    out = params["bias"].astype(dtype)
    for tap in range(kernel.shape[0]):
        shift = reach - tap
        time = (shift - stride * pad, -shift - stride * pad, stride - 1)
        out = out + jax.lax.pad(products[tap], zero, ((0, 0, 0), time, (0, 0, 0), (0, 0, 0)))
    return out
