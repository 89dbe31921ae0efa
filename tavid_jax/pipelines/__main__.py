"""Command line: `python -m tavid_jax.pipelines MODEL CHECKPOINT ...`."""

from tavid_jax.engine.interrupt import run_to_exit
from tavid_jax.pipelines.cli import INTERRUPTED, main

run_to_exit(main, INTERRUPTED)
