"""Published weights for those who train on them: opened and described, not read."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tavid_jax.models.wan.experts import HIGH_NOISE, LOW_NOISE
from tavid_jax.pipelines.bases import resolve_checkpoint
from tavid_jax.pipelines.folder import TRANSFORMER, find_parts
from tavid_jax.weights import WeightsError
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.opened import Opened, open_parameters
from tavid_jax.weights.source import HUB

EXPERTS = (HIGH_NOISE, LOW_NOISE)


def open_trained(
    source: str | Path,
    parts: Collection[str],
    given: Mapping[str, str | Path] | None = None,
) -> dict[str, Opened]:
    """The models of a checkpoint, by part; nothing of them is read.

    Args:
      source: folder of a whole model in diffusers' or the original layout, `hf:owner/name`, or
        the name of a packaged base. For the transformer alone anything that
        `weights.open_parameters` opens.
      parts: which of `folder.PARTS`, without the tokenizer.
      given: parts that lie elsewhere.

    Raises:
      WeightsError: parts that are missing, or nothing usable in them.
    """
    source, given = resolve_checkpoint(source), dict(given or {})
    alone = [part for part in parts if part == TRANSFORMER and part not in given]
    rest = [part for part in parts if part not in alone]
    found = {part: str(source) for part in alone}
    if not str(source).startswith(HUB) and not Path(source).expanduser().exists():
        raise WeightsError(f"{source} is not there: give the folder of a model, or hf:owner/name")
    found |= find_parts(source, rest, given) if rest else {}
    return {part: open_parameters(where) for part, where in found.items()}


def has_experts(opened: Opened) -> bool:
    """Whether it holds two transformers, one for each side of a noise level."""
    return "experts" in opened.name


def leaves_of(opened: Opened, expert: str = "") -> dict[str, LazyArray]:
    """{path: parameter}, of one of two experts where there are two."""
    prefix = f"{expert}/" if expert else ""
    return {
        path.removeprefix(prefix): leaf
        for path, leaf in opened.leaves.items()
        if path.startswith(prefix)
    }


def kind_of(config: Any) -> str:
    """What people call the models of a config's class."""
    return type(config).__name__.removesuffix("Config")


def differences(found: Any, expected: Any, unread: Sequence[str] = ()) -> list[str]:
    """Lines "field: theirs in the checkpoint, ours here" of two configs of one class."""
    names = [field.name for field in dataclasses.fields(expected) if field.name not in unread]
    return [
        f"{name}: {getattr(found, name)!r} in the checkpoint, {getattr(expected, name)!r} here"
        for name in names
        if getattr(found, name) != getattr(expected, name)
    ]
