"""Muon on the matrices of a model (Jordan et al. 2024; arXiv:2502.16982), Adam on the rest."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers


def muon(
    schedule: optax.Schedule,
    *,
    beta: float | int = 0.95,
    steps: int = 5,
    consistent_rms: float | int = 0.0,
    weight_decay: float | int = 0.0,
    b1: float | int = 0.9,
    b2: float | int = 0.999,
    eps: float = 1e-8,
    also: Sequence[str] = (),
    never: Sequence[str] = (),
) -> optax.GradientTransformation:
    """Matrices get their momentum with all singular values made alike; the rest gets Adam.

    Args:
      schedule: learning rate of both.
      beta: decay of Muon's (Nesterov) momentum.
      steps: Newton-Schulz iterations.
      consistent_rms: root mean square, about, of the entries of a matrix's update in units of the
        learning rate, whatever its shape; 0.2 is the size of Adam's. 0 is the original's size,
        sqrt(max(1, out / in)) times the orthogonal matrix.
      weight_decay: of the matrices, times the learning rate.
      b1, b2: of Adam.
      eps: of both.
      also, never: see `muon_groups`.
    """
    matrices = optax.chain(
        optax.contrib.scale_by_muon(
            ns_steps=steps, beta=beta, eps=eps, weight_dimension_numbers=_last_two_axes
        ),
        optax.stateless(lambda updates, _: jax.tree.map(_sized(consistent_rms), updates)),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(schedule),
    )
    rest = optax.adam(schedule, b1=b1, b2=b2, eps=eps)
    groups = functools.partial(muon_groups, also=also, never=never)
    return optax.partition({"muon": matrices, "adam": rest}, groups)


def muon_groups(params: Any, also: Sequence[str] = (), never: Sequence[str] = ()) -> Any:
    """Each weight's optimizer: "muon" for those named "kernel", which are matrices, else "adam".

    A kernel's last two axes are the matrix; the axes before them (layers stacked by a scan over
    depth, taps of a convolution) count matrices. Adam has all else, of whatever rank (stacked
    biases have two axes but are no matrices): embeddings, tables of positions, modulations, and
    the factors "a" and "b" of adapters. Those are published with Adam's learning rates, and
    orthogonal updates of both factors would not make that of their product orthogonal.

    Args:
      params: weights, or their gradients.
      also: regular expressions of whole paths that are matrices too: ".*/embed".
      never: of kernels that are left to Adam, say the first and the last:
        ".*/(patch_embed|out_proj)/kernel". Stronger than `also`.

    Raises:
      ValueError: a pattern that matches nothing, a path of `also` with fewer than two axes, or
        no matrix at all.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    asked = _matching(also, paths, "muon_also")
    left = _matching(never, paths, "muon_not")
    groups = []
    for path, (_, leaf) in zip(paths, leaves, strict=True):
        if path in asked and leaf.ndim < 2:
            raise ValueError(f"optimizer.muon_also: {path!r} of shape {leaf.shape} is no matrix")
        kernel = path.rpartition("/")[2] == "kernel" and leaf.ndim >= 2
        groups.append("muon" if (kernel or path in asked) and path not in left else "adam")
    if "muon" not in groups:
        raise ValueError(
            "optimizer.name 'muon': none of the weights that are trained is a matrix named kernel. "
            'Use adamw, or name them in optimizer.muon_also: adapters are ".*/(a|b)"'
        )
    return jax.tree.unflatten(tree, groups)


def _matching(patterns: Sequence[str], paths: Sequence[str], field: str) -> set[str]:
    found = set()
    for pattern in patterns:
        some = {path for path in paths if re.fullmatch(pattern, path)}
        if not some:
            raise ValueError(f"optimizer.{field}: {pattern!r} matches no weight that is trained")
        found |= some
    return found


def _last_two_axes(matrices: Any) -> Any:
    return jax.tree.map(lambda x: MuonDimensionNumbers(x.ndim - 2, x.ndim - 1), matrices)


def _sized(consistent_rms: float | int) -> Callable[[jax.Array], jax.Array]:
    def scale(update: jax.Array) -> jax.Array:
        rows, columns = update.shape[-2:]
        if consistent_rms:
            # An orthogonal matrix has entries of root mean square 1 / sqrt(its larger side).
            return consistent_rms * math.sqrt(max(rows, columns)) * update
        return math.sqrt(max(1.0, columns / rows)) * update

    return scale
