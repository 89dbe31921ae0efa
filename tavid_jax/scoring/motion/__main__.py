"""Command line: `python -m tavid_jax.scoring.motion GENERATED`."""

import sys

from tavid_jax.scoring.motion.cli import main

if __name__ == "__main__":
    sys.exit(main())
