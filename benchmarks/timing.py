"""Shared by the benchmark scripts: compile, time side by side, and say on what."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jaxlib

sys.path.append(str(Path(__file__).resolve().parents[1]))  # configs lie beside this folder


@dataclass(frozen=True)
class Compiled:
    """A compiled program and what its compilation took."""

    run: Callable[[], Any]
    trace_seconds: float
    compile_seconds: float
    peak_bytes: int


def compile_program(function: Callable, *args: Any) -> Compiled:
    """Compiles function(*args); peak bytes are XLA's own count of arguments, results and temps."""
    start = time.perf_counter()
    lowered = jax.jit(function).lower(*args)
    traced = time.perf_counter()
    program = lowered.compile()
    done = time.perf_counter()
    memory = program.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return Compiled(lambda: program(*args), traced - start, done - traced, peak)


# What counts seconds: "cpu" those of the process itself, for a busy machine.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def time_side_by_side(
    programs: Mapping[str, Compiled], repeats: int, clock: str = "wall"
) -> dict[str, float]:
    """Median seconds per call; the programs take turns, so that a busy machine hits them alike."""
    now = CLOCKS[clock]
    seconds = {name: [] for name in programs}
    for program in programs.values():
        jax.block_until_ready(program.run())
    for _ in range(repeats):
        for name, program in programs.items():
            start = now()
            jax.block_until_ready(program.run())
            seconds[name].append(now() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def environment() -> str:
    """One line: device, threads, versions."""
    device = jax.devices()[0]
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{len(jax.devices())} x {device.device_kind} ({device.platform}), {threads} CPU threads, "
        f"{platform.machine()}, jax {jax.__version__}, jaxlib {jaxlib.__version__}"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def mib(count: float) -> str:
    """Bytes as MiB."""
    return f"{count / 2**20:.1f} MiB"
