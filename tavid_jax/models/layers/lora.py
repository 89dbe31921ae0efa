"""Low-rank adaptation: rules say which projections, layers and token streams it acts on.

The adapters are a subtree of their own, `lora/<rule>/<path of the projection>/{a, b}`, float32:
the base keeps the layout of its checkpoint, and what is trained is one regular expression.
For projections inside the blocks, `a` and `b` are stacked over the *selected* layers only.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tavid_jax.models.layers.linear import ALL_STREAMS, is_quantised, uniform_fan_in
from tavid_jax.models.layers.streams import CONDITION, IMAGE, TEXT, VIDEO

# Parameters below this node are stacked over depth.
STACK = "blocks"
STREAMS = (ALL_STREAMS, VIDEO, TEXT, CONDITION, IMAGE)


@dataclasses.dataclass(frozen=True)
class LoraRule:
    """y = x W + b + (alpha / rank) (x A) B on the projections that the rule selects.

    Attributes:
      path: regular expression that must match the whole path of a projection, e.g.
        "blocks/attn/(q|k|v|o)".
      rank: columns of A.
      alpha: numerator of the scale; None is the rank, a scale of one (the convention of files
        that do not store alpha).
      layers: of the blocks, those that are adapted: None for all, or indices; negative ones count
        from the end. A `slice` is welcome too.
      stream: the tokens it acts on, "video", "text", "condition", ..., or "all". An adapter of
        one stream cannot be merged into the base.
      name: names the adapter in the parameter tree; rules may share projections, not names.
    """

    path: str
    rank: int
    alpha: float | int | None = None
    layers: Sequence[int] | slice | None = None
    stream: str = ALL_STREAMS
    name: str = "default"

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(f"LoRA rule {self.name!r}: rank {self.rank} must be at least 1")
        if not self.name or "/" in self.name:
            raise ValueError(f"LoRA rule {self.name!r}: a name is one node of a path, without '/'")
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(
                f"LoRA rule {self.name!r}: {self.path!r} is no regular expression: {error}"
            ) from error
        if isinstance(self.layers, int):
            raise ValueError(f"LoRA rule {self.name!r}: layers={self.layers}: give a list, [3]")
        if self.stream not in STREAMS:
            raise ValueError(
                f"LoRA rule {self.name!r}: no stream {self.stream!r}; use {', '.join(STREAMS)}"
            )

    def __hash__(self) -> int:
        # Modules that hold rules are hashed by jit; lists and slices of layers cannot be.
        return hash((self.path, self.rank, self.name))

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def selected(self, depth: int) -> tuple[int, ...]:
        """The adapted layers of a stack of `depth` blocks, ascending.

        Raises:
          ValueError: a layer that does not exist, or none at all.
        """
        if self.layers is None:
            return tuple(range(depth))
        if isinstance(self.layers, slice):
            chosen = tuple(range(depth)[self.layers])
        else:
            outside = [i for i in self.layers if not -depth <= i < depth]
            if outside:
                raise ValueError(
                    f"LoRA rule {self.name!r}: layer {outside[0]} of {depth} does not exist; "
                    f"use 0 to {depth - 1}"
                )
            chosen = tuple(sorted({i % depth for i in self.layers}))
        if not chosen:
            raise ValueError(
                f"LoRA rule {self.name!r}: layers {self.layers} select none of {depth}"
            )
        return chosen


def projections(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, kernel) of every projection: a node with a kernel that is a matrix."""
    for name, node in tree.items():
        path = f"{prefix}{name}"
        if not isinstance(node, Mapping) or path == "lora":
            continue
        if "kernel" in node and node["kernel"].ndim == 2 + _is_stacked(path):
            yield path, node["kernel"]
        else:
            yield from projections(node, f"{path}/")


def targets(tree: Mapping[str, Any], rule: LoraRule) -> dict[str, Any]:
    """{path: kernel} of the projections that a rule selects.

    Raises:
      ValueError: the rule matches no projection; the message lists those that exist.
    """
    everything = dict(projections(tree))
    found = {path: k for path, k in everything.items() if re.fullmatch(rule.path, path)}
    if not found:
        raise ValueError(
            f"LoRA rule {rule.name!r}: no projection matches {rule.path!r}; "
            f"there are {', '.join(everything)}"
        )
    return found


def check_streams(
    tree: Mapping[str, Any],
    rules: Sequence[LoraRule],
    passing: Sequence[tuple[str, Sequence[str]]],
) -> None:
    """Raises ValueError for a rule of a stream that passes none of the projections it selects.

    Args:
      tree: the model's parameters.
      rules: low-rank rules.
      passing: pairs (regular expression of whole paths, streams whose tokens pass them); the first
        that matches a path counts.
    """
    for rule in rules:
        there: dict[str, None] = {}  # in order, each once
        for path in targets(tree, rule):
            streams = next(streams for pattern, streams in passing if re.fullmatch(pattern, path))
            there.update(dict.fromkeys(streams))
        if rule.stream != ALL_STREAMS and rule.stream not in there:
            raise ValueError(
                f"LoRA rule {rule.name!r}: no {rule.stream} tokens pass {rule.path!r}, so it would "
                f"learn nothing; use stream {' or '.join(map(repr, there))}, or {ALL_STREAMS!r}"
            )


