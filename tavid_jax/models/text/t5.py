"""The encoders of T5 v1.1 (arXiv:2002.05202) and umT5 (arXiv:2304.09151), as published.

Pre-norm blocks of self-attention and a gated MLP, without any bias but that of relative positions.
Logits of attention are not divided by the root of the head's width. T5 has one table of position
biases for all blocks, umT5 one in each.

CogVideoX calls T5 without a mask: padding is text like any other. Wan calls umT5 with one: padding
is not seen, and what stands at real positions does not depend on how much of it there is.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tavid_jax.models.layers.attention import Part, Query, attention
from tavid_jax.models.layers.attention.chunked import HIDDEN
from tavid_jax.models.layers.backbone import shapes_of
from tavid_jax.models.layers.depth import init_stack, walk_depth
from tavid_jax.models.layers.linear import Params, init_parameters, matmul
from tavid_jax.models.layers.mlp import tanh_gelu
from tavid_jax.models.layers.norms import init_norm, rms_norm
from tavid_jax.models.text.config import T5Config
from tavid_jax.models.text.positions import position_bias
from tavid_jax.parallel.sharding import constrain


def initialisers(config: T5Config) -> dict[str, Callable[[PRNGKeyArray], Any]]:
    """{top-level parameter: function of a key}, as the original code initialises from scratch."""
    c = config
    inits = {
        "embed": lambda key: jax.random.normal(key, (c.vocab_size, c.dim)),
        "blocks": lambda key: init_stack(lambda k: init_block(k, c), key, c.num_layers),
        "norm": lambda key: init_norm(c.dim, bias=False),
    }
    if c.shared_bias:
        inits["position_bias"] = lambda key: _init_position_bias(key, c)
    return inits


def init_block(key: PRNGKeyArray, config: T5Config) -> Params:
    """Parameters of one block: kernels N(0, 1 / inputs), the queries' smaller by head_dim^-0.5."""
    c = config
    inner = c.num_heads * c.head_dim
    keys = iter(jax.random.split(key, 8))

    def kernel(n_in: int, n_out: int, scale: float | int = 1) -> Params:
        return {"kernel": jax.random.normal(next(keys), (n_in, n_out)) * (scale * n_in**-0.5)}

    params = {
        "attn_norm": init_norm(c.dim, bias=False),
        "attn": {
            "q": kernel(c.dim, inner, c.head_dim**-0.5),
            "k": kernel(c.dim, inner),
            "v": kernel(c.dim, inner),
            "o": kernel(inner, c.dim),
        },
        "mlp_norm": init_norm(c.dim, bias=False),
        "mlp": {
            "gate": kernel(c.dim, c.ffn_dim),
            "fc1": kernel(c.dim, c.ffn_dim),
            "fc2": kernel(c.ffn_dim, c.dim),
        },
    }
    if not c.shared_bias:
        params["position_bias"] = _init_position_bias(next(keys), c)
    return params


def _init_position_bias(key: PRNGKeyArray, config: T5Config) -> Float[Array, "buckets K"]:
    return jax.random.normal(key, (config.num_buckets, config.num_heads)) * config.dim**-0.5


def param_shapes(config: T5Config) -> dict[str, Any]:
    """The parameters' nested dict of shapes, without allocating any."""
    return shapes_of(initialisers(config))


