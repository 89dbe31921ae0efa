"""Command line: `python -m tavid_jax.scoring.movebench GENERATED MOVEBENCH`."""

import sys

from tavid_jax.scoring.movebench.cli import main

sys.exit(main())
