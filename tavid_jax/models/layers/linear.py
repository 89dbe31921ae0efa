"""Affine maps: how they are initialised and how they are applied."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.parallel.sharding import is_in_few_bits

# A (nested) dict of parameters; the leaf layout is stated by the function that creates it.
Params = Mapping[str, object]
# The stream name of a low-rank term that acts on every stream of tokens.
ALL_STREAMS = "all"


def xavier_linear(key: PRNGKeyArray, n_in: int, n_out: int) -> Params:
    """Xavier-uniform kernel (n_in, n_out), zero bias (n_out,)."""
    limit = (6.0 / (n_in + n_out)) ** 0.5
    kernel = jax.random.uniform(key, (n_in, n_out), jnp.float32, -limit, limit)
    return {"kernel": kernel, "bias": jnp.zeros((n_out,), jnp.float32)}


def torch_linear(key: PRNGKeyArray, n_in: int, n_out: int) -> Params:
    """PyTorch's default: kernel (n_in, n_out) and bias (n_out,) uniform in +-1/sqrt(n_in)."""
    return uniform_fan_in(key, (n_in, n_out), n_in)


def zero_linear(key: PRNGKeyArray, n_in: int, n_out: int) -> Params:
    """Zero kernel (n_in, n_out) and bias (n_out,): the branch behind it starts switched off."""
    del key
    return {
        "kernel": jnp.zeros((n_in, n_out), jnp.float32),
        "bias": jnp.zeros((n_out,), jnp.float32),
    }


def uniform_fan_in(key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int) -> Params:
    """Kernel of `shape` and bias of its last axis, uniform in +-1/sqrt(fan_in).

    This is what PyTorch's Kaiming-uniform with a = sqrt(5) comes to.
    """
    kernel_key, bias_key = jax.random.split(key)
    limit = fan_in**-0.5
    return {
        "kernel": jax.random.uniform(kernel_key, shape, jnp.float32, -limit, limit),
        "bias": jax.random.uniform(bias_key, shape[-1:], jnp.float32, -limit, limit),
    }


def init_parameters(
    module: nn.Module, initialisers: Mapping[str, Callable[..., Any]], dtype: DTypeLike
) -> dict[str, Any]:
    """A linen module's top-level parameters, each made by its initialiser and kept in `dtype`."""

    def cast(init: Callable[..., Any]) -> Callable[..., Any]:
        return lambda key: jax.tree.map(lambda leaf: leaf.astype(dtype), init(key))

    return {
        name: _given_in_few_bits(module, name, init) or module.param(name, cast(init))
        for name, init in initialisers.items()
    }


def _given_in_few_bits(module: nn.Module, name: str, init: Callable[..., Any]) -> Any:
    """A parameter that has quantised kernels, None for any other.

    Flax would compare its leaves with those of the initialiser, of which there are fewer.

    Raises:
      ValueError: kernels of another shape than the module's.
    """
    given = module.get_variable("params", name)
    have = jax.tree.leaves_with_path(given, is_leaf=is_quantised)
    if not any(is_quantised(leaf) for _, leaf in have):
        return None
    want = jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)))
    for (path, leaf), expected in zip(have, want, strict=True):
        if leaf.shape != expected.shape:
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} has shape {leaf.shape}, "
                f"this model's is {expected.shape}"
            )
    return given


#: Whether a parameter is kept in few bits: a `qwix.QArray` (see weights/quantised.py).
is_quantised = is_in_few_bits


def dense(kernel: Any, dtype: DTypeLike) -> Float[Array, "..."]:
    """A kernel in `dtype`; one that is kept in few bits is widened here, where it is used."""
    if is_quantised(kernel):
        import qwix  # an extra: whoever has such a kernel has it

        kernel = qwix.dequantize(kernel)
    return jnp.asarray(kernel, dtype)


def linear(
    params: Params,
    x: Float[Array, "*S I"],
    dtype: DTypeLike,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "*S O"]:
    """x @ kernel + bias, computed in `dtype` (parameters are cast at the point of use).

    Pass `precision="highest"` where x or the result are coordinates: the default precision of
    a float32 product is lower than float32 on some accelerators.
    """
    kernel = dense(params["kernel"], dtype)
    bias = params["bias"].astype(dtype)
    return jnp.matmul(x.astype(dtype), kernel, precision=precision) + bias


def project(
    params: Params, x: Float[Array, "*S I"], dtype: DTypeLike, stream: str = "video"
) -> Float[Array, "*S O"]:
    """`linear` (or `matmul`, without a bias), plus the low-rank terms of `lora.attach`.

    A term acts on one stream of tokens or on all of them: y += scale * (x A) B, in this order,
    so that A B is never formed.
    """
    y = linear(params, x, dtype) if "bias" in params else matmul(params, x, dtype)
    terms = params.get("lora", {})
    for key in (ALL_STREAMS, stream):
        for low_rank in terms.get(key, {}).values():
            a, b = low_rank["a"].astype(dtype), low_rank["b"].astype(dtype)
            y = y + low_rank["scale"].astype(dtype) * ((x.astype(dtype) @ a) @ b)
    return y


def matmul(params: Params, x: Float[Array, "*S I"], dtype: DTypeLike) -> Float[Array, "*S O"]:
    """x @ kernel, computed in `dtype`: a projection without a bias."""
    return jnp.matmul(x.astype(dtype), dense(params["kernel"], dtype))


def scale_inputs(params: Params, scale: Float[Array, " I"]) -> Params:
    """The map x -> linear(params, scale * x), without touching x."""
    return {**params, "kernel": scale[:, None] * _wide(params["kernel"])}


def scale_outputs(params: Params, scale: Float[Array, " O"]) -> Params:
    """The map x -> scale * linear(params, x), without touching its output."""
    return {"kernel": _wide(params["kernel"]) * scale, "bias": params["bias"] * scale}


def _wide(kernel: Any) -> Float[Array, "..."]:
    return dense(kernel, kernel.dtype)
