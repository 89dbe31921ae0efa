"""Depth: identical blocks stacked on one leading axis, walked by a scan or by a loop."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from tavid_jax.parallel.memory import on_device

# What the backward pass keeps of each layer:
#   "none"           whatever XLA wants to keep;
#   "full"           the input of the layer, everything else is computed again;
#   "names=a,b"      also the activations that the block named so (`checkpoint_name`);
#   "offload=a,b"    those activations, moved to the host's memory until they are needed;
#   "groups=6"       the input of every sixth layer: least memory, for one more forward pass.
Remat = str
_GROUPS = "groups="


def init_stack(init_block: Callable[[PRNGKeyArray], Any], key: PRNGKeyArray, depth: int) -> Any:
    """Parameters of `depth` blocks, every leaf with a leading depth axis."""
    return jax.vmap(init_block)(jax.random.split(key, depth))


def stack_depth(stack: Any) -> int:
    """How many blocks a stack holds."""
    return jax.tree.leaves(stack)[0].shape[0]


def take_blocks(stack: Any, start: int, stop: int) -> Any:
    """Blocks start..stop-1 of a stack."""
    return jax.tree.map(lambda a: a[start:stop], stack)


def take_block(stack: Any, index: int | Int[Array, ""]) -> Any:
    """One block of a stack, without the depth axis; a traced index will do."""
    return jax.tree.map(lambda a: a[index], stack)


def _blocks(stack: Any) -> list[Any]:
    """All blocks; one operation for every leaf, and one to put the gradients together."""
    leaves, tree = jax.tree.flatten(stack)
    return [tree.unflatten(block) for block in zip(*map(jnp.unstack, leaves), strict=True)]


def as_pairs(stack: Any) -> Any:
    """(2n, ...) -> (n, 2, ...): two successive blocks become one step of a scan."""
    return jax.tree.map(lambda a: a.reshape(a.shape[0] // 2, 2, *a.shape[1:]), stack)


def walk_depth(
    body: Callable[[Any, Any], Any],
    x: Any,
    layers: Any,
    *,
    scan: bool,
    remat: Remat,
    names: Sequence[str] = (),
) -> Any:
    """x <- body(x, layer) for every layer (leaves of `layers` have a leading depth axis).

    See `scan_depth` for the options; this one collects nothing on its way.

    Args:
      names: that the blocks give to activations; without any, `remat` is "none" or "full".

    Raises:
      ValueError: another `remat`, or one with a name that no activation has.
    """
    if not names and remat not in ("none", "full"):
        raise ValueError(f'remat is "none" or "full" for these blocks, got {remat!r}')
    check_names(remat, names)
    return scan_depth(lambda carry, layer: (body(carry, layer), None), x, layers, scan, remat)[0]


def scan_depth(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, layers: Any, scan: bool, remat: Remat
) -> tuple[Any, Any]:
    """carry, output <- body(carry, layer) for every layer; the outputs are stacked over depth.

    scan: one compiled body for all layers; otherwise unrolled. remat: what the backward pass
    keeps, see `Remat`. Layers that wait in the host's memory (`parallel.memory`) are fetched one
    at a time, in the backward pass again.
    """
    depth = stack_depth(layers)
    body = _fetching(body)
    if remat.startswith(_GROUPS):
        return _scan_groups(body, carry, layers, scan, remat)
    scan = scan and depth > 1  # a loop of one would only cost
    body = remat_body(body, remat, in_scan=scan)
    if scan:
        return jax.lax.scan(body, carry, layers)
    if depth > 1:
        body = jax.jit(body)  # traced and differentiated once for all layers; compiled in place
    outputs = []
    for layer in _blocks(layers):
        carry, output = body(carry, layer)
        outputs.append(output)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)


def _scan_groups(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, layers: Any, scan: bool, remat: Remat
) -> tuple[Any, Any]:
    """`scan_depth` that keeps the input of every group of layers, and of the layers of one group
    while the backward pass is in it."""
    depth, size = stack_depth(layers), remat.removeprefix(_GROUPS)
    sizes = [n for n in range(1, depth + 1) if depth % n == 0]
    if not scan or size not in map(str, sizes):
        raise ValueError(
            f"remat={remat!r} needs scan=True and a size that divides {depth} layers: one of "
            f"{', '.join(map(str, sizes))}"
        )
    layer = remat_body(body, "full", in_scan=True)

    def group(carry: Any, layers: Any) -> tuple[Any, Any]:
        return jax.lax.scan(layer, carry, layers)

    grouped = jax.tree.map(lambda a: a.reshape(-1, int(size), *a.shape[1:]), layers)
    carry, outputs = jax.lax.scan(remat_body(group, "full", in_scan=True), carry, grouped)
    return carry, jax.tree.map(lambda a: a.reshape(depth, *a.shape[2:]), outputs)


def _fetching(body: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda carry, layer: body(carry, on_device(layer))


def remat_body(body: Callable, remat: Remat, *, in_scan: bool) -> Callable:
    """`body` under the chosen rematerialisation.

    Inside a scan the loop itself keeps XLA from undoing the recomputation; in a Python loop
    only prevent_cse does.

    Raises:
      ValueError: a `remat` of another form.
    """
    if remat == "none":
        return body
    return jax.checkpoint(body, prevent_cse=not in_scan, policy=_policy(remat))


def named_activations(remat: Remat) -> list[str]:
    """The activations that a `remat` of the form "names=..." or "offload=..." lists."""
    if remat.startswith(_GROUPS):
        return []
    return [name.strip() for name in remat.partition("=")[2].split(",") if name.strip()]


def check_names(remat: Remat, names: Sequence[str]) -> None:
    """Raises ValueError for a `remat` that lists an activation that is none of `names`."""
    for name in named_activations(remat):
        if name not in names:
            raise ValueError(
                f"remat={remat!r}: no activation is named {name!r}; there are {', '.join(names)}"
            )


def _policy(remat: Remat) -> Callable | None:
    kind, equals, _ = remat.partition("=")
    names = named_activations(remat)
    if kind == "full" and not equals:
        return None
    if kind == "names" and names:
        return jax.checkpoint_policies.save_only_these_names(*names)
    if kind == "offload" and names:
        return jax.checkpoint_policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=names,
            offload_src="device",
            offload_dst="pinned_host",
        )
    raise ValueError(
        f'remat is "none", "full", "groups=6", or "names=a,b" or "offload=a,b" with names that the '
        f"model gives its activations, got {remat!r}"
    )
