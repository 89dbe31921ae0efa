"""Examples on disk: dicts of arrays and words in an ArrayRecord file, written whole or not at all.

A record is a little-endian u32 length, that many bytes of JSON (per key: dtype, shape and place of
an array, or the plain value), then the raw buffers, each at a multiple of 64 bytes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shutil
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tavid_jax import places
from tavid_jax.untrusted.errors import UntrustedError, told
from tavid_jax.untrusted.npy import check_shape, check_values
from tavid_jax.untrusted.texts import parse_json, read_json

Example = dict[str, Any]  # str -> np.ndarray | str | int | float | bool

_DATA, _META = "examples.array_record", "meta.json"
_ALIGN = 64


class RecordError(ValueError):
    """Stored examples cannot be used; the message names the folder or the record."""


def encode(example: Mapping[str, Any]) -> bytes:
    """Packs arrays (numeric or bool, also bfloat16) and plain values (str, int, float, bool).

    Raises:
      RecordError: a value of another type, naming its key.
    """
    head, buffers, place = {}, [], 0
    for key, value in example.items():
        if isinstance(value, str | bool | int | float) and not isinstance(value, np.generic):
            head[key] = {"value": value}
            continue
        if not isinstance(value, np.ndarray | np.generic):
            raise RecordError(f"record key {key!r}: cannot store a {type(value).__name__}")
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        if array.dtype.kind not in "biufc" and array.dtype.name not in _EXTENDED:
            raise RecordError(f"record key {key!r}: cannot store an array of {array.dtype}")
        buffer = array.tobytes()
        head[key] = {"dtype": array.dtype.name, "shape": array.shape, "at": place}
        buffers.append(buffer + bytes(-len(buffer) % _ALIGN))
        place += len(buffers[-1])
    text = json.dumps(head).encode()
    text += b" " * (-(len(text) + 4) % _ALIGN)
    return b"".join([struct.pack("<I", len(text)), text, *buffers])


def decode(record: bytes) -> Example:
    """Unpacks what `encode` packed; arrays are read-only views of the record.

    Raises:
      RecordError: bytes that `encode` did not write.
    """
    try:
        (length,) = struct.unpack_from("<I", record)
        head = parse_json(record[4 : 4 + length])
        return {key: _value(record, 4 + length, entry) for key, entry in head.items()}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"broken record of {len(record)} bytes: {told(error)}") from error


class RecordWriter:
    """Writes examples into `folder`, which appears when the context ends without an error.

    Until then everything lies in a hidden folder beside it; an older `folder` is replaced. Of a
    folder in a bucket that happens to its local copy, whose `meta.json` is sent last.

      with RecordWriter(folder, {"config": "1a2b"}) as writer:
        writer.write({"id": "scene-0", "history": latents})

    Args:
      folder: becomes `examples.array_record` and `meta.json`.
      meta: JSON-able facts that the examples depend on (fingerprint, provenance).
    """

    def __init__(self, folder: str | os.PathLike, meta: Mapping[str, Any] | None = None):
        self.folder = places.place(folder)
        self._local = places.copy_of(self.folder)
        self.meta = dict(meta or {})
        self.count = 0
        self._partial = self._local.with_name(f".{self.folder.name}.{os.getpid()}.part")
        self._writer = None

    def __enter__(self) -> RecordWriter:
        from array_record.python.array_record_module import ArrayRecordWriter

        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        # One record a group: shuffled reads then decompress nothing but what they want.
        self._writer = ArrayRecordWriter(str(self._partial / _DATA), "group_size:1")
        return self

    def write(self, example: Mapping[str, Any]) -> None:
        """Appends one example (see `encode`).

        Raises:
          RecordError: a value that cannot be stored.
          OSError: the disk does not take it; maybe only when the context ends.
        """
        if self._writer is None:
            raise RecordError(f"{self.folder}: write inside `with RecordWriter(...) as writer`")
        packed = encode(example)
        with self._of_the_disk():
            self._writer.write(packed)
        self.count += 1

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        writer, self._writer = self._writer, None
        try:
            with self._of_the_disk() if kind is None else contextlib.suppress(RuntimeError):
                writer.close()
            if kind is None:
                self._publish()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    @contextlib.contextmanager
    def _of_the_disk(self) -> Iterator[None]:
        """The C++ writer tells what the system said in words alone."""
        try:
            yield
        except RuntimeError as error:
            codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
            code = next((c for c in codes if os.strerror(c) in str(error)), errno.EIO)
            raise OSError(code, os.strerror(code), str(self.folder)) from error

    def _publish(self) -> None:
        size = (self._partial / _DATA).stat().st_size
        facts = {"count": self.count, "bytes": size, "meta": self.meta}
        (self._partial / _META).write_text(json.dumps(facts, indent=1, sort_keys=True))
        for name in (_DATA, _META):
            with open(self._partial / name, "rb") as stream:
                os.fsync(stream.fileno())
        if self._local.exists():
            shutil.rmtree(self._local)
        os.replace(self._partial, self._local)
        places.push(self.folder, last=_META)


def is_finished(folder: places.Place) -> bool:
    """Whether a `RecordWriter` has ended without an error."""
    return (folder / _META).exists()


class RecordSource:
    """Random access to the examples of a folder; picklable and safe under threads.

    ArrayRecord files are read where they lie, but those of a bucket from a local copy.

    Attributes:
      name: name of the folder.
      folder: where the examples lie.
      meta: what the writer said about them.

    Args:
      folder: written by `RecordWriter`.
      expect: facts that `meta` must hold with the same values; None = any.

    Raises:
      RecordError: absent, incomplete or truncated, or made from other facts (which are listed).
    """

    def __init__(self, folder: str | os.PathLike, expect: Mapping[str, Any] | None = None):
        self.folder = places.place(folder)
        self.name = self.folder.name
        try:
            local = places.pull(self.folder)
            facts = read_json(local / _META)
            count, size, self.meta = facts["count"], facts["bytes"], facts["meta"]
            if type(count) is not int or type(size) is not int or not isinstance(self.meta, dict):
                raise UntrustedError("is none of examples")
        except FileNotFoundError as error:
            raise RecordError(f"{folder}: holds no finished examples; write them first") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordError(
                f"{folder}: {_META} is broken ({told(error)}); delete the folder"
            ) from error
        data = local / _DATA
        found = data.stat().st_size if data.exists() else 0
        if found != size:
            raise RecordError(
                f"{data}: holds {found} bytes of {size} that were written; delete the folder"
            )
        self._check(expect or {})
        self._count = count
        self._open()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        """Example `index`; arrays are read-only."""
        index = range(self._count)[index]
        try:
            return decode(self._records[index])
        except (RecordError, RuntimeError) as error:
            raise RecordError(
                f"{self.folder}: example {index} cannot be read ({error}); delete the folder and "
                "run the same command again, which makes it anew"
            ) from error

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_records"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        import grain

        try:
            self._records = grain.sources.ArrayRecordDataSource(
                str(places.copy_of(self.folder) / _DATA)
            )
        except RuntimeError as error:  # of the C++ reader
            raise RecordError(
                f"{self.folder}: {_DATA} is broken, delete the folder: {error}"
            ) from error
        if len(self._records) != self._count:
            raise RecordError(
                f"{self.folder}: holds {len(self._records)} of {self._count} examples"
            )

    def _check(self, expect: Mapping[str, Any]) -> None:
        wrong = [key for key, value in expect.items() if self.meta.get(key) != _plain(value)]
        if wrong:
            pairs = "; ".join(
                f"{key}: stored {self.meta.get(key)!r}, wanted {expect[key]!r}" for key in wrong
            )
            raise RecordError(f"{self.folder}: made from other facts ({pairs}); delete the folder")


_EXTENDED = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
_NAME = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)")


def _plain(value: Any) -> Any:
    """A value as JSON gives it back (tuples as lists)."""
    return json.loads(json.dumps(value))


def dtype_named(name: str) -> np.dtype:
    """A type by the name that numpy and ml_dtypes give it, such as "bfloat16"."""
    if name in _EXTENDED:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UntrustedError(f"{name!r:.60} is no type of numbers")
    return np.dtype(name)


def _value(record: bytes, start: int, entry: dict) -> Any:
    if "value" in entry:
        return entry["value"]
    dtype, shape, at = dtype_named(entry["dtype"]), tuple(entry["shape"]), start + entry["at"]
    if not start <= at <= len(record):
        raise UntrustedError(f"an array begins at byte {at} of {len(record)}")
    check_shape(shape, dtype, len(record) - at)
    count = math.prod(shape)
    array = np.frombuffer(record, dtype, count, offset=at) if count else np.zeros(0, dtype)
    check_values(array)
    return array.reshape(shape)
