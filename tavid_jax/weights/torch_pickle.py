"""The pickle inside a `.pth`: which tensors there are and where their bytes lie, without PyTorch.

A pickle is a program. This one is not run by Python's unpickler: a small interpreter knows the
opcodes and the few functions of which a state dict consists, and stops at all others.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

DTYPES = {
    "torch BoolStorage": np.dtype(np.bool_),
    "torch ByteStorage": np.dtype(np.uint8),
    "torch CharStorage": np.dtype(np.int8),
    "torch ShortStorage": np.dtype(np.int16),
    "torch IntStorage": np.dtype(np.int32),
    "torch LongStorage": np.dtype(np.int64),
    "torch HalfStorage": np.dtype(np.float16),
    "torch FloatStorage": np.dtype(np.float32),
    "torch DoubleStorage": np.dtype(np.float64),
    "torch BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
}
_STORAGES = {dtype: name for name, dtype in DTYPES.items()}
_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_EXPANDED = 2**24  # elements that a smaller storage may stand for
_SIDE = 2**40
_KNOWN = (*DTYPES, _DICT, _TENSOR, _PARAMETER)


class UnknownContent(Exception):
    """The pickle holds more than plain values and tensors; the message names what."""


@dataclass(frozen=True)
class Stored:
    """A tensor: elements of one storage.

    Attributes:
      key: of the storage, its file in the archive.
      dtype: of the elements.
      size: elements of the whole storage.
      offset: of the tensor's first element.
      shape, strides: of the tensor, the latter in elements.
    """

    key: str
    dtype: np.dtype
    size: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self):
        numbers = self.size, self.offset, *self.shape, *self.strides
        if not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise ValueError(f"storage {self.key!r}: sizes and strides must not be negative")
        if len(self.shape) != len(self.strides) or self.offset + self.span > self.size:
            raise ValueError(f"storage {self.key!r} is smaller than a tensor in it")
        # One element may stand for many (an expanded tensor): that takes memory out of proportion.
        if prod(self.shape) > max(self.size, _EXPANDED) or max(self.shape, default=0) > _SIDE:
            raise ValueError(f"storage {self.key!r} is far smaller than a tensor in it")

    @property
    def span(self) -> int:
        """Elements from the first to the last, both included."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True)
class _Global:
    """A function or class that the pickle names, "module name"."""

    name: str


def read_pickle(data: bytes, tensor: Callable[[Stored], Any]) -> Any:
    """What a `data.pkl` holds: dicts, lists, tuples and plain values, with tensors in them.

    Args:
      data: the pickle.
      tensor: makes the leaf of each tensor.

    Raises:
      UnknownContent: it names an object that is none of these, or uses an opcode that none needs.
      ValueError: damaged.
    """
    try:
        return _Machine(tensor).run(data)
    except (AttributeError, IndexError, KeyError, TypeError, Warning, struct.error) as error:
        raise ValueError(f"damaged pickle ({type(error).__name__}: {error})") from error


