"""What a pickle would do, told from its opcodes before any of it is done.

Python's unpickler takes memory by numbers that stand in the file: a place in its memory of 2^31
makes a table of 16 GB. So opcodes are walked through first.
"""

from __future__ import annotations

import pickletools

from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import UntrustedError, told

# Opcodes that plain values and numpy's arrays need; REDUCE and BUILD act on stand-ins alone.
_NEEDED = frozenset(
    "MARK STOP POP POP_MARK DUP FLOAT BINFLOAT INT BININT BININT1 BININT2 LONG LONG1 LONG4 NONE "
    "NEWTRUE NEWFALSE STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_LIST LIST APPEND APPENDS "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS PUT BINPUT "
    "LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD PROTO "
    "FRAME".split()
)
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_INTEGERS = frozenset(("INT", "LONG", "LONG1", "LONG4"))
_LARGEST = 2**64  # of an integer: larger ones are no frames, pixels or sizes


def check_pickle(data: bytes) -> None:
    """Refuses a pickle that needs more than plain values, or asks for memory out of proportion.

    Raises:
      UntrustedError: larger than a limit, damaged, or an opcode, a number or a place in its memory
        that no file of arrays has.
    """
    limits.check("pickle_bytes", len(data), "the pickle")
    puts = 0
    try:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name not in _NEEDED:
                raise UntrustedError(f"has a pickle with the opcode {name}, which no array needs")
            if name in _PUTS:
                puts += 1
                if argument > len(data):
                    raise UntrustedError(f"has a pickle that wants a memory of {argument} places")
            elif name in _INTEGERS and abs(argument) > _LARGEST:
                raise UntrustedError("has a pickle with an integer of more than 64 bits")
            elif name == "FRAME" and argument > len(data):
                raise UntrustedError("has a pickle with a frame that is longer than the file")
    except UntrustedError:
        raise
    except Exception as error:  # pickletools raises many kinds for damaged bytes
        raise UntrustedError(f"has a damaged pickle ({told(error)})") from error
