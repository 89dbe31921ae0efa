"""Changes of bytes, for the run that is led by what they reach."""

from __future__ import annotations

import copy
import random
import re
from typing import Any

from tests.fuzz.codecs import CODECS, Codec, places
from tests.fuzz.nasty import NUMBERS, TEXTS

_WORDS = (
    b"PK\x03\x04", b"PK\x01\x02", b"\x93NUMPY", b"\x80\x04", b"\x80\x02", b".", b"(", b"c", b"R",
    b"cos\nsystem\n", b"\x8c\x02os\x94\x8c\x06system\x94\x93", b"{", b"}", b"[", b"]", b'"', b"NaN",
    b"-Infinity", b"1e999", b"\\ud800", b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"..", b"/", b"\\", b",", b":", b"'", b"|O", b"<f8",
    b"(1000000000000,)", b"True", b"\r\n", b"\xef\xbb\xbf", b"#EXTM3U\n", b"ffconcat version 1.0\n",
)  # fmt: skip
_LARGEST = 200_000  # bytes of an input


def mutated(rng: random.Random, data: bytes, other: bytes, codec: Codec) -> bytes:
    """A changed copy.

    Args:
      rng: of the run.
      data: to change.
      other: another input, parts of which may come in.
      codec: of the reader: sometimes what is inside of the file is changed.
    """
    if rng.random() < 0.4:
        inside = _inside(rng, data, codec)
        if inside is not None:
            return inside[:_LARGEST]
    for _ in range(1 << rng.randrange(4)):
        data = rng.choice(_WAYS)(rng, data, other)
    return data[:_LARGEST]


def _inside(rng: random.Random, data: bytes, codec: Codec) -> bytes | None:
    """None where the bytes are not whole, or cannot be written again."""
    try:
        if codec is CODECS["zip"] or codec is CODECS["npz"]:
            return _member(rng, data)
        tree = codec.decode(data)
        if isinstance(tree, bytes | str):
            return None
        for _ in range(rng.randrange(1, 4)):
            there = places(tree)
            container, key = rng.choice(there)
            value = container[key]
            if isinstance(value, bytes):
                container[key] = rng.choice(_WAYS)(rng, value, value)
            elif rng.random() < 0.2:
                del container[key]
            elif rng.random() < 0.2:
                container[key] = copy.deepcopy(rng.choice(there)[0])
            else:
                container[key] = rng.choice(NUMBERS if rng.random() < 0.6 else TEXTS)
        return codec.encode(tree)
    except Exception:  # of any codec, for bytes that are no longer whole
        return None


def _member(rng: random.Random, data: bytes) -> bytes:
    """An archive with a changed member, whose checksum is right."""
    tree: dict[str, Any] = CODECS["zip"].decode(data)
    name = rng.choice(list(tree))
    value = tree[name]
    if rng.random() < 0.15:
        tree[rng.choice(TEXTS) or "x"] = tree.pop(name)
    elif value[:6] == b"\x93NUMPY" and rng.random() < 0.6:
        tree[name] = _header(rng, value)
    else:
        tree[name] = rng.choice(_WAYS)(rng, value, rng.choice(list(tree.values())))
    packed = CODECS["zip"].encode(tree)
    if rng.random() < 0.15:  # sizes in the directory at the end that are not the members'
        at = packed.rfind(b"PK\x01\x02") + rng.choice((20, 24, 42))
        size = rng.choice((0, 1, 2**31, 2**32 - 1, rng.randrange(2**32)))
        packed = packed[:at] + size.to_bytes(4, "little") + packed[at + 4 :]
    return packed


def _header(rng: random.Random, array: bytes) -> bytes:
    """Another shape or type in the head of an npy file, whose length is kept right."""
    length = int.from_bytes(array[8:10], "little")
    head, rest = array[10 : 10 + length], array[10 + length :]
    sides = ", ".join(str(rng.choice((0, 1, 2, 3, 9, 10**6, 10**12, -1))) for _ in range(3))
    if rng.random() < 0.5:
        head = re.sub(rb"\(.*?\)", f"({sides},)".encode(), head)
    else:
        kind = rng.choice((b"<f4", b"<f8", b"|b1", b"|O", b"<U9", b"<i8", b"|V8", b"<U0", b"c16"))
        head = re.sub(rb"'descr': '[^']*'", b"'descr': '" + kind + b"'", head)
    return array[:8] + len(head).to_bytes(2, "little") + head + rest


# --- ways to change bytes: (rng, data, other) -> data


def _flip(rng: random.Random, data: bytes, other: bytes) -> bytes:
    if not data:
        return b"\x00"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _byte(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _cut(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.randrange(1, 2 + len(data) // 4) :]


def _end(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _twice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    part = data[start : start + rng.randrange(1, 64)]
    return data[:start] + part * rng.choice((2, 2, 3, 50)) + data[start:]


def _word(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at, word = rng.randrange(len(data) + 1), rng.choice(_WORDS)
    return data[:at] + word + data[at + rng.choice((0, len(word))) :]


def _number(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A number in digits, or in bytes, becomes another one."""
    found = list(re.finditer(rb"\d+(\.\d+)?", data[:20_000]))
    if found and rng.random() < 0.6:
        one = rng.choice(found)
        return data[: one.start()] + repr(rng.choice(NUMBERS)).encode() + data[one.end() :]
    width, at = rng.choice((1, 2, 4, 8)), rng.randrange(len(data) + 1)
    value = rng.choice((0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1, rng.randrange(256)))
    value = value.to_bytes(width, rng.choice(("little", "big")))
    return data[:at] + value + data[at + width :]


def _splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, from_ = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    return data[:start] + other[from_ : from_ + rng.randrange(1, 256)] + data[start:]


_WAYS = (_flip, _flip, _byte, _cut, _end, _twice, _word, _number, _number, _splice)