def encode(
    params: Params,
    tokens: Int[Array, "B L"],
    mask: Bool[Array, "B L"] | None,
    config: T5Config,
    *,
    dtype: DTypeLike = jnp.float32,
    scan: bool = True,
    implementation: str = "auto",
) -> Float[Array, "B L D"]:
    """Features of token ids; see `T5Encoder`."""
    length = tokens.shape[1]
    unseen = None if mask is None else jnp.where(mask, 0.0, HIDDEN)[:, None, None]

    def logit_bias(table: Array) -> Array:
        bias = position_bias(table, length, config)[None]
        return bias if unseen is None else bias + unseen

    shared = logit_bias(params["position_bias"]) if config.shared_bias else None

    def body(x: Array, layer: Params) -> Array:
        bias = logit_bias(layer["position_bias"]) if shared is None else shared
        return block(layer, x, bias, config, dtype, implementation)

    x = jnp.take(params["embed"], tokens, axis=0).astype(dtype)
    x = walk_depth(body, _placed(x), params["blocks"], scan=scan, remat="none")
    return rms_norm(x, params["norm"]["scale"], config.epsilon).astype(dtype)


def block(
    params: Params,
    x: Float[Array, "B L D"],
    bias: Float[Array, "#B K L L"],
    config: T5Config,
    dtype: DTypeLike,
    implementation: str,
) -> Float[Array, "B L D"]:
    """x + attention(norm(x)), then x + mlp(norm(x)); `bias` is added to attention's logits."""
    y = rms_norm(x, params["attn_norm"]["scale"], config.epsilon).astype(dtype)
    x = _placed(x + _self_attention(params["attn"], y, bias, config, dtype, implementation))
    y = rms_norm(x, params["mlp_norm"]["scale"], config.epsilon).astype(dtype)
    return _placed(x + _gated_mlp(params["mlp"], y, dtype))


def _self_attention(
    params: Params,
    x: Float[Array, "B L D"],
    bias: Float[Array, "#B K L L"],
    config: T5Config,
    dtype: DTypeLike,
    implementation: str,
) -> Float[Array, "B L D"]:
    q, k, v = (
        rearrange(matmul(params[name], x, dtype), "b l (k d) -> b l k d", k=config.num_heads)
        for name in "qkv"
    )
    (out,) = attention(
        [Query(q)],
        [Part(k, v)],
        implementation=implementation,
        scale=1.0,
        biases={(0, 0): bias},
    )
    return matmul(params["o"], rearrange(out, "b l k d -> b l (k d)"), dtype)


def _gated_mlp(params: Params, x: Float[Array, "B L D"], dtype: DTypeLike) -> Array:
    hidden = tanh_gelu(matmul(params["gate"], x, dtype)) * matmul(params["fc1"], x, dtype)
    return matmul(params["fc2"], hidden, dtype)


def _placed(x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """Prompts are divided over the mesh by examples only: they are short."""
    return constrain(x, "batch", None, "embed")


class T5Encoder(nn.Module):
    """Features of prompts.

    Attributes:
      config: the architecture.
      dtype: of matrix products, of the tokens between blocks and of the features; statistics of
        norms and the softmax are float32. The published weights were trained in bfloat16: the
        tokens between blocks outgrow float16.
      param_dtype: of the parameters when they are initialised.
      scan: walk the depth with one compiled block; False unrolls it. Same parameters.
      attention: implementation of attention, see `attention.attention`.
    """

    config: T5Config
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    scan: bool = True
    attention: str = "auto"

    def setup(self):
        self.tree = init_parameters(self, initialisers(self.config), self.param_dtype)

    def __call__(
        self, tokens: Int[Array, "B L"], mask: Bool[Array, "B M"] | None = None
    ) -> Float[Array, "B L D"]:
        """Features behind the last norm, in `dtype`.

        Args:
          tokens: ids of the tokenizer, any length; an id that is not in the vocabulary gives NaN.
          mask: (B, L), True at real tokens, which alone are seen; the features of the others are
            of no use. None: all are seen.

        Raises:
          ValueError: a mask of another shape than the ids.
        """
        if mask is not None and mask.shape != tokens.shape:
            raise ValueError(
                f"mask of shape {mask.shape} for ids of shape {tokens.shape}: one entry per id"
            )
        return encode(
            self.tree,
            tokens,
            mask,
            self.config,
            dtype=self.dtype,
            scan=self.scan,
            implementation=self.attention,
        )
