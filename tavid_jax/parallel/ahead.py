"""Compiling for chips that are not there: memory, collectives and whether a program fits.

TPU programs need the `libtpu` package (the compiler), not a TPU. Nothing is allocated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from tavid_jax.parallel.memory import waits_on_host
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import compiling_for, replicated

GIB = 2**30
#: GiB per chip that the compiler gives to a program: the memory of the chip (32, 16, 95 and 32)
#: less what it keeps for itself.
HBM_GIB = {"v4": 30.75, "v5e": 15.75, "v5p": 95.73, "v6e": 31.24}
COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)

# What libtpu looks for on a TPU's host. Without these it asks the network and complains.
_NO_TPU_HERE = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


class TopologyError(ValueError):
    """A topology that cannot be compiled for, and what can be."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What the compiler says of one program. Bytes are per chip.

    Attributes:
      chips: devices of the program.
      arguments_bytes: what the caller holds: weights, optimizer state, batch.
      host_bytes: what of the program lies in the host's memory, arguments and temporaries; it is
        not part of the others.
      temporaries_bytes: the heap: activations, gradients, buffers.
      peak_bytes: both, and results that replace no donated argument: what the program reserves.
        (The compiler's own peak counts buffers in on-chip memory, too.) For a program that does
        not fit, what the compiler says it needs.
      limit_bytes: what the chip gives to a program, None for a CPU.
      fits: whether it compiled within the limit.
      collectives: operation -> how often it stands in the program; a loop's body is counted once.
        Empty if the program does not fit: the compiler stops before it says.
      compile_seconds: of tracing, lowering and compiling.
      estimated: by a model, see engine/estimate.py; no compiler was asked.
    """

    chips: int
    arguments_bytes: int
    host_bytes: int
    temporaries_bytes: int
    peak_bytes: int
    limit_bytes: int | None
    fits: bool
    collectives: Mapping[str, int]
    compile_seconds: float
    estimated: bool = False

    @property
    def lacking_bytes(self) -> int:
        """Bytes per chip that are missing, 0 if none."""
        return max(0, self.peak_bytes - self.limit_bytes) if self.limit_bytes else 0


def chip_of(topology: str) -> str:
    """The kind of chip of a topology, "cpu" or a key of `HBM_GIB`.

    Raises TopologyError for anything but "v5e:2x4", "v5p:4x4x4", ..., "2*v5e:2x4" or "cpu:8".
    """
    chip, _, sizes = _slice(topology)[1].partition(":")
    if chip in HBM_GIB and re.fullmatch(r"\d+x\d+(x\d+)?", sizes):
        return chip
    if chip == "cpu" and re.fullmatch(r"[1-9]\d*", sizes):
        return chip
    raise TopologyError(
        f"no topology {topology!r}: write chip:AxB or chip:AxBxC with a chip of "
        f"{', '.join(HBM_GIB)}, as in v5e:2x4 or v5p:4x4x4, N*chip:AxB for N slices, or cpu:N"
    )


def _slice(topology: str) -> tuple[int, str]:
    """How many slices, and of which topology: "2*v5e:2x4" are two, joined by a slower network."""
    found = re.fullmatch(r"([1-9]\d*)\*(?!cpu)(.+)", topology)
    return (int(found[1]), found[2]) if found else (1, topology)


def limit_of(topology: str) -> int | None:
    """Bytes per chip that a program may use, None for a CPU."""
    chip = chip_of(topology)
    return None if chip == "cpu" else int(HBM_GIB[chip] * GIB)


@functools.lru_cache(maxsize=16)
def topology_devices(topology: str) -> tuple[Any, ...]:
    """The devices of a topology, one per chip; they can be compiled for, and nothing else.

    "cpu:N" are this host's, as many as `jax_num_cpu_devices` allows.

    Raises TopologyError, see `chip_of`; for chips that cannot be laid out so; without libtpu.
    """
    if chip_of(topology) == "cpu":
        return _cpu_devices(int(topology.partition(":")[2]))
    if importlib.util.find_spec("libtpu") is None:
        raise TopologyError(
            f"compiling for {topology} needs the TPU compiler: pip install libtpu (it needs no "
            "TPU), or take --topology=cpu:8 for a dry run"
        )
    for name, value in _NO_TPU_HERE.items():
        os.environ.setdefault(name, value)
    # The two cores of a v4 chip work as one device, as they do in training.
    slices, one = _slice(topology)
    options: dict[str, Any] = {"chip_config_name": "megacore"} if one.startswith("v4:") else {}
    if slices > 1:
        options["num_slices"] = slices
    try:
        described = topologies.get_topology_desc(one, platform="tpu", **options)
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TopologyError(f"the compiler knows no topology {topology!r}: {reason}") from error
    return tuple(described.devices)


def _cpu_devices(count: int) -> tuple[Any, ...]:
    # Fails if the devices are in use already: then there are as many as there are.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", max(count, jax.config.jax_num_cpu_devices))
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise TopologyError(
            f"cpu:{count}: this process has {len(devices)} CPU devices; start it with "
            f"JAX_NUM_CPU_DEVICES={count}"
        )
    return tuple(devices[:count])


# Options of the compiler. The TPU's (libtpu 0.0.51) cannot hand back a program in which large
# gathers go to SparseCores, as those of v5p would; the TensorCores do them instead.
OPTIONS: dict[str, dict[str, Any] | None] = {
    "tpu": {"xla_tpu_offload_gather_to_sparsecore": False},
    "cpu": None,
}


def topology_mesh(topology: str, axes: Any = None) -> Mesh:
    """The mesh (replica, fsdp, context, tensor) over a topology; `axes` as for `make_mesh`."""
    return make_mesh(axes, topology_devices(topology))


def compile_for(
    topology: str, fn: Callable[..., Any], *args: Any, mesh: Mesh | None = None, **options: Any
) -> Report:
    """Compiles `fn(*args)` for a topology and reports what the compiler says; see `trace_for`.

    Raises:
      TopologyError: see `topology_devices`.
      jax.errors.JaxRuntimeError: what the compiler has to say beside a lack of memory.
    """
    return trace_for(topology, fn, *args, mesh=mesh, **options).compile()


def trace_for(
    topology: str, fn: Callable[..., Any], *args: Any, mesh: Mesh | None = None, **options: Any
) -> Traced:
    """`fn(*args)` as a program for a topology, not compiled yet.

    Args:
      topology: "v5e:2x4" or the like, see `chip_of`.
      fn: a function, or a jitted one (then without options).
      *args: pytrees of `jax.ShapeDtypeStruct`s; those without a sharding are copied everywhere.
      mesh: active while tracing; of this topology's devices, as are the shardings of `args`.
        None is all of them along fsdp. See `topology_mesh`.
      **options: of `jax.jit`: donate_argnums, out_shardings, ...

    Raises:
      TopologyError: see `topology_devices`.
    """
    started = time.perf_counter()
    mesh = topology_mesh(topology) if mesh is None else mesh
    args = jax.tree.map(lambda leaf: _placed(leaf, mesh), args)
    jitted = fn if hasattr(fn, "lower") else jax.jit(fn, **options)
    platform = "cpu" if chip_of(topology) == "cpu" else "tpu"
    with jax.set_mesh(mesh), compiling_for(platform):
        traced = jitted.trace(*args)
    return Traced(topology, mesh, platform, traced, args, time.perf_counter() - started)


@dataclasses.dataclass(frozen=True)
class Traced:
    """A program that is ready for the compiler of a topology; see `trace_for`."""

    topology: str
    mesh: Mesh
    platform: str
    traced: Any
    args: tuple[Any, ...]
    seconds: float

    def fingerprint(self) -> str:
        """Equal for programs that need the same memory: the same operations on arrays of the same
        shapes in the same places, by the same compiler. Constants, such as a learning rate, do not
        count."""
        text = re.sub(r"0x[0-9a-f]+|-?[\d.]+(e[-+]?\d+)?:\w+\[\]", "#", str(self.traced.jaxpr))
        places = [f"{leaf.dtype}{leaf.shape}{leaf.sharding}" for leaf in jax.tree.leaves(self.args)]
        known = "\n".join([self.topology, *compiler_versions(), *places, text])
        return hashlib.sha256(known.encode()).hexdigest()[:16]

    def compile(self) -> Report:
        """What the compiler says.

        Raises:
          jax.errors.JaxRuntimeError: what it has to say beside a lack of memory.
        """
        limit, started = limit_of(self.topology), time.perf_counter() - self.seconds
        try:
            with jax.set_mesh(self.mesh), compiling_for(self.platform):
                compiled = self.traced.lower().compile(OPTIONS[self.platform])
        except jax.errors.JaxRuntimeError as error:
            needed = _needed(str(error))
            if needed is None:
                raise
            arguments, waiting = held_bytes(self.args)
            return Report(
                chips=self.mesh.size,
                arguments_bytes=arguments,
                host_bytes=waiting,
                temporaries_bytes=max(0, needed - arguments),
                peak_bytes=needed,
                limit_bytes=limit,
                fits=False,
                collectives={},
                compile_seconds=time.perf_counter() - started,
            )
        seconds, memory = time.perf_counter() - started, compiled.memory_analysis()
        arguments, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes
        results = memory.output_size_in_bytes - memory.alias_size_in_bytes
        return Report(
            chips=self.mesh.size,
            arguments_bytes=arguments,
            host_bytes=memory.host_argument_size_in_bytes + memory.host_temp_size_in_bytes,
            temporaries_bytes=temporaries,
            peak_bytes=arguments + temporaries + results,
            limit_bytes=limit,
            fits=True,
            collectives=count_collectives(compiled.as_text()),
            compile_seconds=seconds,
        )


def compiler_versions() -> tuple[str, str]:
    """Of jax and of libtpu, "none" where it is not installed."""
    try:
        libtpu = importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:
        libtpu = "none"
    return f"jax {jax.__version__}", f"libtpu {libtpu}"


def _placed(leaf: Any, mesh: Mesh) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or replicated(mesh)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def held_bytes(tree: Any) -> tuple[int, int]:
    """(bytes per chip, of these arrays those per chip in the host's memory instead).

    Args:
      tree: of `jax.ShapeDtypeStruct`s with shardings.
    """
    sums = [0, 0]
    for leaf in jax.tree.leaves(tree):
        sums[waits_on_host(leaf)] += _bytes_per_chip(leaf)
    return sums[0], sums[1]


def _bytes_per_chip(leaf: jax.ShapeDtypeStruct) -> int:
    shape = leaf.sharding.shard_shape(leaf.shape)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
        shape = (*shape, *leaf.shape[len(shape) :])
    return math.prod(shape) * leaf.dtype.itemsize


def _needed(message: str) -> int | None:
    """Bytes per chip that a program lacks memory for, from the compiler's error; else None."""
    size = r"([\d.]+)([KMGT]?)"
    for pattern in (rf"\({size}\) exceeds available HBM", rf"Used {size} of [\d.]+[KMGT]? hbm"):
        if found := re.search(pattern, message):
            return int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " "))
    return None


def count_collectives(hlo: str) -> dict[str, int]:
    """Operation -> how often it stands in the text of a compiled program.

    Each of an operation's forms counts once: a start without its end, an asynchronous gather
    spread over several fusions, and a reduction whose result is scattered as the latter.
    """
    pattern = re.compile(rf" ({'|'.join(COLLECTIVES)})(?:-start)?\(")
    counts: Counter[str] = Counter()
    for computation in re.split(r"\n(?=%|ENTRY )", hlo):
        name = computation.partition(" ")[0]
        first_piece = "AsyncCollectiveStart" in computation
        for line in computation.splitlines():
            found = pattern.search(line.partition(", metadata=")[0])
            if not found or ("chain_id=" in line and not first_piece):
                continue
            scattered = found[1] == "all-reduce" and name.startswith("%all-reduce-scatter")
            counts["reduce-scatter" if scattered else found[1]] += 1
    return dict(sorted(counts.items()))
