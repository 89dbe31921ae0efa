"""Walking the blocks of a backbone with whatever is plugged into its ports."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from tavid_jax.models.layers import streams as stream_kinds
from tavid_jax.models.layers.attention import Part
from tavid_jax.models.layers.depth import Remat, scan_depth, stack_depth
from tavid_jax.models.layers.linear import Params
from tavid_jax.models.layers.ports import Ports, Walked, at, places
from tavid_jax.models.layers.probe import Seen, observe
from tavid_jax.models.layers.streams import VIDEO

Tokens = dict[str, Array]


class Plugs(NamedTuple):
    """The ports as one block sees them.

    Attributes:
      parts: keys and values from `Ports.kv_in`, by stream.
      bias: (query stream, key stream, bias times this layer's weight), or None.
      probe: turns what the block attended to into this layer's score, or None.
      cross: (context, x, base) -> what cross-attention adds, where it is replaced; or None.
    """

    parts: Mapping[str, Part]
    bias: tuple[str, str, Array] | None
    probe: Callable[[Seen], Any] | None
    cross: Callable[[Mapping[str, Array], Array, Callable[[], Array]], Array] | None


# (parameters, tokens of all streams, plugs) -> (tokens, parts by stream, the probe's score)
Block = Callable[[Params, Tokens, Plugs], tuple[Tokens, Mapping[str, Part], Any]]


def walk_blocks(
    block: Block, stack: Params, tokens: Tokens, ports: Ports, *, scan: bool, remat: Remat
) -> Walked:
    """All blocks in order, ports plugged in.

    Args:
      block: one block.
      stack: its parameters, a leading depth axis on every leaf.
      tokens: every stream's tokens, padded as the mesh wants them (`streams.pad_stream`).
      ports: what is plugged in; the lengths of residuals are those of the padded tokens.
      scan, remat: see `depth.scan_depth`. Activations named "block_input" can be offloaded.

    Raises:
      ValueError: a port that does not fit the stack.
    """
    depth = stack_depth(stack)
    layers = {"params": stack, **_per_layer(ports, depth)}
    score = None if ports.probe is None else _no_score(ports.probe)

    def body(carry: Any, layer: Any) -> tuple[Any, Any]:
        walked, total = carry
        walked = {name: checkpoint_name(x, "block_input") for name, x in walked.items()}
        walked, parts, seen = block(layer["params"], walked, _plug_in(ports, layer))
        if ports.residuals is not None:
            walked[VIDEO] = _add_residual(walked[VIDEO], ports.residuals.values, layer["residual"])
        walked = {name: stream_kinds.place(name, x) for name, x in walked.items()}
        if seen is not None:
            total = jax.tree.map(jnp.add, total, seen)
        return (walked, total), {name: (parts[name].k, parts[name].v) for name in ports.kv_out}

    missing = [name for name in ports.kv_out if name in ports.kv_in]
    if missing:
        raise ValueError(f"kv_out names {missing[0]!r}, which comes in through kv_in")
    (tokens, score), kept = scan_depth(body, (tokens, score), layers, scan, remat)
    return Walked(streams=tokens, caches=kept, probe=score)


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
    return layers


def _plug_in(ports: Ports, layer: Mapping[str, Any]) -> Plugs:
    parts = {
        name: ports.kv_in[name].part(k, v) for name, (k, v) in layer.get("caches", {}).items()
    }
    bias = probe = cross = None
    if ports.attention_bias is not None:
        port = ports.attention_bias
        bias = (port.query, port.key, port.bias * layer["attention_bias"])
    if ports.probe is not None:

        def probe(seen: Seen) -> Any:
            weight = layer["probe"]
            return jax.lax.cond(
                weight != 0,
                lambda: jax.tree.map(lambda s: weight * s, observe(ports.probe, seen)),
                lambda: _no_score(ports.probe),
            )

    if ports.cross_attention is not None:
        port, (replaced, index) = ports.cross_attention, layer["cross"]

        def cross(context: Mapping[str, Array], x: Array, base: Callable[[], Array]) -> Array:
            if port.layers is None:
                return port.apply(at(port.params, index), x, context, base, port.inputs)
            return jax.lax.cond(
                replaced,
                lambda: port.apply(at(port.params, index), x, context, base, port.inputs),
                base,
            )

    return Plugs(parts=parts, bias=bias, probe=probe, cross=cross)


def _no_score(probe: Any) -> Any:
    rows = probe.rows[1] - probe.rows[0]
    like = jax.eval_shape(
        probe.score, jax.ShapeDtypeStruct((probe.columns.shape[0], rows), jnp.float32)
    )
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)


def _add_residual(
    x: Float[Array, "B N D"], values: Float[Array, "n B N D"], place: tuple[Array, Array]
) -> Float[Array, "B N D"]:
    member, index = place
    added = jnp.where(member, at(values, index).astype(jnp.float32), 0.0)
    return (x.astype(jnp.float32) + added).astype(x.dtype)
