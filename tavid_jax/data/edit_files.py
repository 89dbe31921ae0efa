"""Files of edits of tracks, JSON that people write:

    {
      "size_hw": [480, 832],         (H, W) px that regions and ways refer to; else the tracks'
      "edits": [
        {"what": "delete", "region": [0, 0, 200, 480]},
        {"what": "move", "by": [60, -20], "region": [300, 100, 500, 300]},
        {"what": "scale", "by": 1.5}
      ]
    }

Edits are done in their order; see `tracks.edits.Edit` for what they are.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tavid_jax.data.clip import ClipError
from tavid_jax.tracks.edits import Edit, EditError
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.texts import read_json

_KEYS, _FIELDS = {"size_hw", "edits"}, {"what", "by", "region"}


def read_edits(path: str | os.PathLike, size_hw: tuple[int, int]) -> list[Edit]:
    """Edits of tracks in pixels of `size_hw`.

    Raises:
      ClipError: unreadable, no such object, an unknown key, or an edit that makes no sense.
    """
    with reading(path, ClipError, "JSON of edits"):
        held = read_json(path)
    if not isinstance(held, dict) or not isinstance(held.get("edits"), list):
        raise ClipError(f'{path}: holds no object with "edits", a list')
    _check_keys(path, "it", held, _KEYS)
    scale = _scale(path, held.get("size_hw"), size_hw)
    return [_edit(path, number, one, scale) for number, one in enumerate(held["edits"], 1)]


def _edit(path: str | os.PathLike, number: int, held: Any, scale: np.ndarray) -> Edit:
    name = f"edit {number}"
    if not isinstance(held, dict) or not isinstance(held.get("what"), str):
        raise ClipError(f'{path}: {name} is no object with "what"')
    _check_keys(path, name, held, _FIELDS)
    try:
        fields = {key: _numbers(held[key]) for key in ("by", "region") if key in held}
        edit = Edit(held["what"], **fields)
    except EditError as error:
        raise ClipError(f"{path}: {name}: {error}") from error
    except (OverflowError, TypeError, ValueError) as error:
        raise ClipError(f"{path}: {name}: 'by' and 'region' are numbers ({error})") from error
    region = edit.region
    if region is not None:  # edges of pixels stay edges when a frame is resized
        edges = (np.asarray(region, np.float64).reshape(2, 2) + 0.5) * scale - 0.5
        region = tuple(edges.ravel().tolist())
    by = edit.by
    if edit.what == "move":
        by = tuple((np.asarray(by) * scale).tolist())
    return Edit(edit.what, by, region)


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(float(one) for one in value)
    return float(value)


def _scale(path: str | os.PathLike, given: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """(x, y) px of `size_hw` per px of the file."""
    if given is None:
        return np.ones(2)
    try:
        sizes = np.asarray(given)
    except ValueError:  # rows of different lengths
        sizes = np.empty(0)
    numbers = sizes.shape == (2,) and sizes.dtype.kind in "iuf"
    if not numbers or not ((sizes >= 1) & (sizes < 1e9)).all():
        raise ClipError(f"{path}: size_hw must be [H, W] in pixels, got {given!r}")
    return np.asarray(size_hw[::-1]) / sizes[::-1]


def _check_keys(path: str | os.PathLike, name: str, held: dict, known: set[str]) -> None:
    unknown = sorted(set(held) - known)
    if unknown:
        raise ClipError(
            f"{path}: {name} has unknown keys {unknown}; known are {', '.join(sorted(known))}"
        )
