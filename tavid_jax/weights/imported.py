"""Checkpoints imported to disk: an Orbax folder and a record of what it came from.

    FOLDER/params/        an ordinary Orbax checkpoint of the nested parameters
    FOLDER/weights.json   kind, config, dtypes, source files, content hash

The folder is written beside its place and renamed into it: it is whole or not there.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tavid_jax import __version__
from tavid_jax.untrusted.errors import told
from tavid_jax.weights.identified import Identified, identify
from tavid_jax.weights.lazy import LazyArray, to_dtype
from tavid_jax.weights.orbax_io import restore_leaves, save_leaves, stored_leaves
from tavid_jax.weights.problems import WeightsError, raise_all
from tavid_jax.weights.registry import checkpoint_kind
from tavid_jax.weights.source import read_json
from tavid_jax.weights.table import nest, walk

RECORD = "weights.json"
PARAMS = "params"
# (bytes done, bytes in all)
Progress = Callable[[int, int], None]
Shardings = (
    jax.sharding.Sharding
    | Mapping[str, Any]
    | Callable[[str, jax.ShapeDtypeStruct], jax.sharding.Sharding]
)


def import_checkpoint(
    source: str | Path,
    folder: str | Path,
    *,
    name: str | None = None,
    config: Any = None,
    dtype: Any = "keep",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Converts a published checkpoint into an Orbax folder; one parameter at a time is in memory.

    Args:
      source: file, folder or `hf:` name, see `source`.
      folder: to be created; its parents are made.
      name: key of `CHECKPOINTS`; by default the keys tell.
      config: model config or preset; by default config.json or the shapes tell.
      dtype: of all parameters, "bf16", "f32", a numpy dtype, or "keep" for the checkpoint's.
      progress: called with the bytes read and the bytes in all.

    Returns:
      The record, as written to weights.json.

    Raises:
      WeightsError: `folder` exists, the checkpoint is unusable, or the disk is too small. Nothing
        is left behind then, nor by an interrupt.
    """
    folder = Path(folder).expanduser()
    _check_absent(folder)
    found = identify(source, name, config)
    if progress is not None:
        tensors = _counted(found.source.tensors, found.source.nbytes, progress)
        found = dataclasses.replace(
            found, source=dataclasses.replace(found.source, tensors=tensors)
        )
    leaves = found.plan(dtype)
    with whole_or_absent(folder, sum(leaf.nbytes for leaf in leaves.values())) as part:
        digest = _Digest()
        save_leaves(part / PARAMS, leaves, digest.add)
        record = json.dumps(_record(found, leaves, digest.text()), indent=2)
        (part / RECORD).write_text(f"{record}\n", encoding="utf-8")
    return read_record(folder)


def restore(folder: str | Path, shardings: Shardings | None = None, dtype: Any = None) -> dict:
    """The parameters of an imported folder, each read straight into its place.

    Args:
      folder: written by `import_checkpoint`.
      shardings: one for all, a nested dict like the parameters', or a function of path and
        `ShapeDtypeStruct`; every host reads its own part only. None: the default device.
      dtype: None or "keep" for the stored ones.

    Raises:
      WeightsError: not such a folder, damaged, or shardings that do not fit the parameters.
    """
    folder = Path(folder).expanduser()
    read_record(folder)
    stored = _described(folder)
    place = _placer(shardings, stored)
    chosen = to_dtype("keep" if dtype is None else dtype)
    wanted = {
        path: jax.ShapeDtypeStruct(leaf.shape, chosen or leaf.dtype, sharding=place(path, leaf))
        for path, leaf in stored.items()
    }
    return nest(_restored(folder, wanted))


def imported_leaves(folder: Path) -> dict[str, LazyArray]:
    """Path -> parameter of an imported folder, read as numpy when asked for."""

    def leaf(path: str, spec: jax.ShapeDtypeStruct) -> LazyArray:
        return LazyArray(spec.shape, spec.dtype, lambda: _restored(folder, {path: spec})[path])

    return {path: leaf(path, spec) for path, spec in _described(folder).items()}


def is_imported(folder: str | Path) -> bool:
    """Whether this is the name of a folder that `import_checkpoint` wrote."""
    return (Path(folder).expanduser() / RECORD).is_file()


def read_record(folder: Path) -> dict[str, Any]:
    """Content of weights.json; WeightsError where there is none."""
    if not is_imported(folder):
        raise WeightsError(f"{folder} holds no {RECORD}: it is no imported checkpoint")
    record = read_json(folder / RECORD)
    missing = [name for name in ("kind", "config", "preset") if name not in record]
    raise_all({"missing": missing}, f"{folder / RECORD} is no record of an import", "")
    return record


