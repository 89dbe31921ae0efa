"""Functions of the caller's, named as module:function."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

from tavid_jax.trajloombench.protocol import BenchError


def named_function(name: str, what: str) -> Callable:
    """Imports module:function; modules of the working folder are found.

    Args:
      name: "package.module:function".
      what: it is for, in errors.

    Raises:
      BenchError: it cannot be imported, or is no function.
    """
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise BenchError(f"{what} {name!r} cannot be imported: {error}") from error
    if not callable(function):
        raise BenchError(f"{what} {name!r} is no function")
    return function
