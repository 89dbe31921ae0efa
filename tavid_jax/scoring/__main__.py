"""Command line: `python -m tavid_jax.scoring VIDEOS...`."""

import sys

from tavid_jax.scoring.cli import main

if __name__ == "__main__":
    sys.exit(main())
