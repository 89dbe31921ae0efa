"""Parameters of a location-aware cross-attention: they start as the published one's."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tavid_jax.models.layers.linear import ALL_STREAMS, Params, dense
from tavid_jax.models.layers.located.types import Laca

PROJECTIONS = ("q", "k", "v", "o")
NORMS = ("q_norm", "k_norm")
_TERM = "laca"


def init_laca(
    cross: Mapping[str, Any], laca: Laca, key: PRNGKeyArray | None = None
) -> dict[str, Any]:
    """Parameters with which the new cross-attention equals the published one; float32.

    Args:
      cross: the published blocks' cross-attention, every leaf with a leading depth axis.
      laca: which blocks have one, and of what rank.
      key: draws A of a low-rank form.

    Returns:
      Leaves with a leading axis over the chosen blocks: q, k, v, o (kernel, bias), copied, or, if
      low-rank, (a, b), A normal / sqrt(D) and B zero; q_norm, k_norm (scale), copied.

    Raises:
      ValueError: a block that does not exist, a low-rank form without a key, a cross-attention
        that also reads an image.
    """
    if "image_k" in cross:
        raise ValueError(
            "location-aware cross-attention: this model's cross-attention also reads an image; "
            "use a text-to-video model"
        )
    depth = cross["q_norm"]["scale"].shape[0]
    check_layers(laca, depth)
    chosen = range(depth) if laca.layers is None else laca.layers
    params = {name: {"scale": _copy(cross[name]["scale"], laca)} for name in NORMS}
    if laca.rank is None:
        for name in PROJECTIONS:
            kernel = dense(cross[name]["kernel"], jnp.float32)
            params[name] = {"kernel": _copy(kernel, laca), "bias": _copy(cross[name]["bias"], laca)}
        return params
    if key is None:
        raise ValueError(f"init_laca: rank {laca.rank} needs a key, to draw A")
    for name, sub in zip(PROJECTIONS, jax.random.split(key, len(PROJECTIONS)), strict=True):
        n_in, n_out = cross[name]["kernel"].shape[-2:]
        a = jax.random.normal(sub, (len(chosen), n_in, laca.rank)) * n_in**-0.5
        params[name] = {"a": a, "b": jnp.zeros((len(chosen), laca.rank, n_out))}
    return params


def check_layers(laca: Laca, depth: int) -> None:
    """Raises ValueError for a chosen block that a model of `depth` blocks does not have."""
    if laca.layers is not None and laca.layers[-1] >= depth:
        raise ValueError(
            f"Laca.layers: block {laca.layers[-1]} of {depth} does not exist; use 0 to {depth - 1}"
        )


def _copy(stack: Any, laca: Laca) -> jax.Array:
    """The chosen blocks' own copy: what is trained is donated, the published model is not."""
    if laca.layers is not None:
        stack = stack[jnp.array(laca.layers)]
    return jnp.array(stack, jnp.float32, copy=True)


def whole(params: Params, base: Params | None, laca: Laca) -> dict[str, Any]:
    """One block's q, k, v, o as `project` takes them, and its norms.

    Args:
      params: of one block, from `init_laca`.
      base: the published cross-attention of this block, on which a low-rank form stands.
      laca: whether it is one.
    """
    if laca.rank is None:
        return dict(params)
    joined = {name: params[name] for name in NORMS}
    # The published weights stay as they are, whoever differentiates.
    base = jax.lax.stop_gradient({name: dict(base[name]) for name in PROJECTIONS})
    for name in PROJECTIONS:
        term = {**params[name], "scale": jnp.float32(laca.scale)}
        joined[name] = {**base[name], "lora": {ALL_STREAMS: {_TERM: term}}}
    return joined


def without_bias(projection: Params) -> dict[str, Any]:
    """The linear part of a projection."""
    return {name: node for name, node in projection.items() if name != "bias"}
