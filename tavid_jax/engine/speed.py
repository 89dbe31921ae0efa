"""How fast a stage trains, and how near to what its chips can do.

`metrics.jsonl` and TensorBoard have these beside the method's own metrics, each over the steps
since the last record:

  speed/step_seconds        median of a step, waiting for its data included
  speed/step_seconds_p90    nine of ten steps took at most so long
  speed/data_wait           share of that time in which the loop waited for data
  speed/tokens_per_second   that the model attends over, on all chips together
  speed/frames_per_second   of video, or of tracks, on all chips together
  speed/tflops              model FLOPs (see `Method.flops`) per second and chip, in 1e12
  speed/mfu                 the same over the chip's peak; not on CPUs and unknown chips
  memory/gib, memory/peak_gib  in use on the fullest chip of this process, now and at most so far

What a method does not tell (`Method.flops`, `Method.amounts`) and what a platform does not know
(memory on CPUs) is left out. Rates are means of the interval, over steps and their data alone:
saving and validation are not in them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from tavid_jax.engine.method import Method
from tavid_jax.parallel.ahead import GIB
from tavid_jax.parallel.peaks import TERA, peak_flops


@dataclasses.dataclass(frozen=True)
class Work:
    """What one step does.

    Attributes:
      flops: model FLOPs over all chips, None where the method does not tell.
      amounts: tokens and frames of the batch, what the method tells of them.
      chips: over which it is divided.
      peak: FLOP/s of one chip, None where it is not known.
    """

    flops: int | None = None
    amounts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    chips: int = 1
    peak: float | None = None

    @classmethod
    def of(cls, method: Method, batch_size: int, devices: Iterable[Any], *, encode: bool) -> Work:
        """The work of a method's training step on these devices; see `Method.flops`."""
        devices = list(devices)
        amounts = {name: batch_size * count for name, count in method.amounts().items()}
        flops = method.flops(batch_size, encode=encode)
        return cls(flops, amounts, len(devices), peak_flops(devices[0].device_kind))


class Speed:
    """Measures steps between records.

    Args:
      work: of one step.
      seconds: the stage's seconds by category, which grow: "step" and "data" are looked at.
    """

    def __init__(self, work: Work, seconds: Mapping[str, float]):
        self._work, self._clock = work, seconds
        self._seen: tuple[float, float] | None = None
        self._steps: list[tuple[float, float]] = []  # of whole steps: seconds, and waited of them

    def tick(self) -> None:
        """To be called once in every step, always at the same place."""
        now = self._clock.get("step", 0.0), self._clock.get("data", 0.0)
        if self._seen is not None:
            step, data = now[0] - self._seen[0], now[1] - self._seen[1]
            if step > 0:  # else it was the one that compiled
                self._steps.append((step + data, data))
        self._seen = now

    def record(self) -> dict[str, float]:
        """What there is to say of the steps since the last record, named as above."""
        steps, self._steps = self._steps, []
        found: dict[str, float] = {}
        if steps:
            seconds = np.array([whole for whole, _ in steps])
            mean = float(seconds.mean())
            found["speed/step_seconds"] = float(np.median(seconds))
            found["speed/step_seconds_p90"] = float(np.percentile(seconds, 90))
            found["speed/data_wait"] = float(sum(waited for _, waited in steps) / seconds.sum())
            for name, count in self._work.amounts.items():
                found[f"speed/{name}_per_second"] = count / mean
            if self._work.flops:
                per_chip = self._work.flops / mean / self._work.chips
                found["speed/tflops"] = per_chip / TERA
                if self._work.peak:
                    found["speed/mfu"] = per_chip / self._work.peak
        return found | memory_in_use()


def memory_in_use() -> dict[str, float]:
    """GiB in use on this process's fullest device; nothing where it is not known."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    names = {"bytes_in_use": "memory/gib", "peak_bytes_in_use": "memory/peak_gib"}
    return {
        told: max(found[name] for found in stats) / GIB
        for name, told in names.items()
        if stats and all(name in found for found in stats)
    }


def in_words(values: Mapping[str, float]) -> str:
    """A record's speed for the progress line: "41 % MFU" or "1.3 TFLOP/s"."""
    if "speed/mfu" in values:
        return f"{100 * values['speed/mfu']:.1f} % MFU"
    if "speed/tflops" in values:
        return f"{values['speed/tflops']:.2g} TFLOP/s"
    return ""
