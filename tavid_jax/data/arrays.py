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
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.data.clip import ClipError

_DAMAGED = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RecursionError,
    TypeError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip
_DTYPE = re.compile(r"[biufUSO]\d{1,4}")  # as numpy names them: f4, b1, U12, O8


class ArrayFileError(ClipError):
    """A file cannot be read as arrays; the message names the file and the reason."""


class ForbiddenContentError(ArrayFileError):
    """A pickled file holds more than arrays and plain values; the message names what."""


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an npz file; pickled ones are refused.

    Raises:
      ArrayFileError: absent, empty, damaged, no npz file, or an array of objects in it.
    """
    _check_there(path)
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("it is a bare npy array: name it .npy")
        with file:
            return {name: file[name] for name in file.files}
    except _DAMAGED as error:
        raise ArrayFileError(f"{path}: cannot be read as an npz file ({error})") from error


def read_npy(path: str | os.PathLike) -> Any:
    """What an npy file holds: an array, or the value that `np.save` pickled (a dict, mostly).

    Raises:
      ArrayFileError: absent, empty, damaged, no npy file.
      ForbiddenContentError: see `read_pickle`.
    """
    _check_there(path)
    try:
        with open(path, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            _, _, dtype = header(stream)
            if not dtype.hasobject:
                return np.load(path, allow_pickle=False)
            pickled = stream.read()
    except _DAMAGED as error:
        raise ArrayFileError(f"{path}: cannot be read as an npy file ({error})") from error
    value = _unpickled(path, pickled)
    whole = isinstance(value, np.ndarray) and value.dtype == object and value.shape == ()
    return value.item() if whole else value


def read_pickle(path: str | os.PathLike) -> Any:
    """What a pickle file holds: dicts, lists, tuples, numbers, text, bytes and numpy arrays.

    Raises:
      ArrayFileError: absent, empty or damaged.
      ForbiddenContentError: it names any other function or class.
    """
    _check_there(path)
    return _unpickled(path, Path(path).read_bytes())


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


def _unpickled(path: str | os.PathLike, data: bytes) -> Any:
    try:
        return _resolved(_Restricted(io.BytesIO(data)).load(), {})
    except ForbiddenContentError as error:
        raise ForbiddenContentError(
            f"{path}: refused, for it names {error}; of pickled files only numpy arrays, numbers, "
            "text, lists and dicts are read, since all else can run code. If you trust the file, "
            "save its arrays as npz"
        ) from error
    except _DAMAGED as error:
        what = f"{type(error).__name__}: {error}"
        raise ArrayFileError(f"{path}: the pickle in it is damaged ({what})") from error


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
    if not dtype.hasobject:
        flat = np.frombuffer(data, dtype).copy() if len(data) else np.zeros(0, dtype)
        return flat.reshape(shape, order=order)
    if not isinstance(data, list):  # anything else would be read as addresses
        raise TypeError("an array of objects that is no list")
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


def _resolved(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """The value with arrays in place of stand-ins.

    `done` is what was met before by its id: (it, what became of it). It is kept there, for the id
    of a value that is gone may be given to another.
    """
    if id(value) in done:
        return done[id(value)][1]
    new = value
    if isinstance(value, _Array):
        new = value.value
    elif isinstance(value, dict | list):
        new = type(value)()
    elif isinstance(value, tuple):
        new = tuple(_resolved(item, done) for item in value)
    elif isinstance(value, _Maker | _Dtype):
        raise ForbiddenContentError("a function or class as a value")
    done[id(value)] = value, new
    # Containers are filled after they are known, for they may hold themselves.
    if isinstance(value, dict):
        new.update({_key(key): _resolved(item, done) for key, item in value.items()})
    elif isinstance(value, list):
        new.extend(_resolved(item, done) for item in value)
    elif isinstance(new, np.ndarray) and new.dtype.hasobject:
        flat = new.ravel(order="K")  # a view: arrays made here are contiguous
        for place in range(len(flat)):
            flat[place] = _resolved(flat[place], done)
    return new


def _key(key: Any) -> Any:
    if isinstance(key, str | int | float | bytes | np.generic):
        return key
    raise TypeError(f"a {type(key).__name__} as a key")
