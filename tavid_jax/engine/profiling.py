"""A trace of a few steps, for those who want to see what a device does."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import logging

from tavid_jax import places
from tavid_jax.engine.inputs import StageFolder

_HOW = (
    "open it in Perfetto (https://ui.perfetto.dev: the newest *.trace.json.gz below it) or in "
    "TensorBoard (pip install xprof tensorboard; tensorboard --logdir %s)"
)


def set_profile(config: Any, text: str) -> None:
    """Asks train stages for a trace, as the command line does.

    Args:
      config: of a run; `profile` of its train stages is set.
      text: "10:13" for steps 10 to 13 of every train stage that has them, "flow:10:13" for those
        of one stage; steps count from 0.

    Raises:
      ValueError: another form, a stage that is not there or does not train, or steps that no
        stage has.
    """
    found = re.fullmatch(r"(?:([^:]+):)?(\d+):(\d+)", text)
    if not found or int(found[2]) > int(found[3]):
        raise ValueError(
            f"--profile={text}: give FIRST:LAST or STAGE:FIRST:LAST, such as 10:13 or flow:10:13"
        )
    first, last = int(found[2]), int(found[3])
    trains = {n: s for n, s in config.stages.items() if n in config.order and s.kind == "train"}
    if found[1] and found[1] not in trains:
        raise ValueError(
            f"--profile={text}: no train stage {found[1]!r}; there are {', '.join(trains)}"
        )
    chosen = {found[1]: trains[found[1]]} if found[1] else trains
    able = [stage for stage in chosen.values() if first < stage.steps]
    if not able:
        most = max((stage.steps for stage in chosen.values()), default=0)
        raise ValueError(f"--profile={text}: there are {most} steps, 0 to {most - 1}")
    for stage in able:
        stage.profile = (first, last)


@contextlib.contextmanager
def profile_window(folder: StageFolder, window: tuple[int, ...]) -> Iterator[Callable[[int], None]]:
    """A function to call with every step number: traces steps `first` to `last` inclusive.

    Args:
      window: (first, last), counted from 0, or () for no profile. The trace goes to
        `profile/` in the stage's folder, for TensorBoard or Perfetto.

    Raises ValueError for anything else.
    """
    if len(window) not in (0, 2) or (window and not 0 <= window[0] <= window[1]):
        raise ValueError(f"profile {window} must be () or (first step, last step)")
    running, place = False, folder.path / "profile"

    def stop() -> None:
        nonlocal running
        running = False
        jax.profiler.stop_trace()
        places.push(place, strict=False)
        logging.info(f"the trace of steps %d to %d lies in %s: {_HOW}", *window, place, place)

    def at(step: int) -> None:
        nonlocal running
        if window and not running and window[0] <= step <= window[1]:
            jax.profiler.start_trace(str(places.copy_of(place)))
            running = True
        elif running and step > window[1]:
            stop()

    try:
        yield at
    finally:
        if running:
            stop()
