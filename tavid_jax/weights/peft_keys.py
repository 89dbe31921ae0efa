"""Names of adapters: which projection a key of a LoRA file belongs to, in every naming in use.

What can be adapted, its shape and its layout follow from the base checkpoint's table; the file
adds prefixes of its tool, and calls the two factors lora_A and lora_B, or lora_down and lora_up.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.ops import TRANSPOSE, Op
from tavid_jax.weights.problems import WeightsError, fold, raise_all, with_nearest
from tavid_jax.weights.registry import CHECKPOINTS, checkpoint_kind
from tavid_jax.weights.table import walk

# Kinds of checkpoint that one model's adapters may be named after.
FAMILIES = {
    "cogvideox": ("cogvideox",),
    "wan": ("wan", "wan_diffusers"),
    "wan_diffusers": ("wan_diffusers", "wan"),
}
# Parts of a pipeline whose adapters may share a file (two experts have one each).
COMPONENTS = ("transformer", "transformer_2")

_KEY = re.compile(
    r"(?P<module>.+?)\.(?:(?P<part>lora_A|lora_B|lora_down|lora_up)(?:\.(?P<adapter>[^.]+))?"
    r"\.weight|alpha)"
)
_PARTS = {"lora_A": "a", "lora_down": "a", "lora_B": "b", "lora_up": "b", None: "alpha"}
# What tools put before a module's name, in any order and number.
_PREFIXES = ("base_model.model.", "diffusion_model.", "pipe.dit.", "model.")
# In front of names whose dots are written as underscores.
_FLAT_PREFIX = "lora_unet_"
_LAYER = re.compile(r"\.(\d+)\.")
_HINT = "check that the config is that of the model that was adapted"


@dataclasses.dataclass(frozen=True)
class Projection:
    """A linear layer of the base that can be adapted.

    Attributes:
      module: its name in the checkpoint.
      path: its path in our parameters.
      layer: its place in a stack; None where it stands alone.
      weight: shape of its weight in the checkpoint, (out, in, *taps).
      op: layout change of that weight.
    """

    module: str
    path: str
    layer: int | None
    weight: tuple[int, ...]
    op: Op

    def file_shapes(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of lora_A and lora_B; those of a convolution have its taps, and taps of one."""
        out, *inputs = self.weight
        return (rank, *inputs), (out, rank, *[1] * (len(inputs) - 1))

    def from_file(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """lora_A, lora_B -> our a (in, rank), b (rank, out)."""
        rows, columns = self._orders()
        return a.reshape(len(a), -1).T[rows], b.reshape(len(b), -1).T[:, columns]

    def to_file(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of `from_file`."""
        rows, columns = self._orders()
        ours = a.T, b.T
        theirs = np.empty_like(ours[0]), np.empty_like(ours[1])
        theirs[0][:, rows], theirs[1][columns] = ours
        shapes = self.file_shapes(a.shape[1])
        return theirs[0].reshape(shapes[0]), theirs[1].reshape(shapes[1])

    def _orders(self) -> tuple[Any, Any]:
        """For each of our inputs and outputs, its place in the checkpoint's weight."""
        if self.op is TRANSPOSE:
            return slice(None), slice(None)
        size = prod(self.weight[1:])
        places = self.op.forward(np.arange(self.weight[0] * size).reshape(self.weight))
        return places[:, 0] % size, places[0] // size


@dataclasses.dataclass(frozen=True)
class FileAdapter:
    """The adapter of one projection as a file has it; `alpha` of a key beside it, if any."""

    projection: Projection
    a: LazyArray
    b: LazyArray
    alpha: float | None

    @property
    def rank(self) -> int:
        """Rows of lora_A."""
        return self.a.shape[0]


def known_projections(name: str, config: Any) -> dict[str, Projection]:
    """{module: projection} of all linear layers in one naming, from the checkpoint's table."""
    _family(name)
    kind = checkpoint_kind(name)
    if not isinstance(config, kind.config):
        raise WeightsError(
            f"adapters of {name} need a {kind.config.__name__}, not a {type(config).__name__}"
        )
    shapes = {path: tuple(leaf.shape) for path, leaf in walk(kind.shapes(config))}
    found = {}
    for row in kind.table(config).rows:
        path, _, leaf = row.path.rpartition("/")
        stacked = row.layers is not None
        if leaf != "kernel" or len(shapes[row.path]) != 2 + stacked:
            continue
        weight = row.source_shape(shapes[row.path])
        for place, key in enumerate(row.keys()):
            module = key.removesuffix(".weight")
            found[module] = Projection(module, path, place if stacked else None, weight, row.op)
    return found


def all_namings(name: str, config: Any) -> dict[str, Projection]:
    """`known_projections` in every naming of the model; that of `name` comes first."""
    found: dict[str, Projection] = {}
    for other in _family(name):
        found = found | known_projections(other, config)
    return found


def is_adapter_key(key: str) -> bool:
    """Whether a key is that of a low-rank factor."""
    found = _KEY.fullmatch(key)
    return found is not None and found["part"] is not None


def parse(
    tensors: Mapping[str, LazyArray], component: str = COMPONENTS[0], ignored: Sequence[str] = ()
) -> tuple[dict[str, dict[str, LazyArray]], list[str]]:
    """({module: {"a" | "b" | "alpha": tensor}}, keys that are no adapter's).

    Args:
      tensors: key -> tensor.
      component: of the pipeline; adapters that the file names as the other one's are left out.
      ignored: patterns of keys that are left out; they match the whole key.

    Raises:
      WeightsError: no adapters, or several for one projection.
    """
    others = tuple(f"{other}." for other in COMPONENTS if other != component)
    modules: dict[str, dict[str, LazyArray]] = {}
    unknown, twice = [], []
    for key, tensor in tensors.items():
        if key.startswith(others) or any(re.fullmatch(p, key) for p in ignored):
            continue
        found = _KEY.fullmatch(key)
        if not found:
            unknown.append(key)
            continue
        parts = modules.setdefault(without_prefix(found["module"], component), {})
        part = _PARTS[found["part"]]
        if part in parts:
            twice.append(key)
        parts[part] = tensor
    raise_all(
        {"projections with several adapters": fold(twice)},
        "cannot read these adapters",
        "a file must hold one adapter; split it",
    )
    if not any("a" in parts or "b" in parts for parts in modules.values()):
        first = ", ".join(list(tensors)[:5])
        raise WeightsError(f"no LoRA of {component!r} in it; its first keys are {first}")
    return modules, unknown


def match(
    modules: Mapping[str, Mapping[str, LazyArray]],
    unknown: Sequence[str],
    known: Mapping[str, Projection],
) -> list[FileAdapter]:
    """What `parse` found, each beside its projection.

    Raises:
      WeightsError: lists all that fits no projection, is incomplete or of another shape.
    """
    named = _named(modules, known)
    stacks = {_LAYER.sub(".#.", p.module, count=1) for p in known.values() if p.layer is not None}
    strange = [m for m in named if m not in known]
    beyond = [m for m in strange if _LAYER.sub(".#.", m, count=1) in stacks]
    fit = {m: parts for m, parts in named.items() if m in known}
    problems = {
        "keys that are no LoRA's": with_nearest(unknown, ()),
        "modules that the model does not have": with_nearest(
            [m for m in strange if m not in beyond], known
        ),
        f"layers that do not exist (the config has {_depth(known)})": fold(beyond),
        "lora_B without lora_A": fold(m for m, p in fit.items() if "b" in p and "a" not in p),
        "lora_A without lora_B": fold(m for m, p in fit.items() if "a" in p and "b" not in p),
        "alpha without adapter": fold(m for m, p in fit.items() if p.keys() == {"alpha"}),
        "wrong shape": [
            line
            for m, parts in fit.items()
            if {"a", "b"} <= parts.keys()
            for line in _misshapen(known[m], parts["a"].shape, parts["b"].shape)
        ],
    }
    alphas = {m: _number(parts["alpha"]) for m, parts in fit.items() if "alpha" in parts}
    problems["alpha that is no number"] = fold(m for m, a in alphas.items() if a is None)
    raise_all(problems, "cannot read these adapters", _HINT)
    return [FileAdapter(known[m], p["a"], p["b"], alphas.get(m)) for m, p in fit.items()]


def any_fits(
    modules: Mapping[str, Mapping[str, LazyArray]], known: Mapping[str, Projection]
) -> bool:
    """Whether one of the adapters at least belongs to a projection, by its name and shape."""
    return any(
        not _misshapen(known[module], parts["a"].shape, parts["b"].shape)
        for module, parts in _named(modules, known).items()
        if module in known and {"a", "b"} <= parts.keys()
    )


def _named(modules: Mapping[str, Any], known: Mapping[str, Projection]) -> dict[str, Any]:
    """Names with underscores in place of dots as the projections have them."""
    flat = {_FLAT_PREFIX + module.replace(".", "_"): module for module in known}
    return {flat.get(module, module): parts for module, parts in modules.items()}


def module_keys(module: str, prefix: str) -> dict[str, str]:
    """{"a": key, "b": key, "alpha": key} of a module."""
    at = f"{prefix}{module}"
    return {"a": f"{at}.lora_A.weight", "b": f"{at}.lora_B.weight", "alpha": f"{at}.alpha"}


def _family(name: str) -> tuple[str, ...]:
    if name in FAMILIES:
        return FAMILIES[name]
    if name in CHECKPOINTS and "experts" in name:
        raise WeightsError(
            f"adapters of {name}: one expert at a time, with name='wan'; in a file of both, the "
            f"components are {COMPONENTS[0]!r} (high noise) and {COMPONENTS[1]!r} (low noise)"
        )
    raise WeightsError(f"no adapters for {name!r}; known: {', '.join(FAMILIES)}")


def without_prefix(module: str, component: str = COMPONENTS[0]) -> str:
    """A name without what tools put before it."""
    prefixes = (*_PREFIXES, f"{component}.")
    while module.startswith(prefixes):
        module = module[len(next(p for p in prefixes if module.startswith(p))) :]
    return module


def _depth(known: Mapping[str, Projection]) -> int:
    return 1 + max((p.layer for p in known.values() if p.layer is not None), default=-1)


def _misshapen(projection: Projection, a: tuple[int, ...], b: tuple[int, ...]) -> list[str]:
    if len(a) < 2 or len(b) < 2 or a[0] == 0:
        return [f"{projection.module}: lora_A {a}, lora_B {b} are no two factors"]
    if a[0] != b[1]:
        return [f"{projection.module}: rank {a[0]} of lora_A, rank {b[1]} of lora_B"]
    return [
        f"{projection.module}: {name} {have}, expected {want}"
        for name, have, want in zip(
            ("lora_A", "lora_B"), (a, b), projection.file_shapes(a[0]), strict=True
        )
        if have != want
    ]


def _number(tensor: LazyArray) -> float | None:
    value = float(tensor.read().reshape(-1)[0]) if tensor.size == 1 else np.nan
    return value if np.isfinite(value) else None
