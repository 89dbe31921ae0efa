"""Compiled programs kept on disk, so that a second start of a run does not compile again."""

from __future__ import annotations

from pathlib import Path

import jax
from absl import logging


def enable_compile_cache(folder: str | Path) -> bool:
    """Keep compiled programs in `folder` ("~" allowed; "" switches the cache off).

    A folder that cannot be written costs only time: it is named in a warning. Returns whether the
    cache is on. Called by programs with their config's value, never on import.
    """
    if not folder:
        jax.config.update("jax_compilation_cache_dir", None)
        return False
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logging.warning("no compile cache: %s cannot be written (%s)", path, error.strerror)
        jax.config.update("jax_compilation_cache_dir", None)
        return False
    jax.config.update("jax_compilation_cache_dir", str(path))
    # The default of 1 s leaves out many programs of a small run, which add up.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return True
