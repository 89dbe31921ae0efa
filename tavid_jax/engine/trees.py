"""Parameter trees as plain nested dicts addressed by "a/b/c" paths."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict -> {"a/b/c": leaf}, in sorted order of paths. Empty dicts vanish."""
    flat: dict[str, Any] = {}
    for key in sorted(tree):
        value = tree[key]
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{path}/"))
        else:
            flat[path] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge: every leaf of `over` replaces or joins those of `base`."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def partition(tree: Mapping[str, Any], patterns: Iterable[str]) -> tuple[dict, dict]:
    """Split into (leaves whose path fully matches one of the regexes, all other leaves).

    Raises ValueError for a pattern that matches nothing: it is a typo, not a wish.
    """
    flat = flatten(tree)
    matched: dict[str, Any] = {}
    for pattern in patterns:
        hits = {path: leaf for path, leaf in flat.items() if re.fullmatch(pattern, path)}
        if not hits:
            raise ValueError(
                f"the pattern {pattern!r} matches no parameter; there are {list(flat)}"
            )
        matched.update(hits)
    rest = {path: leaf for path, leaf in flat.items() if path not in matched}
    return unflatten(matched), unflatten(rest)


def signature(leaf: Any) -> str:
    """Type and shape of an array, or of what describes one, in words: "float32[2, 3]"."""
    return f"{leaf.dtype}{list(leaf.shape)}"


def fingerprint(tree: Mapping[str, Any]) -> str:
    """A short hash of paths, shapes, dtypes and values: names a set of weights in provenance."""
    digest = hashlib.sha256()
    for path, leaf in flatten(tree).items():
        array = np.asarray(leaf)
        digest.update(f"{path} {array.dtype}{array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:12]
