"""The plain pre-norm transformer: layer norms, attention and an MLP with biases everywhere."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.layers.attention import Part, Query, attention
from tavid_jax.models.layers.depth import stack_depth, take_block, walk_depth
from tavid_jax.models.layers.linear import Params, project, xavier_linear
from tavid_jax.models.layers.mlp import exact_gelu, init_mlp, mlp
from tavid_jax.models.layers.norms import init_norm, layer_norm
from tavid_jax.parallel.memory import on_device


def quick_gelu(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """x * sigmoid(1.702 x): the GELU of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": exact_gelu,
    "quick_gelu": quick_gelu,
}


class Prenorm(NamedTuple):
    """What all blocks of one tower share.

    Attributes:
      heads: of attention.
      activation: of the MLP, a key of `ACTIVATIONS`.
      epsilon: of the norms.
      dtype: of matrix products and of the tokens between blocks.
      implementation: of attention.
    """

    heads: int
    activation: str
    epsilon: float
    dtype: DTypeLike
    implementation: str


def init_block(
    key: PRNGKeyArray, width: int, mlp_dim: int, layer_scale: float | None = None
) -> Params:
    """Parameters of one block: Xavier kernels, zero biases.

    `layer_scale`: where factors of both branches' channels start; None for a block without them.
    """
    *keys, key_mlp = jax.random.split(key, 5)
    attn = {name: xavier_linear(k, width, width) for name, k in zip("qkvo", keys, strict=True)}
    scales = {} if layer_scale is None else dict.fromkeys(("scale1", "scale2"), layer_scale)
    return {
        **{name: jnp.full((width,), start, jnp.float32) for name, start in scales.items()},
        "norm1": init_norm(width),
        "attn": attn,
        "norm2": init_norm(width),
        "mlp": init_mlp(key_mlp, width, mlp_dim, width, xavier_linear),
    }


def block(
    params: Params,
    x: Float[Array, "B N D"],
    shared: Prenorm,
    bias: Float[Array, "1 1 N N"] | None = None,
) -> Float[Array, "B N D"]:
    """x + attention(norm(x)), then x + mlp(norm(x)); `bias` is added to the logits.

    A block that has "scale1" and "scale2" multiplies what each branch adds, channel by channel.
    """
    y = layer_norm(x, **params["norm1"], epsilon=shared.epsilon).astype(shared.dtype)
    x = x + _scaled(_self_attention(params["attn"], y, shared, bias), params.get("scale1"))
    y = layer_norm(x, **params["norm2"], epsilon=shared.epsilon).astype(shared.dtype)
    y = mlp(params["mlp"], y, shared.dtype, ACTIVATIONS[shared.activation])
    return x + _scaled(y, params.get("scale2"))


def _scaled(y: Float[Array, "B N D"], scale: Float[Array, " D"] | None) -> Float[Array, "B N D"]:
    return y if scale is None else y * scale.astype(y.dtype)


def _self_attention(
    params: Params,
    x: Float[Array, "B N D"],
    shared: Prenorm,
    bias: Float[Array, "1 1 N N"] | None,
) -> Float[Array, "B N D"]:
    q, k, v = (
        rearrange(project(params[name], x, shared.dtype), "b n (k d) -> b n k d", k=shared.heads)
        for name in "qkv"
    )
    (out,) = attention(
        [Query(q)],
        [Part(k, v)],
        implementation=shared.implementation,
        biases=None if bias is None else {(0, 0): bias},
    )
    return project(params["o"], rearrange(out, "b n k d -> b n (k d)"), shared.dtype)


def walk_blocks(
    stack: Params,
    x: Float[Array, "B N D"],
    shared: Prenorm,
    *,
    scan: bool,
    layer: int = -1,
    bias: Float[Array, "1 1 N N"] | None = None,
) -> Float[Array, "B N D"]:
    """Tokens behind some or all blocks of a stack.

    Args:
      stack: parameters of the blocks, depth first.
      x: embedded tokens.
      shared: what the blocks share.
      scan: one compiled block for all; False unrolls them.
      layer: which of the depth + 1 states: 0 is x itself, -1 is behind the last block.
      bias: added to the logits of attention, finite.

    Raises:
      ValueError: a layer that does not exist.
    """
    depth = stack_depth(stack)
    if not -depth - 1 <= layer <= depth:
        raise ValueError(
            f"layer {layer} does not exist: {depth} blocks, use {-depth - 1} to {depth}"
        )
    count = range(depth + 1)[layer]
    if count == 0:
        return x
    if count == depth:
        return walk_depth(lambda y, p: block(p, y, shared, bias), x, stack, scan=scan, remat="none")
    # By index: a slice of the stack would be a second copy of the weights.
    return walk_depth(
        lambda y, i: block(on_device(take_block(stack, i)), y, shared, bias),
        x,
        jnp.arange(count),
        scan=scan,
        remat="none",
    )
