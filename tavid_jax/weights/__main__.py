"""Command line: `python -m tavid_jax.weights inspect|import|export|diff`."""

import sys

from tavid_jax.weights.cli import main

if __name__ == "__main__":
    sys.exit(main())