def init_lora(
    key: PRNGKeyArray, tree: Mapping[str, Any], rules: Sequence[LoraRule]
) -> dict[str, Any]:
    """Adapters {rule: {path...: {a, b}}}: A uniform in +-1/sqrt(inputs), B zero; float32.

    Raises:
      ValueError: a rule that matches nothing, or two rules of one name.
    """
    names = [rule.name for rule in rules]
    if len(set(names)) < len(names):
        raise ValueError(f"LoRA rules need names of their own, got {', '.join(names)}")
    adapters: dict[str, Any] = {}
    for rule in rules:
        for path, kernel in targets(tree, rule).items():
            key, sub = jax.random.split(key)
            n_in, n_out = kernel.shape[-2:]
            lead = (len(rule.selected(kernel.shape[0])),) if _is_stacked(path) else ()
            a = uniform_fan_in(sub, (*lead, n_in, rule.rank), n_in)["kernel"]
            b = jnp.zeros((*lead, rule.rank, n_out), jnp.float32)
            _put(adapters.setdefault(rule.name, {}), path, {"a": a, "b": b})
    return adapters


def attach(
    tree: Mapping[str, Any], adapters: Mapping[str, Any], rules: Sequence[LoraRule]
) -> dict[str, Any]:
    """The tree whose selected projections carry {"lora": {stream: {rule: {a, b, scale}}}}.

    Layers that a rule leaves out get zeros there, so that a scan finds every layer alike.
    """
    joined = _copy(tree)
    for rule in rules:
        for path, kernel in targets(tree, rule).items():
            term = dict(_get(adapters[rule.name], path))
            scale = jnp.float32(rule.scale)
            if _is_stacked(path):
                depth = kernel.shape[0]
                chosen = rule.selected(depth)
                scale = jnp.full((depth,), scale)
                if len(chosen) < depth:
                    term = {k: _spread(v, chosen, depth) for k, v in term.items()}
            node = _get(joined, path).setdefault("lora", {}).setdefault(rule.stream, {})
            node[rule.name] = {**term, "scale": scale}
    return joined


def merge(tree: Mapping[str, Any], rules: Sequence[LoraRule]) -> dict[str, Any]:
    """Base and adapters -> the base alone, W + scale A B, with the same outputs.

    Args:
      tree: the model's parameters with the subtree `lora`.
      rules: those that the adapters were made with.

    Raises:
      ValueError: a rule of one stream, whose effect is no matrix of the base; a base in 8 bits.
    """
    return _add_products(tree, tree["lora"], rules, 1)


def unmerge(
    merged: Mapping[str, Any], adapters: Mapping[str, Any], rules: Sequence[LoraRule]
) -> dict[str, Any]:
    """The inverse of `merge`, up to rounding: the base beside its adapters again."""
    return {**_add_products(merged, adapters, rules, -1), "lora": adapters}


def _add_products(tree, adapters, rules: Sequence[LoraRule], sign: int) -> dict[str, Any]:
    merged = _copy({name: node for name, node in tree.items() if name != "lora"})
    for rule in rules:
        if rule.stream != ALL_STREAMS:
            raise ValueError(
                f"LoRA rule {rule.name!r} acts on the stream {rule.stream!r} alone: it cannot be "
                "merged into the base, keep it beside it"
            )
        for path, kernel in targets(merged, rule).items():  # with what earlier rules added
            if is_quantised(kernel):
                raise ValueError(
                    f"LoRA rule {rule.name!r}: {path} is kept in 8 bits, which would round the "
                    "adapter away: leave it beside the base, or merge into the wide weights"
                )
            term = _get(adapters[rule.name], path)
            update = sign * rule.scale * jnp.matmul(term["a"], term["b"], precision="highest")
            wide = kernel.astype(jnp.float32)
            if _is_stacked(path):
                wide = wide.at[jnp.array(rule.selected(kernel.shape[0]))].add(update)
            else:
                wide = wide + update
            _get(merged, path)["kernel"] = wide.astype(kernel.dtype)
    return merged


def _is_stacked(path: str) -> bool:
    return path.startswith(f"{STACK}/")


def _spread(stack: jax.Array, chosen: tuple[int, ...], depth: int) -> jax.Array:
    full = jnp.zeros((depth, *stack.shape[1:]), stack.dtype)
    return full.at[jnp.array(chosen)].set(stack)


def _copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in tree.items()}


def _get(tree: Any, path: str) -> Any:
    for name in path.split("/"):
        tree = tree[name]
    return tree


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = path.split("/")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value
