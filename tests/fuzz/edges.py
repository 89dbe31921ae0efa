"""Which ways through our own code an input takes: pairs of lines, one after the other."""

from __future__ import annotations

import sys
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import tavid_jax

_OURS = str(Path(tavid_jax.__file__).parent)


class Edges:
    """Collects pairs of lines while its `with` block runs.

    Attributes:
      known: all pairs of all blocks.
      new: how many of them the last block added.
    """

    def __init__(self):
        self.known: set[tuple[int, int, int]] = set()
        self.new = 0
        self._numbers: dict[CodeType, int | None] = {}
        self._before = 0

    def __enter__(self) -> Edges:
        self._before = len(self.known)
        sys.settrace(self._called)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.settrace(None)
        self.new = len(self.known) - self._before

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        number = self._numbers.get(code, -1)
        if number == -1:
            ours = code.co_filename.startswith(_OURS)
            number = self._numbers[code] = len(self._numbers) if ours else None
        if number is None:
            return None
        known, last = self.known, frame.f_lineno

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            line = frame.f_lineno
            known.add((number, last, line if event == "line" else -line))
            last = line
            return step

        return step
