"""Values that readers stumble over, and trees with some of them inside (hypothesis)."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.codecs import Codec, places

NUMBERS = (
    0, -1, 1, 2, 3, 255, 256, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63),
    10**30, 10**400, -0.0, 0.5, -1.5, 1e-320, 1e-30, 1e30, 1e38, 3.5e38, 1e308, float("nan"),
    float("inf"), float("-inf"), True, False,
)  # fmt: skip
TEXTS = (
    "", " ", "\0", "a\0b", "..", ".", "../x", "../../../etc/passwd", "/etc/passwd", "C:\\x", "~",
    "a/b", "a\\b", "\ud800", "é", "𝕏", "\u202e", "\n", "\r\n", ",", '"', "'", "-1", "1e999", "nan",
    "x" * 300, "x" * 30_000, "%s%d", "{0}", "[", "０", "²", "1_0", "None", "float32", "O", "|O8",
)  # fmt: skip
_DTYPES = ("<f2", "<f4", ">f4", "<f8", "i1", "<i8", "u1", "<u2", "?", "<U3", "S3", "O", "<c8",
           "<M8[s]", "V3")  # fmt: skip
_FILLS = (0, 1, -1, 2, 1e30, float("nan"), float("inf"), 3)


def _deep(depth: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value} if kind is dict else (value,)
    return value


def _wide(depth: int) -> list:
    """Small, and held so often by itself that going through it never ends."""
    value: list = [1.0]
    for _ in range(depth):
        value = [value, value]
    return value


@st.composite
def arrays(draw) -> np.ndarray:
    """Small arrays of many types, with values that are often wrong."""
    dtype, fill = np.dtype(draw(st.sampled_from(_DTYPES))), draw(st.sampled_from(_FILLS))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=5)))
    array = np.zeros(shape, dtype)
    with np.errstate(all="ignore"):
        if dtype.kind in "fiub":
            array = np.full(shape, fill, np.float64).astype(dtype)
        elif dtype.kind in "US":
            array = np.full(shape, "a", dtype)
    return array.copy(order="F") if draw(st.booleans()) else array


def leaves(pickled: bool = False) -> st.SearchStrategy:
    """Single values, and small containers; with what only pickles hold."""
    kinds = [
        st.sampled_from(NUMBERS),
        st.sampled_from(TEXTS),
        st.none(),
        st.text(max_size=20),
        st.integers(),
        st.floats(),
        st.sampled_from([[], {}, [[]], [{}], [None], [[1], [2, 3]], {"": 0}]),
        st.builds(_deep, st.sampled_from([2, 60, 100, 500]), st.sampled_from([list, dict])),
        st.lists(st.sampled_from(NUMBERS), max_size=4),
    ]
    if pickled:
        kinds += [arrays(), arrays(), st.binary(max_size=20), st.builds(_wide, st.just(40)),
                  st.builds(_deep, st.just(100), st.just(tuple))]  # fmt: skip
    return st.one_of(kinds)


@st.composite
def changed(draw, seeds: list[bytes], codec: Codec, pickled: bool) -> bytes:
    """A file whose tree is that of a whole one, but for a few places."""
    tree = copy.deepcopy(codec.decode(draw(st.sampled_from(seeds))))
    for _ in range(draw(st.integers(1, 3))):
        there = places(tree)
        if not there or draw(st.integers(0, 30)) == 0:
            tree = draw(leaves(pickled))
            break
        container, key = there[draw(st.integers(0, len(there) - 1))]
        how = draw(st.sampled_from(("value", "value", "value", "gone", "key", "grown", "near")))
        try:
            _change(draw, container, key, how, pickled)
        except (IndexError, KeyError):
            continue
    try:
        return codec.encode(tree)
    except Exception:  # a tree that cannot be written is no file
        return b""


def _change(draw, container: Any, key: Any, how: str, pickled: bool) -> None:
    value = container[key]
    if how == "gone":
        del container[key]
    elif how == "grown" and isinstance(container, list):
        container.insert(key, copy.deepcopy(draw(st.sampled_from(container))))
    elif how == "key" and isinstance(container, dict):
        container[draw(st.sampled_from((*TEXTS, key)))] = container.pop(key)
    elif how == "near" and isinstance(value, np.ndarray):
        container[key] = _near(draw, value)
    elif how == "near" and isinstance(value, int | float) and abs(value) < 1e300:
        container[key] = draw(
            st.sampled_from((value + 1, value - 1, -value, value * 1000, value / 3))
        )
    elif isinstance(value, bytes):
        container[key] = draw(st.one_of(st.binary(max_size=64), st.just(value[:-1])))
    else:
        container[key] = draw(leaves(pickled))


def _near(draw, array: np.ndarray) -> np.ndarray:
    """The same array with an axis more, fewer, turned or cut, of another type, or a wrong value."""
    how = draw(st.sampled_from(("turned", "more", "cut", "type", "value", "half")))
    if how == "turned":
        return array.T
    if how == "more":
        return array[None]
    if how == "cut" and array.ndim:
        return array[: draw(st.integers(0, len(array)))]
    if how == "half" and array.ndim:
        return array[..., :1]
    with np.errstate(all="ignore"):
        if how == "type" and array.dtype.kind in "fiub":
            return array.astype(draw(st.sampled_from(("f2", "f8", "i1", "u8", "?", ">f4"))))
        if array.dtype.kind in "fiu" and array.size:
            array = array.copy()
            flat = array.reshape(-1)
            at = draw(st.integers(0, array.size - 1))
            flat[at] = np.float64(draw(st.sampled_from(_FILLS))).astype(array.dtype)
            return flat.reshape(array.shape)
    return array
