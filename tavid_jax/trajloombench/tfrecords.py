"""Byte strings out of TFRecord files of tf.train.Example, without TensorFlow.

A file is a row of (u64 length, u32 checksum, data, u32 checksum); an Example is a protocol buffer:
map<string, Feature> in field 1 of field 1, a Feature's bytes list is its field 1.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from tavid_jax.trajloombench.protocol import BenchError

_LENGTH, _CHECKSUM = 8, 4
_WIDTHS = {1: 8, 5: 4}  # of wire types with a fixed size


def read_examples(path: str | os.PathLike) -> Iterator[dict[str, list[bytes]]]:
    """The byte lists of every example of a file, by key; numbers are passed over.

    Raises:
      BenchError: a file that ends early, or holds something else.
    """
    with open(path, "rb") as stream:
        number, size = 0, os.fstat(stream.fileno()).st_size
        while head := stream.read(_LENGTH + _CHECKSUM):
            try:
                (length,) = struct.unpack_from("<Q", head)
                if length > size:
                    raise ValueError("it claims more bytes than the file has")
                data = stream.read(length)
                if len(data) != length or len(stream.read(_CHECKSUM)) != _CHECKSUM:
                    raise ValueError("it ends early")
                yield _byte_lists(data)
            except (struct.error, ValueError, IndexError, OverflowError, MemoryError) as error:
                raise BenchError(f"{path}: record {number} is no tf.train.Example: {error}") from (
                    error
                )
            number += 1


def _byte_lists(example: bytes) -> dict[str, list[bytes]]:
    found = {}
    for features in _fields(example, 1):
        for entry in _fields(features, 1):
            (key,) = _fields(entry, 1)
            found[key.decode()] = [
                item
                for feature in _fields(entry, 2)
                for items in _fields(feature, 1)
                for item in _fields(items, 1)
            ]
    return found


def _fields(message: bytes, wanted: int) -> list[bytes]:
    """Contents of all length-delimited fields of that number."""
    found, place = [], 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            _, place = _varint(message, place)
            continue
        length, place = (
            (_WIDTHS[wire], place) if wire in _WIDTHS else _delimited(message, place, wire)
        )
        if place + length > len(message):
            raise ValueError("a field is longer than its message")
        if number == wanted and wire == 2:
            found.append(message[place : place + length])
        place += length
    return found


def _delimited(message: bytes, place: int, wire: int) -> tuple[int, int]:
    if wire != 2:
        raise ValueError(f"wire type {wire}")
    return _varint(message, place)


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """(value, place behind it)."""
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
