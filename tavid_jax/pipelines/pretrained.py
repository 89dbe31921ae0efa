"""Published weights for those who train on them: opened and described, not read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tavid_jax.models.wan.experts import HIGH_NOISE, LOW_NOISE
from tavid_jax.pipelines.bases import resolve_checkpoint
from tavid_jax.pipelines.card import has_card
from tavid_jax.pipelines.finding import find_model
from tavid_jax.pipelines.folder import TRANSFORMER, find_parts
from tavid_jax.places import copy_of, is_remote, place
from tavid_jax.weights import WeightsError
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.opened import Opened, open_parameters
from tavid_jax.weights.source import HUB

EXPERTS = (HIGH_NOISE, LOW_NOISE)


def locate(source: str | Path, parts: Sequence[str]) -> dict[str, str]:
    """{part: where it lies} of a checkpoint.

    Args:
      source: folder of a whole model in diffusers' or the original layout, `hf:owner/name`, the
        name of a packaged base, or a folder that `save_pipeline` wrote. For the transformer alone
        anything that `weights.open_parameters` opens.
      parts: which of `folder.PARTS`.

    Raises:
      ValueError: a base that this installation lacks, or a folder of adapters without their model.
      WeightsError: nothing there, or parts that are missing.
    """
    source = resolve_checkpoint(source)
    is_folder = not source.startswith(HUB)
    if is_folder and not Path(source).expanduser().exists():
        raise WeightsError(f"{source} is not there: give the folder of a model, or hf:owner/name")
    if is_folder and has_card(source):
        found = find_model(source)
        if found.adapters is not None or found.control is not None:
            raise ValueError(
                f"{source} holds adapters of {found.source}: name that model; a stage goes on with "
                "the adapters of an earlier one of its run (init_from)"
            )
        if found.patch_embed is not None and TRANSFORMER in parts:
            raise ValueError(
                f"{source} has a patch projection of its own ({Path(found.patch_embed).name}): a "
                "stage goes on with an earlier one of its run (init_from)"
            )
        inside = {part: path for part, path in found.parts.items() if part in parts}
        return find_parts(found.source, parts, inside)
    alone = {part: source for part in parts if part == TRANSFORMER}
    rest = [part for part in parts if part not in alone]
    return alone | (find_parts(source, rest) if rest else {})


def is_here(source: str | Path, parts: Sequence[str]) -> bool:
    """Whether these parts of a checkpoint lie on this machine; nothing is downloaded for it."""
    if is_remote(source):
        source = copy_of(place(source))
    if resolve_checkpoint(source).startswith(HUB):
        return False
    try:
        locate(source, parts)
    except WeightsError:
        return False
    return True


def open_trained(source: str | Path, parts: Sequence[str]) -> dict[str, Opened]:
    """The models of a checkpoint, by part; nothing of them is read.

    Args:
      source: see `locate`.
      parts: which of `folder.PARTS`, without the tokenizer.

    Raises:
      ValueError, WeightsError: see `locate`; and parts with nothing usable in them.
    """
    return {part: open_parameters(where) for part, where in locate(source, parts).items()}


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
