"""Walking the blocks of a backbone with whatever is plugged into its ports."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from tavid_jax.models.layers import streams
from tavid_jax.models.layers.attention import Part
from tavid_jax.models.layers.depth import Remat, check_names, scan_depth, stack_depth
from tavid_jax.models.layers.linear import Params
from tavid_jax.models.layers.ports import (
    CrossAttention,
    Ports,
    Residuals,
    Walked,
    at,
    places,
)
from tavid_jax.models.layers.probe import Seen, watch
from tavid_jax.models.layers.streams import VIDEO

Tokens = dict[str, Array]
# Names that blocks give to what the backward pass may keep or offload.
ACTIVATIONS = ("block_input", "query", "key", "value", "attention", "mlp_hidden")


class Plugs(NamedTuple):
    """The ports as one block sees them.

    Attributes:
      parts: keys and values from `Ports.kv_in`, by stream.
      bias: (query stream, key stream, bias times this layer's weight), or None.
      probe: what the block attends to -> (what it is to go on with, this layer's score), or None.
      cross: (context, x, base) -> what cross-attention adds, where it is replaced; or None.
    """

    parts: Mapping[str, Part]
    bias: tuple[str, str, Array] | None
    probe: Callable[[Seen], tuple[Seen, Any]] | None
    cross: Callable[[Mapping[str, Array], Array, Callable[[], Array]], Array] | None


# (parameters, tokens of all streams, plugs) -> (tokens, parts by stream, the probe's score)
Block = Callable[[Params, Tokens, Plugs], tuple[Tokens, Mapping[str, Part], Any]]


def walk_blocks(
    block: Block,
    stack: Params,
    tokens: Tokens,
    ports: Ports,
    lengths: Mapping[str, int],
    scan: bool,
    remat: Remat,
) -> Walked:
    """All blocks in order, ports plugged in.

    Condition tokens pass the whole of the last block, of which only their keys and values are
    needed: a scan has one body. That is 1/depth of their work, 2 to 3 % of the walk that fills a
    cache and 1 % of a step in lock-step. A last block of its own would save it, but be compiled
    beside the scan's, and have its weights cut out of the stack.

    Args:
      block: one block.
      stack: its parameters, a leading depth axis on every leaf.
      tokens: every stream's tokens, padded as the mesh wants them (`streams.pad_all`); what
        comes back is not padded.
      ports: what is plugged in.
      lengths: real tokens of every stream that has keys, walking or not.
      scan, remat: see `depth.scan_depth`; `ACTIVATIONS` are the names there are.

    Raises:
      ValueError: a port that does not fit the stack, or an activation that has no such name.
    """
    _check_outputs(ports, lengths)
    check_names(remat, ACTIVATIONS)
    depth = stack_depth(stack)
    if ports.residuals is not None:
        ports = ports.replace(residuals=_padded(ports.residuals, tokens, lengths, depth))
    layers = {"params": stack, **_per_layer(ports, depth)}
    each = ports.probe is not None and ports.probe.each
    score = None if ports.probe is None or each else _no_score(ports.probe)
    # Condition tokens may be of fewer examples than those that look at them.
    batch = tokens.get(VIDEO, next(iter(tokens.values()))).shape[0]

    def body(carry: Any, layer: Any) -> tuple[Any, Any]:
        walked, total = carry
        walked = {name: checkpoint_name(x, "block_input") for name, x in walked.items()}
        plugs = _plug_in(ports, layer, batch, depth)
        walked, parts, seen = block(layer["params"], walked, plugs)
        if ports.residuals is not None:
            walked[VIDEO] = _add_residual(walked[VIDEO], ports.residuals.values, layer["residual"])
        walked = {name: streams.place(name, x) for name, x in walked.items()}
        if seen is not None and not each:
            total, seen = jax.tree.map(jnp.add, total, seen), None
        kept = {name: (parts[name].k, parts[name].v) for name in ports.kv_out}
        return (walked, total), (kept, seen)

    (tokens, score), (kept, scores) = scan_depth(body, (tokens, score), layers, scan, remat)
    return Walked(
        streams={name: x[:, : lengths[name]] for name, x in tokens.items()},
        caches={name: streams.cache(name, k, v, lengths[name]) for name, (k, v) in kept.items()},
        probe=scores if each else score,
    )


def _check_outputs(ports: Ports, lengths: Mapping[str, int]) -> None:
    for name in ports.kv_out:
        if name in ports.kv_in:
            raise ValueError(f"kv_out names {name!r}, which comes in through kv_in")
        if name not in lengths:
            raise ValueError(f"kv_out names {name!r}: the streams here are {', '.join(lengths)}")


def _padded(
    residuals: Residuals, tokens: Tokens, lengths: Mapping[str, int], depth: int
) -> Residuals:
    """Residuals of the real tokens, padded as the tokens are."""
    if VIDEO not in tokens:
        raise ValueError("residuals are added to video tokens: there are none here")
    batch, padded, width = tokens[VIDEO].shape
    blocks = depth if residuals.layers is None else len(residuals.layers)
    wanted = (blocks, batch, lengths[VIDEO], width)
    if residuals.values.shape != wanted:
        raise ValueError(
            f"residuals of shape {residuals.values.shape}: give {wanted}, that is (chosen blocks, "
            "batch, video tokens, width)"
        )
    missing = padded - lengths[VIDEO]
    values = jnp.pad(residuals.values, ((0, 0), (0, 0), (0, missing), (0, 0)))
    return residuals.replace(values=values)


def _per_layer(ports: Ports, depth: int) -> dict[str, Any]:
    """What of the ports has a leading depth axis: it is scanned beside the blocks."""
    layers: dict[str, Any] = {}
    if ports.kv_in:
        layers["caches"] = {name: (kept.k, kept.v) for name, kept in ports.kv_in.items()}
    for name in ("probe", "attention_bias"):
        port = getattr(ports, name)
        if port is not None:
            if port.layers.shape != (depth,):
                raise ValueError(
                    f"{name}.layers has shape {port.layers.shape}: give one weight for each of "
                    f"the {depth} blocks"
                )
            layers[name] = port.layers
    for name, port in (("cross", ports.cross_attention), ("residual", ports.residuals)):
        if port is not None:
            layers[name] = places(port.layers, depth, f"{type(port).__name__}.layers")
    if ports.cross_attention is not None:
        _check_replaced(ports.cross_attention, depth)
        if ports.cross_attention.layers is None:
            # Scanned over, so that no gradient of the whole stack is added up block by block.
            layers["cross_params"] = ports.cross_attention.params
    return layers


def _check_replaced(port: CrossAttention, depth: int) -> None:
    blocks = depth if port.layers is None else len(port.layers)
    for leaf in jax.tree.leaves(port.params):
        if leaf.shape[:1] != (blocks,):
            raise ValueError(
                f"CrossAttention.params has a leaf of shape {leaf.shape}: its first axis counts "
                f"the replaced blocks, of which there are {blocks}"
            )


def _plug_in(ports: Ports, layer: Mapping[str, Any], batch: int, depth: int) -> Plugs:
    parts = {
        name: ports.kv_in[name].part(streams.of_batch(k, batch), streams.of_batch(v, batch))
        for name, (k, v) in layer.get("caches", {}).items()
    }
    bias = probe = cross = None
    if ports.attention_bias is not None:
        port = ports.attention_bias
        bias = (port.query, port.key, port.bias * layer["attention_bias"])
    if ports.probe is not None:

        def probe(seen: Seen) -> tuple[Seen, Any]:
            weight = layer["probe"]
            most = depth if ports.probe.most is None else ports.probe.most
            seen, maps = watch(ports.probe, seen, weight != 0, (most, depth))
            score = jax.lax.cond(
                weight != 0,
                lambda: jax.tree.map(lambda s: weight * s, ports.probe.score(maps)),
                lambda: _no_score(ports.probe),
            )
            return seen, score

    if ports.cross_attention is not None:
        port, (replaced, index) = ports.cross_attention, layer["cross"]

        def cross(context: Mapping[str, Array], x: Array, base: Callable[[], Array]) -> Array:
            def instead(params: Any) -> Array:
                # In the dtype of the products, as what it replaces.
                return port.apply(params, x, context, base, port.inputs).astype(x.dtype)

            if port.layers is None:
                return instead(layer["cross_params"])
            return jax.lax.cond(replaced, lambda: instead(at(port.params, index)), base)

    return Plugs(parts=parts, bias=bias, probe=probe, cross=cross)


def _no_score(probe: Any) -> Any:
    maps = (*probe.columns.shape[:-1], probe.rows[1] - probe.rows[0])
    if probe.direction == "both":
        maps = (maps[0], 2 * (maps[1] if len(maps) == 3 else 1), maps[-1])
    like = jax.eval_shape(probe.score, jax.ShapeDtypeStruct(maps, jnp.float32))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)


def _add_residual(
    x: Float[Array, "B N D"], values: Float[Array, "n B N D"], place: tuple[Array, Array]
) -> Float[Array, "B N D"]:
    member, index = place
    added = jnp.where(member, at(values, index).astype(jnp.float32), 0.0)
    return (x.astype(jnp.float32) + added).astype(x.dtype)
