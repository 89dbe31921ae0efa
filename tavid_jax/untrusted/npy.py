"""numpy's files, read by our own header parser: what a header claims is held against the bytes.

`np.load` takes the memory that a header asks for before it looks whether the bytes are there, and
evaluates the header as Python. Here both are checked first, in npz archives member by member.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import UntrustedError

_MAGIC = b"\x93NUMPY"
_LONGEST = 10_000  # bytes of a header, as numpy's own readers have it
_ENTRY = re.compile(
    r"""\s*['"](?P<key>descr|fortran_order|shape)['"]\s*:\s*"""
    r"""(?P<value>['"][^'"\\]{1,40}['"]|True|False|\([\d,L\s]*\))\s*,?"""
)
_DTYPE = re.compile(r"[<>|=]?[?bhilqBHILQefdgFDGOSUVmMiufc]\d{0,9}(\[\w{1,8}\])?")
_DEFLATE = 1100  # times that deflate can shrink bytes at most (1032), and some room
_ROOM = 4096
_MOST_EMPTY = 2**20  # a side of an array that has no bytes


class Header(NamedTuple):
    """What stands before the bytes of an array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


def read_header(stream: Any) -> Header:
    """Reads the head of an npy file, up to the first byte of its array.

    Raises:
      UntrustedError: no such head, one of structured types, or one that is too long.
    """
    start = stream.read(8)
    if len(start) < 8 or start[:6] != _MAGIC:
        raise UntrustedError("is no npy file: it does not begin as one")
    version = start[6], start[7]
    if version not in ((1, 0), (2, 0)):
        raise UntrustedError(f"is an npy file of version {version[0]}.{version[1]}, known are 1, 2")
    width = 2 if version == (1, 0) else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > _LONGEST:
        raise UntrustedError(f"has an npy header of {length} bytes, {_LONGEST} at most are read")
    text = stream.read(length)
    if len(text) != length:
        raise UntrustedError("ends inside its npy header")
    return _parsed(text.decode("latin1"))


def _parsed(text: str) -> Header:
    body = text.strip()
    if not (body.startswith("{") and body.endswith("}")):
        raise UntrustedError("has a damaged npy header")
    body, place, found = body[1:-1], 0, {}
    while body[place:].strip():
        entry = _ENTRY.match(body, place)
        if not entry or entry["key"] in found:
            raise UntrustedError("has a damaged npy header, or an array of structures")
        found[entry["key"]] = entry["value"]
        place = entry.end()
    if len(found) != 3 or not found["shape"].startswith("("):
        raise UntrustedError("has an npy header without type, order or shape")
    descr = found["descr"].strip("'\"")
    if found["fortran_order"] not in ("True", "False") or not _DTYPE.fullmatch(descr):
        raise UntrustedError(f"has an array of an unknown type {descr[:20]!r}")
    try:
        sides = [part.strip().rstrip("L") for part in found["shape"][1:-1].split(",")]
        shape = tuple(int(side) for side in sides if side)
        dtype = np.dtype(descr)
    except (TypeError, ValueError) as error:
        raise UntrustedError(f"has a damaged npy header ({error})") from error
    return Header(shape, found["fortran_order"] == "True", dtype)


def check_shape(shape: tuple[int, ...], dtype: np.dtype, there: int) -> int:
    """Bytes of an array, which must be there.

    Args:
      shape, dtype: of it.
      there: bytes that there are.

    Raises:
      UntrustedError: fewer bytes, a negative side, or a shape that no array has.
    """
    if len(shape) > 32 or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise UntrustedError(f"claims an array of shape {_told(shape)}")
    count = math.prod(shape)
    if count * dtype.itemsize > there:
        raise UntrustedError(
            f"claims an array {dtype} {_told(shape)}, but has {there} bytes of it: it is cut off, "
            "or made to take memory"
        )
    if count * dtype.itemsize == 0 and (max(shape, default=0) > _MOST_EMPTY or count > _MOST_EMPTY):
        raise UntrustedError(f"claims an array without bytes of shape {_told(shape)}")
    limits.check("array_bytes", count * dtype.itemsize, "an array")
    return count * dtype.itemsize


def made_of(data: bytes | bytearray | np.ndarray, header: Header) -> np.ndarray:
    """The array of bytes whose number is right; a view of them if they can be written.

    Raises:
      UntrustedError: truth values that are neither 0 nor 1, or text that is none.
    """
    flat = np.frombuffer(data, header.dtype) if header.dtype.itemsize and len(data) else None
    if flat is None:
        flat = np.zeros(math.prod(header.shape), header.dtype)
    check_values(flat)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def check_values(array: np.ndarray) -> None:
    """Refuses values that numpy takes as they are and then stumbles over.

    Raises:
      UntrustedError: truth values that are neither 0 nor 1, or text that is none.
    """
    if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
        raise UntrustedError("holds truth values that are neither 0 nor 1")
    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        codes = array.reshape(-1).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if (codes > 0x10FFFF).any() or ((codes >= 0xD800) & (codes < 0xE000)).any():
            raise UntrustedError("holds an array of text with codes that are no characters")


def float32(array: np.ndarray) -> np.ndarray:
    """Numbers as float32; those beyond it become infinite, without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32)


