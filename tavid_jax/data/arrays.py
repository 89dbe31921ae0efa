"""Arrays and plain values out of npz, npy and pickle files; nothing that they hold is run.

A pickle is a program: reading one with Python's own unpickler lets it call any function. Here it
may name only the few of which numpy's arrays and scalars consist, and what it gets in their place
are stand-ins that fill plain arrays of numbers or text; all else is refused by its name.
"""

from __future__ import annotations

import io
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.data.clip import ClipError
from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import DAMAGED, LimitError, UntrustedError, reading, told
from tavid_jax.untrusted.npy import check_shape, check_values, load_npz, read_array, read_header
from tavid_jax.untrusted.pickles import check_pickle

_DTYPE = re.compile(r"[biufUSO]\d{1,4}")  # as numpy names them: f4, b1, U12, O8


class ArrayFileError(ClipError):
    """A file cannot be read as arrays; the message names the file and the reason."""


class ForbiddenContentError(ArrayFileError):
    """A pickled file holds more than arrays and plain values; the message names what."""


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an npz file; pickled ones are refused.

    Raises:
      ArrayFileError: absent, empty, damaged, no npz file, an array of objects in it, or larger
        than a limit when unpacked.
    """
    _check_there(path)
    with reading(path, ArrayFileError, "an npz file"):
        return load_npz(path)


def read_npy(path: str | os.PathLike) -> Any:
    """What an npy file holds: an array, or the value that `np.save` pickled (a dict, mostly).

    Raises:
      ArrayFileError: absent, empty, damaged, no npy file, or larger than a limit.
      ForbiddenContentError: see `read_pickle`.
    """
    _check_there(path)
    with reading(path, ArrayFileError, "an npy file"), open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if not read_header(stream).dtype.hasobject:
            stream.seek(0)
            return read_array(stream, size)
        limits.check("pickle_bytes", size, "the pickle")
        pickled = stream.read()
    value = unpickled(path, pickled)
    whole = isinstance(value, np.ndarray) and value.dtype == object and value.shape == ()
    return value.item() if whole else value


def read_pickle(path: str | os.PathLike) -> Any:
    """What a pickle file holds: dicts, lists, tuples, numbers, text, bytes and numpy arrays.

    Raises:
      ArrayFileError: absent, empty, damaged, or larger than a limit.
      ForbiddenContentError: it names any other function or class.
    """
    _check_there(path)
    with reading(path, ArrayFileError, "a pickle"):
        limits.check("pickle_bytes", Path(path).stat().st_size, "the pickle")
        data = Path(path).read_bytes()
    return unpickled(path, data)


def npy_bytes(value: Any) -> bytes:
    """An npy file of an array, or of a value that is pickled into it, as `np.save` writes it."""
    stream = io.BytesIO()
    np.save(stream, value)
    return stream.getvalue()


def _check_there(path: str | os.PathLike) -> None:
    if not Path(path).is_file():
        raise ArrayFileError(f"{path}: no such file")
    if Path(path).stat().st_size == 0:
        raise ArrayFileError(f"{path}: file is empty")


def unpickled(path: str | os.PathLike, data: bytes) -> Any:
    """What a pickle holds, see `read_pickle`; `path` is where it comes from, for errors."""
    try:
        check_pickle(data)
        held = _Restricted(io.BytesIO(data)).load()
        return _Resolver().resolved(held)
    except ForbiddenContentError as error:
        raise ForbiddenContentError(
            f"{path}: refused, for it names {error}; of pickled files only numpy arrays, numbers, "
            "text, lists and dicts are read, since all else can run code. If you trust the file, "
            "save its arrays as npz"
        ) from error
    except LimitError as error:
        raise ArrayFileError(f"{path}: {error}") from error
    except DAMAGED as error:
        raise ArrayFileError(f"{path}: the pickle in it is damaged ({told(error)})") from error


class _Restricted(pickle.Unpickler):
    """Gives out stand-ins only, new ones for every file."""

    def __init__(self, stream: io.BytesIO):
        super().__init__(stream)
        array, scalar, buffer = _Maker(_Array), _Maker(_scalar), _Maker(_from_buffer)
        self._known = {
            "numpy.ndarray": _Maker(None),
            "numpy.dtype": _Maker(_Dtype),
            "_codecs.encode": _Maker(_encode),
            "collections.OrderedDict": _Maker(dict),
            "__builtin__.bytes": _Maker(lambda: b""),  # how old pickles spell no bytes
        }
        for core in ("numpy.core", "numpy._core"):
            self._known[f"{core}.multiarray._reconstruct"] = array
            self._known[f"{core}.multiarray.scalar"] = scalar
            self._known[f"{core}.numeric._frombuffer"] = buffer

    def find_class(self, module: str, name: str) -> _Maker:
        """The stand-in of a function or class."""
        if f"{module}.{name}" not in self._known:
            raise ForbiddenContentError(f"{module}.{name}")
        return self._known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Any:
        """References to objects outside: there are none."""
        raise ForbiddenContentError(f"an object outside of it ({pid!r})")


class _Maker:
    """What the pickle gets for a function: it can be called, and nothing else."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable | None):
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        if self._make is None:
            raise TypeError("numpy.ndarray is called")
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a function is changed")