def recorded_config(record: Mapping[str, Any]) -> Any:
    """The model config of a record; WeightsError where it is none."""
    try:
        kind = checkpoint_kind(str(record["kind"])).config
        return _config_of(kind, record["config"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{RECORD} is no record of an import ({told(error)})") from error


def _config_of(kind: type, content: Mapping[str, Any]) -> Any:
    """The inverse of `dataclasses.asdict`, for configs that may hold configs."""
    parts = {field.name: field.type for field in dataclasses.fields(kind)}
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    fields |= {k: _config_of(parts[k], v) for k, v in content.items() if isinstance(v, Mapping)}
    return kind(**fields)


@contextlib.contextmanager
def whole_or_absent(folder: Path, nbytes: int) -> Iterator[Path]:
    """A folder to write to, which becomes `folder` at the end and vanishes on any error."""
    _check_absent(folder)
    part = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        part.mkdir()
        free = shutil.disk_usage(part).free
        if free < nbytes:
            raise WeightsError(f"{folder} needs {for_people(nbytes)}, {for_people(free)} are free")
        yield part
        _check_absent(folder)
        os.replace(part, folder)
    except (OSError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{folder} cannot be written ({_reason(error)})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def for_people(nbytes: int) -> str:
    """For people: "11.14 GB", "52.43 MB", "0.26 kB"."""
    unit, name = next((u for u in ((1e9, "GB"), (1e6, "MB")) if nbytes >= u[0]), (1e3, "kB"))
    return f"{nbytes / unit:.2f} {name}"


def _check_absent(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} exists already; remove it or choose another place")


class _Digest:
    """A hash of paths, shapes, dtypes and values: names the weights wherever they came from."""

    def __init__(self):
        self._hash = hashlib.sha256()

    def add(self, path: str, array: np.ndarray) -> None:
        self._hash.update(f"{path} {array.dtype}{array.shape} ".encode())
        self._hash.update(array.reshape(-1).view(np.uint8))

    def text(self) -> str:
        return self._hash.hexdigest()[:12]


def _counted(
    tensors: Mapping[str, LazyArray], total: int, progress: Progress
) -> dict[str, LazyArray]:
    """The tensors, whose reading is reported."""
    done = 0

    def counted(tensor: LazyArray) -> LazyArray:
        def read() -> np.ndarray:
            nonlocal done
            array = tensor.read()
            done += tensor.nbytes
            progress(done, total)
            return array

        return dataclasses.replace(tensor, read=read)

    return {key: counted(tensor) for key, tensor in tensors.items()}


def _record(found: Identified, leaves: Mapping[str, LazyArray], digest: str) -> dict[str, Any]:
    files = found.source.files
    root = os.path.commonpath([file.parent for file in files])
    return {
        "kind": found.name,
        "preset": found.preset,
        "config": dataclasses.asdict(found.config),
        "source": found.source.name,
        "files": [{"name": os.path.relpath(f, root), "bytes": f.stat().st_size} for f in files],
        "tensors": len(found.source.tensors),
        "parameters": sum(leaf.size for leaf in leaves.values()),
        "bytes": sum(leaf.nbytes for leaf in leaves.values()),
        "dtypes": sorted({str(leaf.dtype) for leaf in leaves.values()}),
        "weights": digest,
        "tavid_jax": __version__,
    }


def _described(folder: Path) -> dict[str, jax.ShapeDtypeStruct]:
    with _damage_named(folder):
        return stored_leaves(folder / PARAMS)


def _restored(folder: Path, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    with _damage_named(folder, lambda: f"{[*wanted, 'the end'][len(arrays)]}: "):
        for path, array in restore_leaves(folder / PARAMS, wanted):
            if not isinstance(array, jax.Array | np.ndarray) or array.shape != wanted[path].shape:
                raise ValueError("is not the array that was described")
            arrays[path] = array
    return arrays


@contextlib.contextmanager
def _damage_named(folder: Path, where: Callable[[], str] = str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a damaged file makes Orbax raise
        raise WeightsError(
            f"{folder} is damaged ({where()}{_reason(error)}); import it again"
        ) from error


def _placer(
    shardings: Shardings | None, stored: Mapping[str, jax.ShapeDtypeStruct]
) -> Callable[[str, Any], jax.sharding.Sharding]:
    if shardings is None:
        shardings = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    if isinstance(shardings, jax.sharding.Sharding):
        one = shardings
        return lambda path, leaf: one
    if isinstance(shardings, Mapping):
        flat = dict(walk(shardings))
        problems = {
            "parameters without a sharding": [path for path in stored if path not in flat],
            "shardings without a parameter": [path for path in flat if path not in stored],
        }
        raise_all(problems, "the shardings do not fit these parameters", "check the paths")
        return lambda path, leaf: flat[path]
    return shardings


def _reason(error: Exception) -> str:
    """What happened, in one line: the storage layer wraps it in pages of its own settings."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split(" See full TensorStore")[0][:300]
