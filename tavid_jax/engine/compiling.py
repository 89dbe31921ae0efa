"""A program that is compiled behind what makes its arguments."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import jax


def compile_behind(lowered: jax.stages.Lowered) -> Future[jax.stages.Compiled]:
    """Compile in a thread, or load from the compile cache; neither holds Python's lock.

    A program is over when its compiler is: leave by `os._exit` where that is too late.

    Args:
      lowered: from `jax.jit(function).lower(*shapes)`.

    Returns:
      What is compiled, or what the compiler raised. It takes arrays of just these shapes, types
      and places.
    """
    with_one = ThreadPoolExecutor(1, thread_name_prefix="compile")
    compiled = with_one.submit(lowered.compile)
    with_one.shutdown(wait=False)  # ends when that is done
    return compiled
