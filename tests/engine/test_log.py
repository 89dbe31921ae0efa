"""Whose lines a person reads while a run goes on."""

import json
import logging

import jax
import pytest

from tavid_jax.engine import log


@pytest.mark.parametrize(
    ("file", "level", "kept"),
    [
        (log.__file__, logging.INFO, True),
        ("/home/ada/my_method.py", logging.INFO, True),
        ("my_method.py", logging.INFO, True),
        (jax.__file__, logging.INFO, False),
        (json.__file__, logging.INFO, False),
        (jax.__file__, logging.WARNING, True),
    ],
    ids=["ours", "theirs", "relative", "library", "standard library", "warning"],
)
def test_own_lines(file: str, level: int, kept: bool):
    record = logging.LogRecord("name", level, file, 1, "words", (), None)
    assert log.OwnLines().filter(record) is kept