class _Dtype:
    """numpy.dtype, of numbers, text and lists of objects only."""

    __slots__ = ("dtype",)

    def __init__(self, text: str, *_: Any):
        if not _DTYPE.fullmatch(text):
            raise ForbiddenContentError(f"a numpy dtype {text!r}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        _, order, *parts = state[:5]
        if any(part is not None for part in parts):
            raise ForbiddenContentError("a numpy dtype with fields")
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """numpy.ndarray, made empty and then filled."""

    __slots__ = ("value",)

    def __init__(self, *_: Any):
        self.value = np.zeros(0)

    def __setstate__(self, state: tuple) -> None:
        shape, kind, fortran, data = state[-4:]
        self.value = _filled(data, kind, shape, "F" if fortran else "C")


def _filled(data: Any, kind: Any, shape: tuple, order: str) -> np.ndarray:
    dtype = _dtype(kind)
    if not isinstance(shape, tuple):
        raise TypeError(f"a shape that is a {type(shape).__name__}")
    if not dtype.hasobject:
        if check_shape(shape, dtype, len(data)) != len(data):
            raise UntrustedError(f"has {len(data)} bytes of an array {dtype} {shape}")
        flat = np.frombuffer(data, dtype).copy() if len(data) else np.zeros(shape, dtype)
        check_values(flat)
        return flat.reshape(shape, order=order)
    if not isinstance(data, list):  # anything else would be read as addresses
        raise TypeError("an array of objects that is no list")
    check_shape(shape, np.dtype(np.int8), len(data))
    flat = np.empty(len(data), object)
    for place, item in enumerate(data):
        flat[place] = item
    return flat.reshape(shape, order=order)


def _from_buffer(data: Any, kind: Any, shape: tuple, order: str, *_: Any) -> _Array:
    if _dtype(kind).hasobject:
        raise TypeError("a buffer of objects")
    array = _Array()
    array.value = _filled(data, kind, shape, "F" if order == "F" else "C")
    return array


def _scalar(kind: Any, data: Any) -> np.generic:
    if _dtype(kind).hasobject:
        raise TypeError("a scalar object")
    return np.frombuffer(data, _dtype(kind), count=1)[0]


def _dtype(kind: Any) -> np.dtype:
    if not isinstance(kind, _Dtype):
        raise TypeError(f"a {type(kind).__name__} where a dtype is due")
    return kind.dtype


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"text in {encoding!r}")
    return text.encode("latin1")


class _Resolver:
    """Puts arrays in place of stand-ins, and counts.

    A list that is held twice is one object, but whoever goes through the value meets it twice:
    thirty lists, each holding the one before twice, are a thousand million values.
    """

    def __init__(self):
        # What was met before by its id: (it, what became of it, values in it). It is kept there,
        # for the id of a value that is gone may be given to another.
        self._done: dict[int, tuple[Any, Any, int]] = {}
        self._depth = 0

    def resolved(self, value: Any) -> Any:
        """The value with arrays in place of stand-ins."""
        new, count = self._of(value)
        limits.check("pickle_values", count, "its values")
        return new

    def _of(self, value: Any) -> tuple[Any, int]:
        if isinstance(value, str):
            value.encode()  # half a pair of UTF-16 cannot be
        if isinstance(value, str | int | float | bytes | bool | None) or id(value) in self._done:
            known = self._done.get(id(value), (value, value, 1))
            return known[1], known[2]
        if isinstance(value, _Maker | _Dtype):
            raise ForbiddenContentError("a function or class as a value")
        self._depth += 1
        limits.check("json_depth", self._depth, "its nesting")
        new, count = self._made(value)
        self._depth -= 1
        limits.check("pickle_values", count, "its values")
        self._done[id(value)] = value, new, count
        return new, count

    def _made(self, value: Any) -> tuple[Any, int]:
        new = value.value if isinstance(value, _Array) else value
        if isinstance(value, dict | list):
            new = type(value)()
            # Containers are filled after they are known, for they may hold themselves.
            self._done[id(value)] = value, new, 1
        if isinstance(value, dict):
            parts = {_key(key): self._of(item) for key, item in value.items()}
            new.update((key, part) for key, (part, _) in parts.items())
            return new, 1 + sum(count for _, count in parts.values())
        if isinstance(value, list | tuple):
            parts = [self._of(item) for item in value]
            whole = [part for part, _ in parts]
            new = tuple(whole) if isinstance(value, tuple) else new
            if isinstance(value, list):
                new.extend(whole)
            return new, 1 + sum(count for _, count in parts)
        if isinstance(new, np.ndarray) and new.dtype.hasobject:
            flat, total = new.ravel(order="K"), 1  # a view: arrays made here are contiguous
            self._done[id(value)] = value, new, 1
            for place in range(len(flat)):
                flat[place], count = self._of(flat[place])
                total += count
            return new, total
        return new, 1


def _key(key: Any) -> Any:
    if isinstance(key, str):
        key.encode()
    if isinstance(key, str | int | float | bytes | np.generic):
        return key
    raise TypeError(f"a {type(key).__name__} as a key")
