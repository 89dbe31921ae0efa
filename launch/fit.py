"""Does it fit? Memory and cost of a full-size step on chips that are not there.

    python launch/fit.py --config=configs/trajloom.py --topology=v5e:2x4
    python launch/fit.py --config=configs/trajloom.py --topology=v5p:4x4x4 --config.mesh.context=4
    python launch/fit.py --config=configs/trajloom.py --topology=v5e:2x4 --what=sample --json
    python launch/fit.py --config=configs/finetune.py --topology=v5e:2x4 --what=decode
    python launch/fit.py --config=configs/trajloom.py:small --topology=h100:1     # an estimate

All presets on all chips: launch/fit_table.py. Needs libtpu (`pip install libtpu`), no accelerator
and no data; nothing is allocated. Exit code 0: it fits; 3: it does not; 1: the question cannot be
answered, and why.
"""

from __future__ import annotations

import json
import os
import sys

# Before jax is imported: this program runs on the host's CPU, and looks for no TPU.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax  # noqa: E402
from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from tavid_jax.command_line import let_configs_import, parse_flags  # noqa: E402
from tavid_jax.engine.fit import WHAT, fit  # noqa: E402
from tavid_jax.methods.registry import make_system  # noqa: E402

DOES_NOT_FIT = 3

config_flags.DEFINE_config_file(
    "config", None, "Config file, and its preset after a colon.", lock_config=True
)
flags.DEFINE_string("topology", None, "v5e:2x4, v5p:4x4x4, v6e:16x16, ...; cpu:8; GPUs, h100:8.")
flags.DEFINE_string("stage", "", "Train stage; by default the one whose step is the most work.")
flags.DEFINE_enum(
    "what",
    "train",
    WHAT,
    "The training step, one denoising step, or the autoencoder's whole work on a batch of videos.",
)
flags.DEFINE_integer(
    "batch_per_chip",
    0,
    "Examples per data way (replica x fsdp) of the mesh; by default the stage's batch_size to "
    "train, and 1 otherwise.",
    lower_bound=0,
)
flags.DEFINE_bool("estimate", False, "Ask no compiler but a model; for GPUs there is nothing else.")
flags.DEFINE_bool("json", False, "One line of JSON instead of the table; bytes are per chip.")
flags.mark_flags_as_required(["config", "topology"])


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; options begin with --")
    options = flags.FLAGS
    answer = fit(
        options.config,
        make_system(options.config, own=True),
        options.topology,
        stage=options.stage,
        what=options.what,
        batch_per_chip=options.batch_per_chip,
        estimated=options.estimate,
    )
    print(json.dumps(answer.to_json()) if options.json else answer.table())
    return 0 if answer.report.fits else DOES_NOT_FIT


def cli() -> None:
    """User errors become one message and exit code 1, without a traceback."""
    let_configs_import(sys.argv[1:])
    try:
        app.run(main, flags_parser=parse_flags)
    except (ValueError, OSError, jax.errors.JaxRuntimeError) as error:
        logging.debug("where it happened", exc_info=True)
        print(f"fit: {error}\n(--verbosity=1 shows where it happened)", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    cli()
