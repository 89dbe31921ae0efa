"""The mathematics of a location-aware cross-attention: pairs of tokens and texts, see `Route`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from tavid_jax.models.layers.located.devices import per_device
from tavid_jax.models.layers.located.keys import Keys
from tavid_jax.models.layers.located.pairs import PLACES, Route


class Floor(NamedTuple):
    """What keys and values are where G is 0.

    Attributes:
      key: bias of the keys times gamma, (K, d) float32.
      square: mean over the width of the square of the keys' bias.
      value: bias of the values, (K, d) float32.
    """

    key: Float[Array, "K d"]
    square: Float[Array, ""]
    value: Float[Array, "K d"]


def pick(x: Float[Array, "B T *D"], route: Route) -> Float[Array, "B R *D"]:
    """The tokens of the pairs; every device those that it holds. Unused rows hold anything."""
    heads, names = _of(x)

    def body(x, token):
        return jax.vmap(lambda x, i: x.at[i].get(mode="clip"))(x, token)

    return per_device(body, x.shape[0], heads, (names, "batch tokens"), names)(x, route.token)


def put(x: Num[Array, "B T *D"], rows: Num[Array, "B R *D"], route: Route) -> Num[Array, "B T *D"]:
    """x where the tokens that have pairs are replaced by the row of their first one."""
    heads, names = _of(x)

    def body(x, rows, place):
        def one(x, rows, i):
            return x.at[i].set(rows.astype(x.dtype), mode="drop", unique_indices=True)

        return jax.vmap(one)(x, rows, place)

    run = per_device(body, x.shape[0], heads, (names, names, "batch tokens"), names)
    return run(x, rows, route.write)


def _of(x: Array) -> tuple[int, str]:
    """(number of heads, places) of tokens, (B, T, D) or (B, T, K, d) or (B, T)."""
    names = ("batch", "tokens", "heads", "-") if x.ndim == 4 else ("batch", "tokens", "-")
    return x.shape[2] if x.ndim == 4 else 1, " ".join(names[: x.ndim])


def answer(
    q: Float[Array, "B R K d"],
    keys: Keys,
    bias: Float[Array, "B N L"],
    floor: Floor,
    route: Route,
    *,
    gaussian: str,
    overlap: str,
    epsilon: float,
) -> Float[Array, "B R K d"]:
    """What every pair's token reads in the texts; the first row of each token counts.

    Args:
      q: queries of the pairs, normalised.
      keys: their `k`, `v`, `a` and `c`.
      bias: of the keys, from `key_bias`.
      floor: see there.
      route: of the pairs.
      gaussian, overlap: as in `Laca`.
      epsilon: of the keys' norm.
    """

    def body(q, k, v, a, c, bias, floor, route):
        own = Keys(prompt_k=None, prompt_v=None, k=k, v=v, a=a, c=c)

        def one(q, keys, bias, route):
            return _answer_one(q, keys, bias, floor, route, gaussian, epsilon)

        out, total = jax.vmap(one)(q, own, bias, route)
        return jax.vmap(lambda *x: _combine(*x, overlap))(out, total, route).astype(v.dtype)

    rows, texts = "batch tokens heads -", "batch - - heads -"
    whole = "batch - -"
    statistics = (None, None) if keys.a is None else (whole, whole)
    places = (rows, texts, texts, *statistics, whole, Floor("heads -", "", "heads -"), PLACES)
    run = per_device(body, q.shape[0], q.shape[2], places, rows)
    return run(q, keys.k, keys.v, keys.a, keys.c, bias, floor, route)


def _answer_one(
    q: Float[Array, "R K d"],
    keys: Keys,
    bias: Float[Array, "N L"],
    floor: Floor,
    route: Route,
    gaussian: str,
    epsilon: float,
) -> tuple[Float[Array, "R K d"], Float[Array, "R K"]]:
    """(output, log-sum-exp of the logits) of every pair of one example, tile by tile."""

    def tiled(x: Array, fill: int) -> Array:
        x = x.at[route.row].get(mode="fill", fill_value=fill)
        return x.reshape(route.text.shape[0], -1, *x.shape[1:])

    def untiled(x: Array) -> Array:
        x = x.reshape(-1, *x.shape[2:])
        return x.at[route.tile].get(mode="fill", fill_value=0)

    asked, gauss = tiled(q, 0), tiled(route.gauss, 1)
    k, v, bias = (x[route.text] for x in (keys.k, keys.v, bias))
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("mtkd,mlkd->mktl", asked, k, preferred_element_type=wide)
    if gaussian == "input":
        constant = jnp.einsum("mtkd,kd->mkt", asked.astype(wide), floor.key)
        g, a, c = gauss[..., None], keys.a[route.text][:, None], keys.c[route.text][:, None]
        # Of the keys G p + b; rounding must not take it below zero.
        squares = jnp.maximum(g * g * a + 2 * g * c + floor.square, 0) + epsilon
        logits = g[:, None] * logits + constant[..., None]
        logits = logits * jax.lax.rsqrt(squares)[:, None]
    logits = logits * q.shape[-1] ** -0.5 + bias[:, None, None]
    # The maximum only guards against overflow: the result does not depend on it.
    top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits - top)
    total = jnp.sum(weights, axis=-1)  # (M, K, rows)
    out = jnp.einsum("mktl,mlkd->mtkd", weights.astype(v.dtype), v, preferred_element_type=wide)
    out = out / jnp.swapaxes(total, 1, 2)[..., None]
    if gaussian != "none":
        g = gauss[..., None, None]
        out = g * out + (1 - g) * floor.value
    return untiled(out), untiled(jnp.swapaxes(top[..., 0] + jnp.log(total), 1, 2))


def _combine(
    out: Float[Array, "R K d"], total: Float[Array, "R K"], route: Route, overlap: str
) -> Float[Array, "R K d"]:
    """The pairs of a token become one, in the row of the first.

    Args:
      out: of every pair.
      total: log-sum-exp of its logits.
    """
    if overlap == "owner":
        return out
    rows = out.shape[0]
    weight = route.share[:, None]
    if overlap == "concat":
        # One softmax over all texts: each text's own, by its part in the sum of all.
        top = jax.lax.stop_gradient(jax.ops.segment_max(total, route.first, rows))
        part = jnp.exp(total - top[route.first])
        weight = part / jax.ops.segment_sum(part, route.first, rows)[route.first]
    return jax.ops.segment_sum(weight[..., None] * out, route.first, rows)
