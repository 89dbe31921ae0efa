"""Checkpoint files, and finding the tensors inside what a training script saved."""

import mmap
import pickletools
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import reading, told
from tavid_jax.weights.lazy import LazyArray, as_lazy
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.safetensors import read_safetensors
from tavid_jax.weights.torch_pickle import UnknownContent
from tavid_jax.weights.torch_zip import is_torch_zip, read_torch_zip

# What may stand before every key: data parallelism, torch.compile, repackaged diffusion models.
WRAPPERS = ("module.", "_orig_mod.", "model.diffusion_model.")

# Pickles of a file of before PyTorch 1.6: a magic number, a version, facts, tensors, storages.
_OLD_PICKLES = 5
_PROTO = 0x80

TORCH_SUFFIXES = (".pt", ".pth", ".bin")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)


def read_file(path: str | Path, containers: Sequence[str] = ()) -> dict[str, LazyArray]:
    """The tensors of one file, wrappers removed; each is read when asked for.

    Args:
      path: a `.safetensors`, `.pt`, `.pth` or `.bin` file. The last three are read as tensors
        only: no code in the file is run. Those of before PyTorch 1.6, and those with objects
        besides tensors and plain values, need PyTorch.
      containers: dict keys under which the tensors may be stored, in order of preference.

    Raises:
      WeightsError: no such file, an unknown kind, a damaged file, or no tensors in it.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no checkpoint at {path}")
    if path.suffix == ".safetensors":
        return unwrap(read_safetensors(path), (), path)
    if path.suffix in TORCH_SUFFIXES:
        return unwrap(read_torch(path), containers, path)
    raise WeightsError(
        f"{path}: unknown kind of checkpoint; expected a folder or {', '.join(SUFFIXES)}"
    )


def read_beside(path: str | Path) -> Mapping[str, Any]:
    """The dict that a training script saved in a `.pt` file, its tensors as `read_file` has them.

    {} for a file of tensors alone. Raises WeightsError as `read_file` does.
    """
    path = Path(path)
    saved = read_torch(path) if path.suffix in TORCH_SUFFIXES else {}
    return saved if isinstance(saved, Mapping) else {}


def unwrap(
    saved: Any, containers: Sequence[str] = (), origin: Any = "checkpoint"
) -> dict[str, LazyArray]:
    """The flat dict of tensors inside `saved`, with prefixes of wrappers removed."""
    if isinstance(saved, Mapping):
        for name in containers:
            if isinstance(saved.get(name), Mapping):
                saved = saved[name]
                break
    if not isinstance(saved, Mapping) or not saved or not all(map(_is_tensor, saved.values())):
        found = list(saved)[:8] if isinstance(saved, Mapping) else type(saved).__name__
        raise WeightsError(
            f"{origin}: no flat dict of tensors, neither at the top nor under "
            f"{list(containers)}; found {found}"
        )
    return {strip_wrappers(name): as_lazy(tensor) for name, tensor in saved.items()}


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def strip_wrappers(name: str) -> str:
    """A key without what wrappers put before it."""
    while name.startswith(WRAPPERS):
        name = name[len(next(w for w in WRAPPERS if name.startswith(w))) :]
    return name


def read_torch(path: str | Path) -> Any:
    """What a `.pt` file holds: dicts, lists and plain values, with tensors in them.

    No code in the file is run.

    Raises:
      WeightsError: no such file, a damaged one, objects besides tensors and plain values, or
        PyTorch is needed and not there (see `read_file`).
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no file at {path}")
    if not is_torch_zip(path):
        _check_old(path)
        return _read_with_torch(path, "it is no zip archive, as such files are since PyTorch 1.6")
    try:
        return read_torch_zip(path)
    except UnknownContent as error:  # perhaps PyTorch knows it, and that it is harmless
        return _read_with_torch(path, f"it holds {error}")


def _check_old(path: Path) -> None:
    """Before PyTorch 1.6 such files were rows of pickles; all else is not given to PyTorch."""
    with reading(path, WeightsError, "a checkpoint"):
        limits.check("array_bytes", path.stat().st_size, "its size")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as row:
            if row[0] != _PROTO:
                raise ValueError("it does not begin as one")
            for _ in range(_OLD_PICKLES):  # a text that is longer than the file is an error of this
                for opcode, argument, _ in pickletools.genops(row):
                    if opcode.name in ("LONG_BINPUT", "PUT") and argument > len(row):
                        raise ValueError("it asks for a memory beyond its own size")
    except Exception as error:  # of many kinds, for damaged bytes
        raise WeightsError(
            f"{path}: damaged, neither a zip archive nor a row of pickles, as such files were "
            f"before PyTorch 1.6 ({path.stat().st_size} bytes; {told(error)})"
        ) from error


def _read_with_torch(path: Path, why: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{path}: reading this file needs PyTorch, because {why} (pip install "
            "tavid_jax[convert]); a .safetensors file needs nothing"
        ) from error
    try:
        with warnings.catch_warnings():  # of old protocols
            warnings.simplefilter("ignore")
            # A zip can be mapped, so that tensors are read when they are used.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_torch_zip(path))
    except Exception as error:  # whatever damaged bytes make the unpickler do
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named or "Unsupported" in str(error):
            raise WeightsError(
                f"{path}: refused, because it is not readable as tensors only: it holds a Python "
                f"object ({named[1] if named else 'of an unknown kind'}), and loading that could "
                "run code from the file. Ask its author for .safetensors; or, if you trust it, "
                "keep the tensors alone: torch.save(torch.load(FILE, weights_only=False)[KEY], "
                "NEW), where KEY holds them"
            ) from error
        raise WeightsError(
            f"{path}: damaged, not readable as tensors only "
            f"({path.stat().st_size} bytes; {_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
