"""PyTorch's `.pth` files, read and written without PyTorch.

Since version 1.6 they are zip archives that are not compressed: `data.pkl` says which tensors
there are, `data/N` are the bytes of storage N. So tensors can be read alone, at their offset.
"""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import DAMAGED, told
from tavid_jax.untrusted.npy import check_members
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.torch_pickle import (
    Plain,
    Stored,
    UnknownContent,
    read_pickle,
    write_pickle,
)

_MAGIC = b"PK\x03\x04"
_LOCAL_HEADER = 30
_PICKLE = "data.pkl"
_ROOT = "archive"
# As PyTorch writes it: storages can be mapped, and equal content is equal bytes.
_ALIGNMENT = 64
_FORMAT_VERSION = b"3\n"
_DATE = (1980, 1, 1, 0, 0, 0)
_AGAIN = "download or copy it again"


def is_torch_zip(path: str | Path) -> bool:
    """Whether a file begins like a zip archive, be it whole or not."""
    with Path(path).open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_torch_zip(path: str | Path) -> Any:
    """What `torch.save` wrote, tensors as arrays that are read when asked for.

    Returns:
      Most often a dict of tensors; dicts, lists, tuples and plain values around it are kept.

    Raises:
      UnknownContent: it holds objects that are neither tensors nor plain values.
      WeightsError: damaged or cut off.
    """
    path = Path(path)
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            check_members(archive.infolist(), size)
            root = _root(archive)
            if f"{root}byteorder" in archive.NameToInfo:
                order = archive.read(_plain(archive, f"{root}byteorder")).decode().strip()
                if order != "little":
                    raise UnknownContent(f"{order}-endian numbers")

            def tensor(stored: Stored) -> LazyArray:
                info = _plain(archive, f"{root}data/{stored.key}")
                return _lazy(path, stored, _position(file, info, stored))

            content = _plain(archive, f"{root}{_PICKLE}")
            limits.check("pickle_bytes", content.file_size, "its pickle")
            return read_pickle(archive.read(content), tensor)
    except WeightsError:
        raise
    except DAMAGED as error:
        raise WeightsError(
            f"{path}: damaged, no whole .pth file ({size} bytes; {told(error)}); {_AGAIN}"
        ) from error


def _root(archive: zipfile.ZipFile) -> str:
    """The folder inside the archive, "archive/" or the name that the file once had."""
    found = [name for name in archive.namelist() if name.split("/")[1:] == [_PICKLE]]
    if len(found) != 1:
        raise ValueError(f"{len(found)} files {_PICKLE} in it")
    return found[0].removesuffix(_PICKLE)


def _plain(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A record whose bytes lie in the file as they are."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"{name} is compressed or encrypted")
    if info.header_offset < 0:
        raise ValueError(f"{name} does not begin where it should")
    return info


def _position(file: Any, info: zipfile.ZipInfo, stored: Stored) -> int:
    """Where a storage begins in the file."""
    if info.file_size != stored.size * stored.dtype.itemsize:
        raise ValueError(f"{info.filename} has {info.file_size} bytes for {stored.size} elements")
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    if not header.startswith(_MAGIC):
        raise ValueError(f"{info.filename} does not begin where it should")
    names, extras = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return info.header_offset + _LOCAL_HEADER + names + extras


def _lazy(path: Path, stored: Stored, position: int) -> LazyArray:
    dtype = stored.dtype
    strides = tuple(step * dtype.itemsize for step in stored.strides)

    def read() -> np.ndarray:
        at = position + stored.offset * dtype.itemsize
        flat = np.fromfile(path, dtype, count=stored.span, offset=at)
        if flat.size != stored.span:
            raise WeightsError(f"{path} became shorter while it was read")
        if not flat.size:
            return np.empty(stored.shape, dtype)
        return np.asarray(np.ndarray(stored.shape, dtype, flat, strides=strides), order="C")

    return LazyArray(stored.shape, dtype, read)


def write_torch_zip(path: str | Path, values: Mapping[str, np.ndarray | Plain]) -> None:
    """Writes a dict of tensors that `torch.load` reads, whole or not at all; equal ones alike.

    Args:
      path: the file, replaced if there.
      values: key -> numpy array, float32, float16, bfloat16, float64, an integer or bool; or a
        string, a number, a bool or None.

    Raises:
      WeightsError: a dtype that PyTorch's files do not have, or another kind of value.
      OSError: it cannot be written.
    """
    path = Path(path)
    try:
        content = write_pickle(values)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    arrays = [value for value in values.values() if isinstance(value, np.ndarray)]
    storages = {
        f"data/{number}": np.asarray(array, order="C").tobytes
        for number, array in enumerate(arrays)
    }
    records: dict[str, Callable[[], bytes]] = {
        _PICKLE: lambda: content,
        "byteorder": lambda: b"little",
        **storages,
        "version": lambda: _FORMAT_VERSION,
    }
    part = Path(f"{path}.partial")
    try:
        with part.open("wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, data in records.items():
                    archive.writestr(_entry(f"{_ROOT}/{name}", file.tell()), data())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _entry(name: str, position: int) -> zipfile.ZipInfo:
    """The header of a record whose bytes then begin at a multiple of the alignment."""
    info = zipfile.ZipInfo(name, _DATE)
    info.create_system = 0
    padding = -(position + _LOCAL_HEADER + len(name) + 4) % _ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    return info
