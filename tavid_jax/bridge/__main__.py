"""Command line: `python -m tavid_jax.bridge HISTORY ...`."""

import os
import sys

from tavid_jax.bridge.command import INTERRUPTED, main
from tavid_jax.engine.interrupt import heard_at_once
from tavid_jax.engine.preemption import INTERRUPT_EXIT_CODE

with heard_at_once(INTERRUPTED):
    code = main()
if code == INTERRUPT_EXIT_CODE:
    # A compiled program may still be running, under which the interpreter's own end would crash.
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