# Opcodes that push their argument as it is, or a constant.
_ARGUMENTS = frozenset(
    "BININT BININT1 BININT2 INT LONG LONG1 LONG4 BINFLOAT FLOAT BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 UNICODE BINSTRING SHORT_BINSTRING STRING BINBYTES SHORT_BINBYTES".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = ("PROTO", "FRAME")


class _Machine:
    """The stack, the marks in it, and the memory of a pickle that is being read."""

    def __init__(self, tensor: Callable[[Stored], Any]):
        self._tensor = tensor
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memory: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """The value that is left at the end."""
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            if name in _ARGUMENTS:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name in _EMPTY:
                self._stack.append(_EMPTY[name]())
            elif name in _TUPLES:
                self._stack.append(tuple(self._pop(_TUPLES[name])))
            elif name not in _NOTHING:
                self._special(name, argument)
        raise ValueError("damaged pickle (no end)")

    def _special(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "MARK":
            self._marks.append(len(stack))
        elif name in ("TUPLE", "LIST"):
            items = self._marked()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name == "DICT":
            stack.append(_pairs(self._marked()))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if name == "SETITEM" else self._marked()
            _of(dict, stack[-1]).update(_pairs(items))
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._marked()
            _of(list, stack[-1]).extend(items)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memory[len(self._memory) if argument is None else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memory[argument])
        else:
            self._object(name, argument)

    def _object(self, name: str, argument: Any) -> None:
        """What would be an object of some class in Python."""
        stack = self._stack
        if name == "GLOBAL":
            stack.append(_named(argument))
        elif name == "STACK_GLOBAL":
            stack.append(_named(" ".join(self._pop(2))))
        elif name == "BINPERSID":
            stack.append(_of(tuple, stack.pop()))  # what is known of a storage
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            stack.append(self._call(_of(_Global, function).name, _of(tuple, arguments)))
        elif name == "BUILD":
            stack.pop()  # versions of modules
            _of(dict, stack[-1])
        else:
            raise UnknownContent(f"opcode {name}")

    def _call(self, name: str, arguments: tuple) -> Any:
        if name == _DICT:
            return _table(*arguments)
        if name == _PARAMETER:
            return arguments[0]
        if name != _TENSOR:
            raise ValueError(f"damaged pickle ({name} is called)")
        (what, kind, key, _, size), offset, shape, strides = arguments[:4]
        if what != "storage":
            raise UnknownContent(f"a reference to a {what}")
        dtype = DTYPES[_of(_Global, kind).name]
        shape, strides = _of(tuple, shape), _of(tuple, strides)
        return self._tensor(Stored(_of(str, key), dtype, size, offset, shape, strides))

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("the stack is empty")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _marked(self) -> list[Any]:
        at = self._marks.pop()
        items = self._stack[at:]
        del self._stack[at:]
        return items


def _named(name: str) -> _Global:
    if name not in _KNOWN:
        raise UnknownContent(name.replace(" ", "."))
    return _Global(name)


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} where a {kind.__name__} is due")
    return value


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return _table(zip(items[::2], items[1::2], strict=True))


def _table(items: Any = ()) -> dict[Any, Any]:
    """A dict with plain keys: tuples in tuples, as keys, would overflow the stack of C."""
    pairs = list(items.items() if isinstance(items, dict) else items)
    for key, _ in pairs:
        if not isinstance(key, str | int | float | bytes | None):
            raise TypeError(f"a {type(key).__name__} as a key")
    return dict(pairs)


# --- writing


Plain = str | int | float | bool | None


def write_pickle(content: Mapping[str, np.ndarray | Plain]) -> bytes:
    """The pickle of a dict of tensors and plain values; the n-th tensor is all of storage "n".

    Raises:
      ValueError: a dtype that PyTorch has no storage for, or another kind of value.
    """
    parts, number = [b"\x80\x02", _global(_DICT), b")R("], 0
    for name, value in content.items():
        parts.append(_text(name))
        if not isinstance(value, np.ndarray):
            parts.append(_plain(name, value))
            continue
        parts.append(_tensor(name, value, number))
        number += 1
    return b"".join([*parts, b"u."])


def _tensor(name: str, array: np.ndarray, number: int) -> bytes:
    if array.dtype not in _STORAGES:
        raise ValueError(f"{name} has dtype {array.dtype}, unknown to PyTorch's files")
    storage = _text("storage") + _global(_STORAGES[array.dtype]) + _text(str(number))
    storage = b"(" + storage + _text("cpu") + _integer(array.size) + b"tQ"
    strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
    place = _integer(0) + _integers(array.shape) + _integers(strides)
    hooks = _global(_DICT) + b")R"
    return _global(_TENSOR) + b"(" + storage + place + b"\x89" + hooks + b"tR"


def _plain(name: str, value: Plain) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int) and abs(value) < 2**63:
        return _integer(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return _text(value)
    raise ValueError(f"{name} is {value!r:.80}, neither a tensor nor a plain value of PyTorch")


def _global(name: str) -> bytes:
    return b"c" + name.replace(" ", "\n").encode() + b"\n"


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integers(values: Any) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"


def _integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)
