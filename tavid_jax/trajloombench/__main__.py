"""Command line: `python -m tavid_jax.trajloombench COMMAND`."""

import sys

from tavid_jax.trajloombench.command import main

if __name__ == "__main__":
    sys.exit(main())
