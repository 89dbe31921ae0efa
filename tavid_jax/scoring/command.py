"""What the scoring commands have in common: errors in one line, interruption, progress."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tavid_jax.scoring.progress import ProgressLine


def run(work: Callable[[ProgressLine], int], interrupted: str) -> int:
    """Runs a command; returns its exit code, 1 after an error, 130 when it is interrupted.

    Args:
      work: does everything, closes the line of progress before it prints, returns the exit code.
      interrupted: what is there then, for people.
    """
    line = ProgressLine()
    try:
        return work(line)
    except (ValueError, OSError) as error:  # all of ours are ValueErrors
        line.close()
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        line.close()
        print(f"interrupted; {interrupted}", file=sys.stderr)
        return 130
