"""The safetensors format: 8 bytes of header length, a JSON header, the tensors' bytes.

Read and written here tensor by tensor with plain reads and writes at offsets: a memory map would
count every page it has touched as ours, and whole-file writers need all tensors at once.
"""

import json
import os
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import UntrustedError, reading
from tavid_jax.untrusted.npy import check_shape
from tavid_jax.untrusted.texts import parse_json
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.problems import WeightsError

_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I16": np.dtype(np.int16),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_METADATA = "__metadata__"


def read_safetensors(path: Path) -> dict[str, LazyArray]:
    """The tensors of a file, key -> array that is read when asked for.

    Raises:
      WeightsError: the file is cut off, longer than its header says, or not of this format; names
        the file, the expected and the actual size.
    """
    path = Path(path)
    header, start = _header(path)
    tensors, end, spans = {}, start, []
    there = path.stat().st_size - start
    for key, entry in header.items():
        if key == _METADATA:
            continue
        try:
            shape, (first, last) = tuple(entry["shape"]), entry["data_offsets"]
            dtype, matches = _DTYPES.get(entry["dtype"]), True
            if dtype is not None:
                check_shape(shape, dtype, max(there, last))  # before anything is multiplied
                matches = type(first) is type(last) is int and 0 <= first <= last
                matches = matches and last - first == prod(shape) * dtype.itemsize
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{path}: damaged safetensors header at {key!r:.80}") from error
        if dtype is None:
            raise WeightsError(
                f"{path}: {key:.80} has dtype {entry['dtype']!r:.80}, which is not supported"
            )
        if not matches:
            raise WeightsError(f"{path}: damaged safetensors header at {key!r}: sizes disagree")
        tensors[key] = _tensor(path, shape, dtype, start + first)
        end = max(end, start + last)
        spans += [(first, last)] if last > first else []
    _check_size(path, end)
    spans.sort()
    if any(after[0] < before[1] for before, after in zip(spans, spans[1:], strict=False)):
        raise WeightsError(f"{path}: damaged safetensors header: tensors share bytes")
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """The strings that the writer left in the header."""
    found = _header(Path(path))[0].get(_METADATA, {})
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise WeightsError(f"{path}: damaged safetensors header: its metadata are no texts")
    return found


class SafetensorsWriter:
    """Writes one file tensor by tensor, in any order.

    Args:
      path: the file, replaced if there.
      specs: key -> anything with `.shape` and `.dtype`; all of them must be written.
      metadata: strings for the header.
    """

    def __init__(
        self, path: Path, specs: Mapping[str, Any], metadata: Mapping[str, str] | None = None
    ):
        self._offsets, header, at = {}, {_METADATA: {"format": "pt", **(metadata or {})}}, 0
        for key, spec in specs.items():
            dtype = np.dtype(spec.dtype)
            if dtype not in _NAMES:
                raise WeightsError(f"{path}: {key} has dtype {dtype}, unknown to safetensors")
            size = prod(spec.shape) * dtype.itemsize
            header[key] = {
                "dtype": _NAMES[dtype],
                "shape": list(spec.shape),
                "data_offsets": [at, at + size],
            }
            self._offsets[key] = (at, size)
            at += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
        self._start = 8 + len(text)
        self._file = open(path, "wb", buffering=0)
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.truncate(self._start + at)

    def write(self, key: str, array: np.ndarray) -> None:
        """Write one tensor; it has the shape and dtype that were announced."""
        offset, size = self._offsets.pop(key)
        if array.nbytes != size:
            raise ValueError(f"{key} has {array.nbytes} bytes, {size} were announced")
        data = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        while data:
            written = os.pwrite(self._file.fileno(), data, self._start + offset)
            data, offset = data[written:], offset + written

    def close(self) -> None:
        """Flush to disk; ValueError if a tensor was announced and not written."""
        os.fsync(self._file.fileno())
        self._file.close()
        if self._offsets:
            raise ValueError(f"not written: {list(self._offsets)[:5]}")


def write_safetensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write numpy arrays as one file, whole or not at all."""
    part = Path(f"{path}.partial")
    try:
        writer = SafetensorsWriter(part, tensors, metadata)
        _write_all(writer, tensors.items())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write_all(writer: SafetensorsWriter, items: Iterable[tuple[str, np.ndarray]]) -> None:
    for key, array in items:
        writer.write(key, array)
    writer.close()


def _tensor(path: Path, shape: tuple[int, ...], dtype: np.dtype, offset: int) -> LazyArray:
    def read() -> np.ndarray:
        array = np.fromfile(path, dtype, count=prod(shape), offset=offset)
        if array.size != prod(shape):
            raise WeightsError(f"{path} became shorter while it was read")
        return array.reshape(shape)

    return LazyArray(shape, dtype, read)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header and the position of the first tensor."""
    with reading(path, WeightsError, "a safetensors file"):
        size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length < 2:
            raise WeightsError(f"{path}: damaged safetensors file (no header in {size} bytes)")
        _check_size(path, 8 + length, exactly=False)
        try:
            limits.check("header_bytes", length, "its header")
            header = parse_json(file.read(length))
        except UntrustedError as error:
            raise WeightsError(f"{path}: damaged safetensors header ({error})") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: damaged safetensors header (not a table)")
    return header, 8 + length


def _check_size(path: Path, expected: int, exactly: bool = True) -> None:
    actual = path.stat().st_size
    if actual < expected:
        raise WeightsError(
            f"{path} is cut off: {actual} bytes, its header announces "
            f"{'' if exactly else 'at least '}{expected}; download or copy it again"
        )
    if exactly and actual > expected:
        raise WeightsError(
            f"{path} is damaged: {actual} bytes, its header announces {expected}; "
            "download or copy it again"
        )
