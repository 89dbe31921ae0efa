"""Does a stage fit? Its own step, compiled for chips that are not there, from shapes alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import jax
import numpy as np

from tavid_jax.engine.estimate import NO_CHIP, estimate, seconds_at_least
from tavid_jax.engine.method import Method, System
from tavid_jax.engine.placement import placed
from tavid_jax.engine.program import Program, abstract_batch
from tavid_jax.parallel.ahead import GIB, Report, topology_mesh, trace_for
from tavid_jax.parallel.flops import Count, count
from tavid_jax.parallel.gpus import gpu_mesh, is_gpu
from tavid_jax.parallel.mesh import BATCH_AXES
from tavid_jax.parallel.sharding import batch_sharding, compiling_for, paths

TRAIN = "train"
WHAT = (TRAIN, "sample", "encode", "decode")


@dataclasses.dataclass(frozen=True)
class Fit:
    """The answer for one step of one stage.

    Attributes:
      stage, what, topology: what was asked: "train" or a phase, such as "sample", on "v5e:2x4".
      mesh: sizes of the mesh axes.
      batch: examples over all chips.
      trained, frozen: number of parameters.
      frozen_dtypes: their types, most first.
      report: of the compiler, bytes per chip.
      count: operations of the step, over all chips.
    """

    stage: str
    what: str
    topology: str
    mesh: Mapping[str, int]
    batch: int
    trained: int
    frozen: int
    frozen_dtypes: tuple[str, ...]
    report: Report
    count: Count

    def to_json(self) -> dict[str, Any]:
        """For machines; bytes are per chip, operations over all chips."""
        report = self.report
        return {
            "chips": report.chips,
            "arguments_bytes": report.arguments_bytes,
            "host_bytes": report.host_bytes,
            "temporaries_bytes": report.temporaries_bytes,
            "peak_bytes": report.peak_bytes,
            "limit_bytes": report.limit_bytes,
            "fits": report.fits,
            "flops_per_step": self.count.flops,
            "collectives": dict(report.collectives),
            "compile_seconds": round(report.compile_seconds, 2),
            "estimated": report.estimated,
        }

    def table(self) -> str:
        """For people."""
        report, chips = self.report, self.report.chips
        axes = "  ".join(f"{name}={size}" for name, size in self.mesh.items())
        ways = math.prod(self.mesh[axis] for axis in BATCH_AXES)
        frozen = f"{short(self.frozen)} frozen ({', '.join(self.frozen_dtypes)})"
        flops = f"{short(self.count.flops)}, {short(self.count.flops / chips)} per chip"
        missing = ", ".join(f"{n}x {name}" for name, n in self.count.unknown.items())
        counted = ", ".join(f"{op} {n}" for op, n in report.collectives.items()) or "none"
        rows = [
            ("step", f"{self.what}, stage {self.stage}"),
            ("chips", f"{chips} ({self.topology})  {axes}"),
            ("batch", f"{self.batch} examples, {self.batch // ways} on each of {ways} data ways"),
            ("parameters", f"{short(self.trained)} trained" + (f", {frozen}" if frozen else "")),
            ("arguments", f"{size(report.arguments_bytes)} per chip{self._waiting()}"),
            ("temporaries", f"{size(report.temporaries_bytes)} per chip"),
            ("peak", f"{size(report.peak_bytes)} per chip{self._limit()}"),
            ("fits", self._verdict()),
            ("FLOPs", flops + (f" (without {missing})" if missing else "")),
        ]
        if report.estimated:
            rows.append(("ESTIMATE", "of a model, no compiler was asked: see launch/README.md"))
        else:
            known = f"{counted} (a loop's body counted once)" if report.fits else "not known"
            rows.append(("collectives", known))
            rows.append(("compiled in", f"{report.compile_seconds:.1f} s"))
        if is_gpu(self.topology):
            bound = seconds_at_least(self.count.flops, self.topology)
            rows.append(("a step takes", f"{bound:.3g} s at least, at the peak of bfloat16"))
        return "\n".join(f"{name:<13}{value}" for name, value in rows)

    def _waiting(self) -> str:
        waiting = self.report.host_bytes
        return f", and {size(waiting)} in the host's memory" if waiting else ""

    def _limit(self) -> str:
        limit = self.report.limit_bytes
        if limit is None:
            return ""
        return f" of {size(limit)} ({100 * self.report.peak_bytes / limit:.1f} %)"

    def _verdict(self) -> str:
        if not self.report.fits:
            return f"NO: {size(self.report.lacking_bytes)} per chip are missing"
        if self.report.limit_bytes is None:
            return "yes (a CPU has no limit of its own)"
        return f"yes, {size(self.report.limit_bytes - self.report.peak_bytes)} are left"


def short(number: float | int) -> str:
    """1234567 -> "1.23 M"."""
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.2f} {prefix}"
    return f"{number:.0f}"


def size(count_of_bytes: int) -> str:
    """Bytes in GiB, below one in MiB."""
    if count_of_bytes >= GIB:
        return f"{count_of_bytes / GIB:.2f} GiB"
    return f"{count_of_bytes / 2**20:.2f} MiB"


@dataclasses.dataclass(frozen=True)
class _Step:
    """A step that is ready to be compiled, and to be counted."""

    pure: Callable[..., Any]
    jitted: Callable[..., Any]
    arguments: tuple[Any, ...]
    parameters: tuple[Any, Any]  # trained, frozen
    batch: int

    def count(self) -> Count:
        """Operations; traced without a mesh and for no chip, so that they are the model's own."""
        bare = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self.arguments)
        with compiling_for(NO_CHIP):
            return count(self.pure, *bare)