def read_array(stream: Any, size: int) -> np.ndarray:
    """Reads one npy array that `size` bytes hold, head and all; pickled ones are refused.

    Raises:
      UntrustedError: see `read_header` and `check_shape`; an array of objects.
    """
    start = stream.tell()
    header = read_header(stream)
    if header.dtype.hasobject:
        raise UntrustedError("holds an array of objects, which are pickled: reading them could run "
                             "code; save it as numbers")  # fmt: skip
    count = check_shape(header.shape, header.dtype, size - (stream.tell() - start))
    data = bytearray(count)
    if _fill(stream, memoryview(data)) != count:
        raise UntrustedError("ends inside an array")
    return made_of(data, header)


def load_npy(path: str | os.PathLike) -> np.ndarray:
    """The array of an npy file.

    Raises:
      UntrustedError: see `read_array`.
      OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        return read_array(stream, os.fstat(stream.fileno()).st_size)


def load_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an npz file, by name.

    Raises:
      UntrustedError: no such archive, two arrays of one name, more bytes than a limit when
        unpacked, or see `read_array`.
      OSError, zipfile.BadZipFile and others: a damaged archive, see `errors.DAMAGED`.
    """
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        if file.read(6) == _MAGIC:
            raise UntrustedError("is a bare npy array, no npz: name it .npy")
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_members(members, size)
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise UntrustedError(f"holds two arrays of the name {name[:40]!r}")
            with archive.open(member) as stream:
                arrays[name] = _member(name, stream, member.file_size)
    return arrays


def _member(name: str, stream: Any, size: int) -> np.ndarray:
    try:
        array = read_array(_Counted(stream), size)
        if stream.read(1):  # reads up to the checksum too
            raise UntrustedError("has bytes behind its array")
        return array
    except UntrustedError as error:
        raise type(error)(f"array {name[:40]!r} {error}") from error


class _Counted:
    """A stream that knows its place, as those of archives do not before Python 3.12."""

    def __init__(self, stream: Any):
        self._stream, self._place = stream, 0

    def read(self, count: int) -> bytes:
        """Up to so many bytes."""
        data = self._stream.read(count)
        self._place += len(data)
        return data

    def tell(self) -> int:
        """Bytes that were read."""
        return self._place


def check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuses an archive that unpacks to more than it can, or may.

    Args:
      members: of the archive.
      size: of its file, bytes.

    Raises:
      UntrustedError: too many members, or more bytes than a limit or than deflate can pack.
    """
    limits.check("archive_members", len(members), "the archive")
    packed = [one for one in members if one.compress_type != zipfile.ZIP_STORED]
    limits.check("array_bytes", sum(member.file_size for member in packed), "its arrays, unpacked")
    for member in members:
        packed = member.compress_size
        stored = member.compress_type == zipfile.ZIP_STORED
        if packed > size or member.file_size > (packed if stored else packed * _DEFLATE + _ROOM):
            raise UntrustedError(
                f"member {member.filename[:40]!r} claims {member.file_size} bytes in {packed} of a "
                f"file of {size}: it is damaged, or made to take memory"
            )


def _fill(stream: Any, view: memoryview) -> int:
    """Reads into all of the view; how many bytes came."""
    place = 0
    while place < len(view):
        data = stream.read(min(1 << 22, len(view) - place))
        if not data:
            break
        view[place : place + len(data)] = data
        place += len(data)
    return place


def _told(shape: tuple) -> str:
    text = (
        str(shape) if all(abs(side) < 10**18 for side in shape if isinstance(side, int)) else "huge"
    )
    return text if len(text) <= 80 else f"{text[:77]}..."
