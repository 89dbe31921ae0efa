"""Masks as run lengths, the COCO way, and text squeezed the lz-string way, in which some are kept.

Run lengths count pixels down the columns, from left to right: first those outside, then those
inside, and so on. As a string each number is a row of characters of six bits (from "0" on), five
bits a character with the lowest first; the sixth says that more follow, the highest of the five is
the sign. From the third number on it is the difference to the number two before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from tavid_jax.data.clip import ClipError
from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import told

_LONGEST = 60  # bits of a number
_URI = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-$"


def decode_rle(rle: Mapping[str, Any]) -> Bool[np.ndarray, "h w"]:
    """A mask of `size` [h, w] and `counts`, a list or a string.

    Raises:
      ClipError: counts that do not add up to the size, or no counts.
    """
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        if min(height, width) < 1:
            raise ValueError(f"a mask of {width}x{height}")
        limits.check("frame_pixels", height * width, "a mask")
        counts = _numbers(counts) if isinstance(counts, str | bytes) else [int(n) for n in counts]
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ClipError(f"run lengths cannot be read ({told(error)})") from error
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise ClipError(
            f"run lengths add up to {sum(counts)} pixels, a mask of {width}x{height} has "
            f"{height * width}"
        )
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def _numbers(text: str | bytes) -> list[int]:
    text = text.decode("ascii") if isinstance(text, bytes) else text
    numbers, place = [], 0
    while place < len(text):
        number, shift, more = 0, 0, True
        while more:
            if shift > _LONGEST:
                raise ValueError("a number of more than 60 bits")
            code = ord(text[place]) - 48
            if not 0 <= code < 64:
                raise ValueError(f"character {text[place]!r}")
            number |= (code & 31) << shift
            more, shift, place = bool(code & 32), shift + 5, place + 1
        if code & 16:
            number -= 1 << shift
        numbers.append(number + (numbers[-2] if len(numbers) > 2 else 0))
    return numbers


def unsqueeze(text: str) -> str:
    """The text that lz-string's compressToEncodedURIComponent made this from.

    Raises:
      ClipError: it is none.
    """
    try:
        codes = [_URI.index(char) for char in text.replace(" ", "+")]
        return _expand(_Bits([(code >> bit) & 1 for code in codes for bit in range(5, -1, -1)]))
    except (ValueError, IndexError) as error:
        raise ClipError(f"squeezed text of {len(text)} characters is broken") from error


class _Bits:
    """Numbers from a row of bits, the lowest bit of each first."""

    def __init__(self, bits: list[int]):
        self._bits, self._place = bits, 0

    def take(self, count: int) -> int:
        """The next number of so many bits; IndexError at the end."""
        bits = self._bits[self._place : self._place + count]
        if len(bits) < count:
            raise IndexError("the text ends early")
        self._place += count
        return sum(bit << place for place, bit in enumerate(bits))


_CHAR, _WIDE_CHAR, _END = 0, 1, 2  # codes that are no entries of the dictionary


def _expand(bits: _Bits) -> str:
    """Lempel, Ziv and Welch with codes that widen as the dictionary grows."""
    entries: list[str] = ["", "", ""]  # places of the three codes above
    code = bits.take(2)
    if code == _END:
        return ""
    before = _character(bits, code)
    entries.append(before)
    written, width, room = [before], 3, 4  # entries that still fit into codes of this width
    length = len(before)
    while (code := bits.take(width)) != _END:
        if code in (_CHAR, _WIDE_CHAR):
            entries.append(_character(bits, code))
            code, room = len(entries) - 1, room - 1
            width, room = (width, room) if room else (width + 1, 1 << width)
        if code > len(entries):
            raise ValueError(f"no entry {code}")
        entry = before + before[0] if code == len(entries) else entries[code]
        length += len(entry)
        limits.check("text_bytes", length, "squeezed text")
        written.append(entry)
        entries.append(before + entry[0])
        before, room = entry, room - 1
        width, room = (width, room) if room else (width + 1, 1 << width)
    return "".join(written)


def _character(bits: _Bits, code: int) -> str:
    if code not in (_CHAR, _WIDE_CHAR):
        raise ValueError(f"no character {code}")
    return chr(bits.take(8 if code == _CHAR else 16))
