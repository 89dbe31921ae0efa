"""What a person reads while a run goes on: our and their own lines, and warnings of libraries."""

from __future__ import annotations

import logging as std_logging
import sysconfig
from pathlib import Path

from absl import logging

from tavid_jax.parallel.processes import index

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}


class OwnLines(std_logging.Filter):
    """Keeps what this package and the user's files say, and what libraries say from WARNING on."""

    def filter(self, record: std_logging.LogRecord) -> bool:
        folders = set(Path(record.pathname).parents)
        of_a_library = bool(LIBRARIES & folders) and PACKAGE not in folders
        return record.levelno >= std_logging.WARNING or not of_a_library


class ShortFormatter(std_logging.Formatter):
    """`09:21:14 message`; warnings and errors carry their level, and `mark` stands before it."""

    def __init__(self, mark: str = ""):
        super().__init__()
        self._mark = mark

    def format(self, record: std_logging.LogRecord) -> str:
        clock = self.formatTime(record, "%H:%M:%S")
        level = f"{record.levelname.lower()}: " if record.levelno >= std_logging.WARNING else ""
        return f"{clock} {self._mark}{level}{record.getMessage()}"


def only_first_speaks() -> None:
    """Of several processes, all but the first keep to warnings, with their index in front."""
    if index():
        logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().setFormatter(ShortFormatter(f"[process {index()}] "))


def set_up_logging() -> None:
    """Called by programs at their start, never on import."""
    logging.use_absl_handler()  # programs that absl does not run have not installed it
    logging.set_verbosity(max(logging.get_verbosity(), logging.INFO))
    handler = logging.get_absl_handler()
    handler.addFilter(OwnLines())
    handler.setFormatter(ShortFormatter())
