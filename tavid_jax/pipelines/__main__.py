"""Command line: `python -m tavid_jax.pipelines MODEL CHECKPOINT ...`."""

import os
import sys

from tavid_jax.engine.interrupt import heard_at_once
from tavid_jax.engine.preemption import INTERRUPT_EXIT_CODE
from tavid_jax.pipelines.cli import INTERRUPTED, main

with heard_at_once(INTERRUPTED):
    code = main()
if code == INTERRUPT_EXIT_CODE:
    # A compiled program may still be running, under which the interpreter's own end would crash.
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
