"""The command line.

    python -m tavid_jax.main --config=configs/trajloom.py                   # train, judge, report
    python -m tavid_jax.main --config=configs/trajloom.py:ablations         # another preset
    python -m tavid_jax.main --config=configs/trajloom.py --mode=preview    # look at the data first
    python -m tavid_jax.main --config=configs/trajloom.py --config.clips=my_videos

    python -m tavid_jax.main --config=configs/trajloom.py --profile=flow:10:13

Any value of a config can be set by `--config.a.b=value`. A run that was stopped goes on where it
stood when the same command is given again; finished stages are skipped.
"""

from __future__ import annotations

import gc

# Python looks for garbage whenever 700 more objects are there. Importing and tracing make millions,
# nearly all of which stay: looking took a tenth of a start. Stages end with a look.
if __name__ == "__main__":
    gc.disable()

import multiprocessing
import os
import sys
import time
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from tavid_jax import run
from tavid_jax.command_line import let_configs_import, parse_flags
from tavid_jax.engine.goodput import process_began
from tavid_jax.engine.log import set_up_logging
from tavid_jax.engine.preemption import restarted_when_terminated
from tavid_jax.engine.profiling import set_profile
from tavid_jax.methods.registry import short_name
from tavid_jax.places import place

if __name__ == "__main__":
    gc.freeze()  # what was imported stays
    gc.set_threshold(100_000)
    gc.enable()

MODES = ("train", "sample", "evaluate", "preview")

config_flags.DEFINE_config_file(
    "config", None, "Config file, and its preset after a colon.", lock_config=True
)
flags.DEFINE_string(
    "workdir", "", "Folder of the run, or gs://bucket/name; default runs/<system>_<preset>."
)
flags.DEFINE_enum(
    "mode",
    "train",
    MODES,
    "train: run every unfinished stage, then judge and report. evaluate: judge and report. "
    "sample: write forecasts of --config.clips to <workdir>/samples. preview: draw the data.",
)
flags.DEFINE_string(
    "profile",
    "",
    "Steps to trace with the JAX profiler, FIRST:LAST of every train stage or STAGE:FIRST:LAST, "
    "counted from 0; the trace goes to <workdir>/stages/STAGE/profile, for Perfetto or "
    "TensorBoard.",
)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; options begin with --")
    started = time.perf_counter()
    set_up_logging()
    config = flags.FLAGS.config
    if flags.FLAGS.profile:
        set_profile(config, flags.FLAGS.profile)
    workdir = flags.FLAGS.workdir or f"runs/{short_name(config.system)}_{config.preset}"
    output = run.run(config, place(workdir), flags.FLAGS.mode, process_began())
    logging.info("%s after %.0f s: %s", flags.FLAGS.mode, time.perf_counter() - started, output)


def cli() -> None:
    """Entry point: user errors become one message and exit code 1, without a traceback."""
    restarted_when_terminated()
    let_configs_import(sys.argv[1:])
    try:
        app.run(main, flags_parser=parse_flags)
    except KeyboardInterrupt:
        print(
            "tavid_jax: interrupted; the same command goes on from the last save", file=sys.stderr
        )
        _leave(130)
    except run.USER_ERRORS as error:
        logging.debug("where it happened", exc_info=True)
        print(f"tavid_jax: {error}\n(--verbosity=1 shows where it happened)", file=sys.stderr)
        _leave(1)


def _leave(code: int) -> NoReturn:
    """Ends the process at once: the interpreter would wait for threads that hang, let those that
    find the disk full complain once more, and crash under a compiled program that still runs."""
    for child in multiprocessing.active_children():
        child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    cli()
