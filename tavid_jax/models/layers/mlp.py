"""Two-layer perceptrons."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.layers.linear import Params, linear, project


def exact_gelu(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """x * Phi(x) with the error function (not the tanh approximation).

    Written with erf because jax.nn.gelu uses erfc, which costs an exponential more.
    """
    return 0.5 * x * (1.0 + jax.lax.erf(x * (0.5**0.5)))


def init_mlp(
    key: PRNGKeyArray, n_in: int, n_hidden: int, n_out: int, init_linear: Callable[..., Params]
) -> Params:
    """Parameters {fc1, fc2}."""
    key1, key2 = jax.random.split(key)
    return {"fc1": init_linear(key1, n_in, n_hidden), "fc2": init_linear(key2, n_hidden, n_out)}


def mlp(
    params: Params,
    x: Float[Array, "*S I"],
    dtype: DTypeLike,
    activation: Callable[[Array], Array] = exact_gelu,
) -> Float[Array, "*S O"]:
    """fc2(activation(fc1(x)))."""
    hidden = activation(linear(params["fc1"], x, dtype)).astype(dtype)
    return linear(params["fc2"], checkpoint_name(hidden, "mlp_hidden"), dtype)


def silu(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """x * sigmoid(x)."""
    return x * jax.nn.sigmoid(x).astype(jnp.result_type(x))


def tanh_gelu(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """GELU by its tanh approximation, as the published video transformers compute it."""
    return jax.nn.gelu(x, approximate=True)


def stream_mlp(
    params: Params, x: Float[Array, "*S D"], dtype: DTypeLike, stream: str
) -> Float[Array, "*S D"]:
    """The MLP of the published video transformers, with one stream's low-rank terms."""
    hidden = tanh_gelu(project(params["fc1"], x, dtype, stream))
    return project(params["fc2"], checkpoint_name(hidden, "mlp_hidden"), dtype, stream)
