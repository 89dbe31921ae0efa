"""Command line: `python -m tavid_jax.pipelines MODEL CHECKPOINT ...`."""

import sys

from tavid_jax.pipelines.cli import main

sys.exit(main())