def fit(
    config: Any,
    system: System,
    topology: str,
    *,
    stage: str = "",
    what: str = "train",
    batch_per_chip: int = 0,
    estimated: bool = False,
    reports: MutableMapping[str, Report] | None = None,
) -> Fit:
    """Compiles one step of a stage for a topology, or estimates it where there is no compiler.

    Args:
      config: of a run: its `mesh` and its `stages` are read.
      system: made from it.
      topology: see `ahead.chip_of`; or GPUs, see `gpus.gpus_of`.
      stage: a train stage; "" takes the one whose step is the most work.
      what: "train": the engine's own step. Otherwise the method's phase of this name.
      batch_per_chip: examples per data way (replica x fsdp) of the mesh; 0 is the stage's
        batch_size to train, and 1 for phases.
      estimated: ask the model of engine/estimate.py instead of a compiler. That is all there is
        for GPUs, and for training alone.
      reports: on programs that were compiled before, by `Traced.fingerprint`; this one is added.

    Raises:
      ValueError: a stage, mesh or batch that does not exist or fit together; see also
        `ahead.topology_devices`.
    """
    if what not in WHAT:
        raise ValueError(f"there is no {what!r} to compile: choose of {', '.join(WHAT)}")
    estimated = estimated or is_gpu(topology)
    if estimated and what != TRAIN:
        raise ValueError(f"{topology}: only a training step can be estimated, not {what!r}")
    candidates = _candidates(config, system, stage, what)
    make = gpu_mesh if is_gpu(topology) else topology_mesh
    mesh = make(topology, config.mesh.to_dict())
    programs = {name: Program(m, config.stages[name], mesh) for name, m in candidates.items()}
    steps = {
        name: _train_step(program, batch_per_chip)
        if what == TRAIN
        else _phase_step(program, what, batch_per_chip)
        for name, program in programs.items()
    }
    counts = {name: step.count() for name, step in steps.items()}
    chosen = max(counts, key=lambda name: counts[name].flops)
    step = steps[chosen]
    if estimated:
        report = estimate(programs[chosen], topology, step.batch)
    else:
        report = _compiled(topology, step, mesh, reports)
    trained, frozen = step.parameters
    return Fit(
        stage=chosen,
        what=what,
        topology=topology,
        mesh=dict(mesh.shape),
        batch=step.batch,
        trained=_size(trained),
        frozen=_size(frozen),
        frozen_dtypes=_dtypes(frozen),
        report=report,
        count=counts[chosen],
    )


def _compiled(
    topology: str, step: _Step, mesh: Any, reports: MutableMapping[str, Report] | None
) -> Report:
    traced = trace_for(topology, step.jitted, *step.arguments, mesh=mesh)
    if reports is None:
        return traced.compile()
    key = traced.fingerprint()
    if key not in reports:
        reports[key] = traced.compile()
    return reports[key]


def _candidates(config: Any, system: System, stage: str, what: str) -> dict[str, Method]:
    """The stages that the question may mean, with their methods."""
    names = [name for name in config.order if config.stages[name].kind == "train"]
    if stage and stage not in names:
        raise ValueError(f"there is no train stage {stage!r}: choose of {', '.join(names)}")
    methods = {name: system.method(name) for name in names}
    if what != TRAIN:
        able = {name: method for name, method in methods.items() if what in method.phases()}
        if not able or (stage and stage not in able):
            whose = f"stage {stage!r}" if stage else "every stage"
            mend = f"choose of {', '.join(able)}" if able else f"none has; use --what={TRAIN}"
            raise ValueError(f"the method of {whose} has no phase {what!r}: {mend}")
        methods = able
    return {stage: methods[stage]} if stage else methods


def _ways(program: Program) -> int:
    return math.prod(program.mesh.shape[axis] for axis in BATCH_AXES)


def _train_step(program: Program, batch_per_chip: int) -> _Step:
    batch = program.abstract_batch(batch_per_chip * _ways(program))
    trainable, frozen = program.abstract_params()
    state = program.abstract_state(trainable)
    return _Step(
        pure=program.step(),
        jitted=program.jitted_step(state),
        arguments=(state, frozen, batch),
        parameters=(trainable, frozen),
        batch=next(iter(batch.values())).shape[0],
    )


def _phase_step(program: Program, what: str, batch_per_chip: int) -> _Step:
    phase, mesh = program.method.phases()[what], program.mesh
    size = max(1, batch_per_chip) * _ways(program)
    batch = abstract_batch(phase.spec, size, mesh)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size))
    keys = jax.ShapeDtypeStruct(keys.shape, keys.dtype, sharding=batch_sharding(mesh))
    shapes = jax.eval_shape(lambda: phase.init(jax.random.key(0)))
    params = placed(shapes, mesh, phase.sharding)
    return _Step(
        pure=phase.step,
        jitted=jax.jit(phase.step),
        arguments=(params, batch, keys),
        parameters=({}, params),
        batch=size,
    )


def _size(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _dtypes(tree: Any) -> tuple[str, ...]:
    sizes: dict[str, int] = {}
    for _, leaf in paths(tree):
        name = np.dtype(leaf.dtype).name
        sizes[name] = sizes.get(name, 0) + math.prod(leaf.shape)
    return tuple(sorted(sizes, key=lambda name: -sizes[name]))
