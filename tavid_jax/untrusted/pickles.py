"""What a pickle would do, told from its opcodes before any of it is done.

Python's unpickler takes memory by numbers that stand in the file: a place in its memory of 2^31
makes a table of 16 GB. And tuples in tuples in tuples, used as a key, overflow the stack of C,
which no error tells. So opcodes are walked through first.
"""

from __future__ import annotations

import pickletools
from typing import Any

from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import UntrustedError, told

# Opcodes that plain values and numpy's arrays need; REDUCE and BUILD act on stand-ins alone.
_NEEDED = frozenset(
    "MARK STOP POP POP_MARK DUP FLOAT BINFLOAT INT BININT BININT1 BININT2 LONG LONG1 LONG4 NONE "
    "NEWTRUE NEWFALSE STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_LIST LIST APPEND APPENDS "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS PUT BINPUT "
    "LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD PROTO "
    "FRAME PERSID BINPERSID".split()
)
_TUPLES = {"TUPLE": None, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}  # values taken, None: to a mark
# Opcodes that take all to the last mark, and how many values they leave in its place; the container
# that is filled lies below it.
_TO_MARK = {"LIST": 1, "DICT": 1, "APPENDS": 0, "SETITEMS": 0, "POP_MARK": 0}
# Values taken, and left.
_POPS = {"APPEND": (1, 0), "SETITEM": (2, 0), "POP": (1, 0), "STACK_GLOBAL": (2, 1),
         "REDUCE": (2, 1), "BUILD": (1, 0), "BINPERSID": (1, 1), "STOP": (1, 0)}  # fmt: skip
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_INTEGERS = frozenset(("INT", "LONG", "LONG1", "LONG4"))
_LARGEST = 2**64  # of an integer: larger ones are no frames, pixels or sizes


class _Nesting:
    """How deep tuples lie in one another: a stack of depths, moved as the unpickler's own."""

    def __init__(self):
        self._stack: list[int] = []
        self._marks: list[int] = []
        self._memory: dict[int, int] = {}
        self._most = limits.most("json_depth")

    def step(self, name: str, argument: Any) -> None:
        """Does to the stack what an opcode does; IndexError and KeyError for what it cannot."""
        stack = self._stack
        if name == "MARK":
            self._marks.append(len(stack))
        elif name in _TUPLES:
            count = _TUPLES[name]
            start = self._marks.pop() if count is None else len(stack) - count
            self._tuple(start)
        elif name in _TO_MARK:
            del stack[self._marks.pop() :]
            stack.extend([0] * _TO_MARK[name])
        elif name in _PUTS or name == "MEMOIZE":
            self._memory[len(self._memory) if argument is None else argument] = stack[-1]
        elif name in _GETS:
            stack.append(self._memory[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in _POPS:
            count, pushed = _POPS[name]
            if count > len(stack):
                raise IndexError("its stack is empty")
            del stack[len(stack) - count :]
            stack.extend([0] * pushed)
        elif name not in ("PROTO", "FRAME"):
            stack.append(0)

    def _tuple(self, start: int) -> None:
        if start < 0:
            raise IndexError("its stack is empty")
        depth = 1 + max(self._stack[start:], default=0)
        if depth > self._most:
            limits.check("json_depth", depth, "its nesting")
        del self._stack[start:]
        self._stack.append(depth)


def check_pickle(data: bytes) -> None:
    """Refuses a pickle that needs more than plain values, or asks for memory out of proportion.

    Raises:
      UntrustedError: larger than a limit, damaged, or an opcode, a number or a place in its memory
        that no file of arrays has.
    """
    limits.check("pickle_bytes", len(data), "the pickle")
    nesting, framed = _Nesting(), 0  # up to which byte the last frame goes
    try:
        for opcode, argument, at in pickletools.genops(data):
            name = opcode.name
            if name not in _NEEDED:
                raise UntrustedError(f"has a pickle with the opcode {name}, which no array needs")
            nesting.step(name, argument)
            if name in _PUTS and not 0 <= argument <= len(data):
                raise UntrustedError("has a pickle that wants a memory beyond its own size")
            elif name in _INTEGERS and abs(argument) > _LARGEST:
                raise UntrustedError("has a pickle with an integer of more than 64 bits")
            elif name == "FRAME":
                if argument > len(data):
                    raise UntrustedError("has a pickle with a frame that is longer than the file")
                if at < framed:  # the unpickler would read the same bytes again
                    raise UntrustedError("has a damaged pickle (frames lie in one another)")
                framed = at + 9 + argument  # behind the opcode and its 8 bytes
    except UntrustedError:
        raise
    except Exception as error:  # pickletools raises many kinds for damaged bytes
        raise UntrustedError(f"has a damaged pickle ({told(error)})") from error
