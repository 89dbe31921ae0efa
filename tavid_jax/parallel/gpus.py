"""GPUs that are not there: no compiler can be asked, only their sizes are known."""

from __future__ import annotations

import dataclasses
import re

from jax.sharding import AbstractMesh, AxisType

from tavid_jax.parallel.ahead import GIB, TopologyError
from tavid_jax.parallel.mesh import AXES, DEFAULT_AXES, resolve_axes
from tavid_jax.parallel.peaks import peak_flops

#: GiB that the driver keeps, and libraries for their work space: of every GPU, about.
RESERVED_GIB = 1.5


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
      kind: what `jax.Device.device_kind` says of it, in part.
      gib: memory that the driver shows, GiB.
    """

    kind: str
    gib: float

    @property
    def limit_bytes(self) -> int:
        """What a program may use, if jax may take all of it (`XLA_PYTHON_CLIENT_MEM_FRACTION`; it
        takes three quarters unless told otherwise)."""
        return int((self.gib - RESERVED_GIB) * GIB)

    @property
    def peak_flops(self) -> float:
        """bfloat16 FLOP/s."""
        peak = peak_flops(self.kind)
        assert peak is not None, f"parallel/peaks.py does not know {self.kind}"
        return peak


GPUS: dict[str, Gpu] = {
    "a100-40": Gpu("A100", 39.4),
    "a100-80": Gpu("A100", 79.2),
    "h100": Gpu("H100", 79.6),
    "h200": Gpu("H200", 140.4),
}


def is_gpu(topology: str) -> bool:
    """Whether a topology names GPUs, "h100:8", that exist or not."""
    return topology.partition(":")[0] in GPUS


def gpus_of(topology: str) -> tuple[Gpu, int]:
    """(kind, how many) of "h100:8".

    Raises TopologyError for another form.
    """
    name, _, count = topology.partition(":")
    if name not in GPUS or not re.fullmatch(r"[1-9]\d*", count):
        raise TopologyError(
            f"no GPUs {topology!r}: write kind:number, as in h100:8, with a kind of "
            f"{', '.join(GPUS)}"
        )
    return GPUS[name], int(count)


def gpu_mesh(topology: str, axes: object = None) -> AbstractMesh:
    """The mesh (replica, fsdp, context, tensor) over so many GPUs; it has no devices."""
    sizes = resolve_axes(DEFAULT_AXES if axes is None else axes, gpus_of(topology)[1])
    shape = tuple(sizes[name] for name in AXES)
    return AbstractMesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))
