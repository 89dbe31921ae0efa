"""Compiled programs kept on disk, so that a second start of a run does not compile again.

The folder may be shared, in a bucket (`gs://...`) or on a network disk: by the runs of a team, and
by the hosts of a run, which have to share it since process 0 alone writes. What was made for other
chips, flags or versions lies beside it. Who may write there can make others run anything: share it
with people whom you trust.
"""

from __future__ import annotations

import os
from pathlib import Path

import jax
from absl import logging

from tavid_jax import places
from tavid_jax.places import Place

#: seconds of compiling from which a program is kept: small ones are many, and add up
MIN_SECONDS = 0.01
_MARK = ".tavid_jax"


def enable_compile_cache(folder: str | os.PathLike) -> bool:
    """Keep compiled programs in `folder` ("~" allowed, or a bucket; "" switches the cache off).

    A folder that cannot be used costs only time: it is named in a warning. One that can be read and
    not written is read. Any number of processes may use it at once; an entry that was cut off is
    passed over, with a warning of jax. Returns whether the cache is on. Called by programs with
    their config's value, never on import.
    """
    jax.config.update("jax_compilation_cache_dir", None)
    if not str(folder):
        return False
    try:
        path = places.place(folder)
        writable = _open_bucket(path) if places.is_remote(path) else _open_folder(path)
    except Exception as error:
        logging.warning("no compile cache: %s cannot be used (%s)", folder, error)
        return False
    jax.config.update("jax_compilation_cache_dir", str(path.expanduser()))
    least = MIN_SECONDS if writable else float("inf")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
    if not writable:
        logging.info("compile cache %s can be read, but not written", path)
    if places.is_remote(path):
        # XLA's own cache, in a folder beside jax's, knows no buckets.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    return True


def _open_folder(path: Path) -> bool:
    """Whether it can be written. Raises OSError when it is not there and cannot be made."""
    path = path.expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return os.access(path, os.W_OK)


def _open_bucket(path: Place) -> bool:
    """Whether it can be written. Raises what the bucket answers when it cannot be read either."""
    try:
        places.create(path / _MARK, b"")
    except Exception:
        if path.exists():
            return False
        raise
    return True
