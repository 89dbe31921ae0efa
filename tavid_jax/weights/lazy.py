"""Arrays that are read from disk when they are asked for, and their dtypes."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from tavid_jax.weights.problems import WeightsError

# What `dtype=` accepts, besides any floating numpy dtype.
DTYPES = {
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "f16": np.dtype(np.float16),
    "float16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "float32": np.dtype(np.float32),
}
KEEP = "keep"


@dataclass(frozen=True, eq=False)
class Spec:
    """Shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class LazyArray(Spec):
    """An array on disk: its shape and dtype are known, its values are read by `read()`.

    Nothing is cached: each `read` reads again.
    """

    read: Callable[[], np.ndarray]


def as_lazy(tensor: Any) -> LazyArray:
    """A numpy, JAX, PyTorch or lazy array as a lazy one (of the same dtype)."""
    if isinstance(tensor, LazyArray):
        return tensor
    if hasattr(tensor, "qvalue"):
        raise WeightsError(
            "a parameter is kept in 8 bits: widen all with quantised.dequantise, or take them "
            "from where they were loaded"
        )
    if hasattr(tensor, "detach"):  # PyTorch
        return LazyArray(tuple(tensor.shape), _torch_dtype(tensor), lambda: _from_torch(tensor))
    return LazyArray(tuple(tensor.shape), np.dtype(tensor.dtype), lambda: np.asarray(tensor))


def to_dtype(name: Any) -> np.dtype | None:
    """The dtype that `name` ("bf16", "f32", np.float32, ...) means; None for "keep"."""
    if isinstance(name, str) and name == KEEP:
        return None
    if isinstance(name, str) and name in DTYPES:
        return DTYPES[name]
    try:
        dtype = np.dtype(name)
    except TypeError:
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise WeightsError(f"no dtype {name!r}; known: {', '.join([KEEP, *DTYPES])}")
    return dtype


def common_dtype(dtypes: list[np.dtype]) -> np.dtype:
    """The dtype of a stack of tensors: theirs, or float32 where they differ.

    float64, which no accelerator of ours computes in, becomes float32.
    """
    first = dtypes[0]
    if first == np.float64 or any(dtype != first for dtype in dtypes):
        return np.dtype(np.float32)
    return first


def _torch_dtype(tensor: Any) -> np.dtype:
    name = str(tensor.dtype).removeprefix("torch.")
    return np.dtype(jnp.dtype(name))


def _from_torch(tensor: Any) -> np.ndarray:
    import torch

    dtype, tensor = _torch_dtype(tensor), tensor.detach().cpu()
    if dtype.isbuiltin == 1:
        return tensor.numpy()
    bits = torch.int16 if dtype.itemsize == 2 else torch.uint8  # numpy knows no such float
    return tensor.contiguous().view(bits).numpy().view(dtype)
