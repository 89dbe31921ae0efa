"""Writing checkpoints for PyTorch: sharded safetensors with an index, and config.json."""

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.weights.imported import Progress, whole_or_absent
from tavid_jax.weights.lazy import Spec
from tavid_jax.weights.model_json import config_to_json, is_described
from tavid_jax.weights.opened import open_parameters
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.registry import Checkpoint, checkpoint_kind
from tavid_jax.weights.safetensors import SafetensorsWriter
from tavid_jax.weights.streaming import plan_export
from tavid_jax.weights.table import nest

SHARD_BYTES = 5_000_000_000
# Kinds of the original repositories -> those of diffusers and transformers.
_PUBLIC = {
    "wan": "wan_diffusers",
    "wan_experts": "wan_experts_diffusers",
    "wan_vae": "wan_vae_diffusers",
    "umt5": "umt5_transformers",
    "clip_vision_original": "clip_vision",
}
_ORIGINAL = {public: original for original, public in _PUBLIC.items()}
# Kinds that were published in that one naming.
_ONLY_PUBLIC = ("cogvideox", "cogvideox_vae", "t5", "clip", "clip_vision_bare")


def export_checkpoint(
    source: str | Path,
    folder: str | Path,
    *,
    naming: str | None = None,
    name: str | None = None,
    config: Any = None,
    dtype: Any = "keep",
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> list[Path]:
    """Converts an imported folder (or another published checkpoint) into PyTorch's layout.

    Args:
      source: an imported folder, or anything that `open_source` opens.
      folder: to be created.
      naming: "original" names, of the parts of a Wan model, or those of "diffusers" (and
        transformers); None: those it came with.
      name, config: for a published source, see `identify`.
      dtype: of all tensors, or "keep".
      shard_bytes: largest size of one file.
      progress: called with the bytes written and the bytes in all.

    Returns:
      The files.

    Raises:
      WeightsError: the source is unusable, or `folder` exists or cannot be written.
    """
    opened = open_parameters(source, name, config)
    return save(
        _renamed(opened.name, naming),
        nest(opened.leaves),
        opened.config,
        folder,
        dtype=dtype,
        shard_bytes=shard_bytes,
        progress=progress,
    )


def save(
    name: str,
    params: Mapping[str, Any],
    config: Any,
    folder: str | Path,
    *,
    dtype: Any = "keep",
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes parameters as a folder that PyTorch code reads: the inverse of `load`.

    Args:
      name: key of `CHECKPOINTS`; decides the naming.
      params: nested dict of lazy, numpy or JAX arrays.
      config: of their model.
      folder, dtype, shard_bytes, progress: see `export_checkpoint`.
    """
    folder, kind = Path(folder).expanduser(), checkpoint_kind(name)
    specs, tensors = plan_export(kind.table(config), params, kind.shapes(config), dtype)
    total = sum(spec.nbytes for spec in specs.values())
    content = None
    if is_described(config):
        content = config_to_json(config, "original" if name in _PUBLIC else "diffusers")
    with whole_or_absent(folder, total) as part:
        plans = {}
        for inside, keys in _by_folder(kind, specs).items():
            plans |= _begin(part / inside, kind.stem, inside, keys, specs, shard_bytes, content)
        _write(plans, tensors, total, progress)
        files = sorted(p.relative_to(part) for p in part.rglob("*") if p.is_file())
    return [folder / file for file in files]


def _renamed(name: str, naming: str | None) -> str:
    if naming is None:
        return name
    tables = {"original": _ORIGINAL, "diffusers": _PUBLIC}
    if naming not in tables:
        raise WeightsError(f"no naming {naming!r}; known: {', '.join(tables)}")
    table = tables[naming]
    if name in table:
        return table[name]
    if name in table.values() or (naming == "diffusers" and name in _ONLY_PUBLIC):
        return name
    raise WeightsError(f"a checkpoint of kind {name} has no {naming} naming")


def _by_folder(kind: Checkpoint, keys: Iterable[str]) -> dict[str, list[str]]:
    """Folder -> keys in reading order; a pair's experts have folders of their own."""
    found: dict[str, list[str]] = {}
    for key in sorted(keys, key=_natural):
        inside = kind.folders[key.split("/")[0]] if kind.folders else ""
        found.setdefault(inside, []).append(key)
    return found


def _natural(key: str) -> list[Any]:
    """Numbers count as numbers: block 2 comes before block 10."""
    return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", key)]


def _begin(
    folder: Path,
    stem: str,
    inside: str,
    keys: list[str],
    specs: Mapping[str, Spec],
    shard_bytes: int,
    content: Mapping[str, Any] | None,
) -> dict[str, tuple[SafetensorsWriter, str]]:
    """Creates the files of one folder; key -> (its file, its name there)."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[list[str]] = [[]]
    size = 0
    for key in keys:
        if shards[-1] and size + specs[key].nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(key)
        size += specs[key].nbytes
    strip = (lambda key: key.split("/", 1)[1]) if inside else (lambda key: key)
    where, weight_map = {}, {}
    for number, shard in enumerate(shards, 1):
        part = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        file = f"{stem}{part}.safetensors"
        writer = SafetensorsWriter(folder / file, {strip(key): specs[key] for key in shard})
        where |= {key: (writer, strip(key)) for key in shard}
        weight_map |= {strip(key): file for key in shard}
    if len(shards) > 1:
        total = sum(specs[key].nbytes for key in keys)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        _write_json(folder / f"{stem}.safetensors.index.json", index)
    if content is not None:
        _write_json(folder / "config.json", content)
    return where


def _write(
    where: Mapping[str, tuple[SafetensorsWriter, str]],
    tensors: Iterable[tuple[str, np.ndarray]],
    total: int,
    progress: Progress | None,
) -> None:
    done = 0
    with contextlib.ExitStack() as stack:
        for writer in {id(writer): writer for writer, _ in where.values()}.values():
            stack.callback(writer.close)
        for key, array in tensors:
            writer, inside = where[key]
            writer.write(inside, array)
            done += array.nbytes
            if progress is not None:
                progress(done, total)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
