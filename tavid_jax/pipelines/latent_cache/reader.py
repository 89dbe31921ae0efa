"""Reading such a cache: random access to examples as a stage of TrajLoom reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from tavid_jax.data.files import some
from tavid_jax.data.latent_statistics import LatentSums, Statistics, differing
from tavid_jax.engine.telemetry import Progress
from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import reading, told
from tavid_jax.untrusted.names import inside
from tavid_jax.untrusted.npy import float32
from tavid_jax.untrusted.texts import parse_json, read_json, read_text
from tavid_jax.weights.files import read_torch
from tavid_jax.weights.problems import WeightsError

META = "meta.json"
STATISTICS = "vae_latent_stats.json"
#: Older manifests of TrajLoom call the held-out part "val".
SPLITS = {"train": ("train",), "eval": ("eval", "val")}
#: Key of a file -> name in an example, and how many axes it has.
ARRAYS = {
    "z_hist": ("history", 3),
    "z_fut": ("future", 3),
    "hist_vis_lat": ("history_visibility", 2),
    "fut_vis_lat": ("future_visibility", 2),
    "z_video_hist": ("video", 3),
    "text_cond": ("text", 1),
}
NEEDED = ("z_hist", "z_fut")
_AGAIN = "encode the clips again, or name the cache that belongs to this VAE"


class LatentCacheError(ValueError):
    """A cache of latents cannot be used; the message names the folder or file, and the mend."""


class LatentCache:
    """Random access to the clips of one part of a cache; picklable and safe under threads.

    Attributes:
      name: "latents", or "latents_eval" of the held-out part.
      folder: of the cache.
      meta: what its writer said of it; {} of one that TrajLoom's own code made.
      entries: {"vid", "path", ...} of every clip, as in the manifest.

    Args:
      folder: that holds the manifests.
      split: "train" or "eval".
      vae: fingerprint of the VAE that the latents must be of; "" = of any.
      statistics: tables that the cache must belong to; None = any.

    Raises:
      LatentCacheError: no manifest or an empty one; clips that are missing, which are named;
        latents of another VAE, of other statistics, or already scaled.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        split: str = "train",
        *,
        vae: str = "",
        statistics: Mapping[str, Any] | None = None,
    ):
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
        self.folder = Path(folder).expanduser()
        self.name = "latents" if split == "train" else f"latents_{split}"
        self.entries = _manifest(self.folder, split)
        self.meta = _meta(self.folder)
        self._check(vae, statistics)
        read_clip(self.folder / self.entries[0]["path"])  # what is wrong with all is said now

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Example `index`; see `read_clip`."""
        entry = self.entries[range(len(self))[index]]
        example = read_clip(self.folder / entry["path"])
        name = example.pop("id") or entry.get("vid") or Path(entry["path"]).stem
        return {"id": str(name), **example}

    def statistics(self) -> Statistics:
        """Statistics of all clips, by one pass over the files."""
        sums, progress = LatentSums(), Progress(f"statistics of {self.folder}", len(self))
        for index in range(len(self)):
            example = self[index]
            sums.add(example["history"], example["future"])
            progress.show(index + 1, last=index + 1 == len(self))
        return sums.statistics()

    def _check(self, vae: str, statistics: Mapping[str, Any] | None) -> None:
        if not self.meta:
            logging.info(
                "%s has no %s: its latents are taken to be of the VAE that is used here",
                self.folder,
                META,
            )
            return
        stored = self.meta.get("vae", "")
        if vae and stored and stored != vae:
            raise LatentCacheError(
                f"{self.folder}: latents of another VAE (its weights have the hash {stored}, those "
                f"used here {vae}); {_AGAIN}"
            )
        tables = self.meta.get("statistics")
        if statistics is not None and tables and (told := differing(tables, statistics)):
            raise LatentCacheError(
                f"{self.folder}: belongs to other latent statistics ({told}); use its own "
                f"{STATISTICS}, or delete 'statistics' from its {META} to standardise it by a "
                "foreign table on purpose"
            )


def read_clip(path: str | os.PathLike) -> dict[str, Any]:
    """One clip's file as an example; L latent frames, N tokens, C channels.

    Leading axes of length 1 are taken away. No code in the file is run.

    Returns:
      "id" (vid, or ""), "history" and "future" float32 (L, N, C), unscaled, and of these what is
      there: "history_visibility", "future_visibility" float32 (L, N), "video" float32
      (L, N, video channels), "text" float32 (width,).

    Raises:
      LatentCacheError: unreadable, latents that are missing or scaled, or a wrong shape.
    """
    try:
        held = read_torch(path)
    except WeightsError as error:
        raise LatentCacheError(str(error)) from error
    if not isinstance(held, Mapping):
        raise LatentCacheError(f"{path}: holds a {type(held).__name__}, not a dict of a clip")
    missing = [key for key in NEEDED if held.get(key) is None]
    if missing:
        raise LatentCacheError(f"{path}: has no {' and no '.join(missing)}, only {sorted(held)}")
    if _true(held.get("stored_scaled_latents", False)):
        raise LatentCacheError(
            f"{path}: holds scaled latents (stored_scaled_latents), which would be scaled twice; "
            "write the cache again with latents as the VAE gives them"
        )
    example: dict[str, Any] = {"id": str(held.get("vid") or "")}
    for key, (name, axes) in ARRAYS.items():
        if held.get(key) is not None:
            example[name] = _array(path, key, held[key], axes)
    _check_shapes(path, example)
    return example


def _array(path: str | os.PathLike, key: str, value: Any, axes: int) -> np.ndarray:
    array = _values(value)
    if array is None or array.dtype.kind in "OUS":
        raise LatentCacheError(f"{path}: {key} is a {type(value).__name__}, not a tensor")
    shape = array.shape
    while array.ndim > axes and array.shape[0] == 1:
        array = array[0]
    if array.ndim != axes:
        raise LatentCacheError(f"{path}: {key} has shape {list(shape)}, {axes} axes are due")
    if array.dtype.kind == "c":
        raise LatentCacheError(f"{path}: {key} holds complex numbers")
    return float32(array)


def _values(value: Any) -> np.ndarray | None:
    """A tensor that is read lazily, or by PyTorch, as numpy."""
    if hasattr(value, "nbytes"):
        limits.check("array_bytes", int(value.nbytes), "a tensor")
    if hasattr(value, "read"):
        return value.read()
    if hasattr(value, "detach"):
        from tavid_jax.weights.lazy import as_lazy

        return as_lazy(value).read()
    return value if isinstance(value, np.ndarray) else None


def _true(value: Any) -> bool:
    array = _values(value)
    return bool(value if array is None else array.any())


def _check_shapes(path: str | os.PathLike, example: Mapping[str, Any]) -> None:
    shape = example["history"].shape
    for name, wanted in (
        ("future", shape),
        ("history_visibility", shape[:2]),
        ("future_visibility", shape[:2]),
        ("video", shape[:2]),
    ):
        found = example[name].shape if name in example else wanted
        if found[: len(wanted)] != wanted:
            raise LatentCacheError(
                f"{path}: {name} has shape {list(found)}, which does not fit z_hist {list(shape)}"
            )


def _manifest(folder: Path, split: str) -> list[dict[str, Any]]:
    names = [f"manifest_{word}.jsonl" for word in SPLITS[split]]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise LatentCacheError(f"{folder}: holds no {names[0]}, so it is no cache of latents")
    entries = []
    with reading(path, LatentCacheError, "a manifest"):
        lines = read_text(path, "json_bytes").splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            entries.append(_entry(path, number, line))
    if not entries:
        raise LatentCacheError(f"{path}: names no clip")
    for entry in entries:
        with reading(path, LatentCacheError, "a manifest"):
            inside(folder, entry["path"])
    lost = [entry["path"] for entry in entries if not (folder / entry["path"]).is_file()]
    if lost:
        raise LatentCacheError(
            f"{path}: {len(lost)} of {len(entries)} files are not in {folder} ({some(lost)}); copy "
            "the cache again"
        )
    return entries


def _entry(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        entry = parse_json(line)
        place = entry.get("path") or entry["pt_path"]
    except (ValueError, KeyError, AttributeError) as error:
        raise LatentCacheError(f"{path}, line {number}: names no 'path' ({line[:80]})") from error
    return {**entry, "path": str(place)}


def _meta(folder: Path) -> dict[str, Any]:
    try:
        meta = read_json(folder / META)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LatentCacheError(f"{folder / META}: cannot be read ({told(error)})") from error
    if not isinstance(meta, dict):
        raise LatentCacheError(f"{folder / META}: holds a {type(meta).__name__}, not an object")
    return meta
