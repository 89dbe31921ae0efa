"""Reading checkpoint files, and finding the tensors inside what a training script saved."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.weights.table import WeightsError, to_numpy

# Wrappers that prefix every key: data parallelism, torch.compile.
WRAPPERS = ("module.", "_orig_mod.")


def read_state_dict(path: str | Path, containers: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """float32 tensors of a `.safetensors` or `.pt`/`.pth`/`.bin` file, wrappers removed.

    Args:
      path: the file. `.pt` needs PyTorch and is read with `weights_only=True`: no code in the
        file is run.
      containers: dict keys under which the tensors may be stored, in order of preference.

    Raises:
      WeightsError: no such file, an unknown kind, a damaged file, or no tensors in it.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no checkpoint at {path}")
    readers = {".safetensors": _read_safetensors, ".pt": _read_torch, ".pth": _read_torch}
    reader = readers.get(path.suffix) or (_read_torch if path.suffix == ".bin" else None)
    if reader is None:
        raise WeightsError(f"{path}: unknown kind of checkpoint; expected .safetensors or .pt")
    return {name: to_numpy(t) for name, t in unwrap(reader(path), containers, path).items()}


def unwrap(saved: Any, containers: Sequence[str] = (), origin: Any = "checkpoint") -> dict:
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
    return {_strip(name): tensor for name, tensor in saved.items()}


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _strip(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name[len(next(w for w in WRAPPERS if name.startswith(w))) :]
    return name


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="flax") as file:  # JAX arrays: numpy has no bfloat16
            return {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged safetensors file ({error})") from error


def _read_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{path}: reading this file needs PyTorch (pip install tavid_jax[convert]); "
            "a .safetensors file needs nothing"
        ) from error
    import pickle

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise WeightsError(f"{path}: not readable as tensors only ({error})") from error
