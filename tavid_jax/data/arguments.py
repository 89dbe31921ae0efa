"""What arguments of the command line may be."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def size(text: str) -> tuple[int, int]:
    """(H, W) of "480x720"."""
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"give height and width as 480x720, got {text!r}")
    return int(height), int(width)


def positive(kind: type) -> Callable[[str], float | int]:
    """A positive number of that kind."""

    def parse(text: str) -> float | int:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"must be positive, got {text}")
        return value

    return parse
