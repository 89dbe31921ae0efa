"""Starts a run elsewhere.

    python -m launch tpu   --zone=Z --type=v5litepod-16 --spot --repository=URL \\
        --config=configs/trajloom.py:paper --workdir=gs://BUCKET/NAME
    python -m launch gke   --cluster=C --zone=Z --type=v5litepod-16 --config=... --workdir=gs://...
    python -m launch slurm --nodes=2 --gpus=8 --config=... --workdir=/shared/NAME
    python -m launch gpu   --config=... --workdir=runs/NAME
    python -m launch colab --repository=URL --config=... --workdir=gs://...

--dry-run prints what would be done, as a shell script. python -m launch PLACE --help lists the
options of a place.
"""

from __future__ import annotations

import sys

from launch import arguments, colab, gke, gpu, slurm, tpu
from launch.plan import LaunchError, carry_out, script

PLACES = {"tpu": tpu, "gke": gke, "slurm": slurm, "gpu": gpu, "colab": colab}


def main(argv: list[str]) -> int:
    """Exit code: of the command that failed, 2 for a command line that will not do, or 0."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if argv else 2
    try:
        if argv[0] not in PLACES:
            raise LaunchError(f"no place {argv[0]!r}; there are {', '.join(PLACES)}")
        place = PLACES[argv[0]]
        known, run = arguments.split(place.parser(), argv[1:])
        made = place.plan(known, run)
        if known.dry_run:
            print(script(made), end="")
            return 0
        return carry_out(made)
    except LaunchError as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
