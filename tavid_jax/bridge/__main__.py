"""Command line: `python -m tavid_jax.bridge HISTORY ...`."""

from tavid_jax.bridge.command import INTERRUPTED, main
from tavid_jax.engine.interrupt import run_to_exit

run_to_exit(main, INTERRUPTED)
