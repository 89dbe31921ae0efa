"""Command line: `python -m tavid_jax.scoring.located METHOD [METHOD ...]`."""

import sys

from tavid_jax.scoring.located.cli import main

if __name__ == "__main__":
    sys.exit(main())
