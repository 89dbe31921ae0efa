"""The one device mesh of a run, and host batches made global."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.mesh_utils import create_device_mesh, create_hybrid_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tavid_jax.parallel import processes

# Slowest network first: replicas talk once per step, tensor parallelism inside every layer.
AXES = ("replica", "fsdp", "context", "tensor")
DEFAULT_AXES = {"replica": 1, "fsdp": -1, "context": 1, "tensor": 1}
# The dimension of a batch is split over both of these.
BATCH_AXES = ("replica", "fsdp")


def resolve_axes(axes: Any, num_devices: int) -> dict[str, int]:
    """Sizes of all four mesh axes, the one -1 replaced by what is left of the devices.

    Args:
      axes: mapping (also a ConfigDict) from axis name to size; missing axes get 1, and one axis
        may be -1.
      num_devices: devices that the mesh has to cover.

    Returns:
      {"replica": r, "fsdp": f, "context": c, "tensor": t} with r*f*c*t == num_devices.

    Raises:
      ValueError: an unknown axis, a size that is neither -1 nor positive, several -1, or sizes
        that do not cover the devices; the message says what to set.
    """
    given = dict(axes)
    unknown = sorted(set(given) - set(AXES))
    if unknown:
        raise ValueError(f"mesh has no axis {unknown[0]!r}: the axes are {', '.join(AXES)}")
    sizes = {name: int(given.get(name, 1)) for name in AXES}
    for name, size in sizes.items():
        if size < 1 and size != -1:
            raise ValueError(
                f"mesh axis {name}={size}: set --config.mesh.{name} to a positive number or to -1"
            )
    free = [name for name, size in sizes.items() if size == -1]
    if len(free) > 1:
        raise ValueError(
            f"mesh axes {' and '.join(free)} are both -1: "
            f"set --config.mesh.{free[1]} to a positive number"
        )
    fixed = math.prod(size for size in sizes.values() if size != -1)
    written = " x ".join(f"{name}={size}" for name, size in sizes.items())
    if free:
        if num_devices % fixed:
            largest = max((n for n in AXES if n not in free), key=lambda n: sizes[n])
            fitting = math.gcd(num_devices, sizes[largest])
            raise ValueError(
                f"mesh {written}: {num_devices} devices cannot be divided by {fixed}: "
                f"set --config.mesh.{largest}={fitting}"
            )
        sizes[free[0]] = num_devices // fixed
    elif fixed != num_devices:
        raise ValueError(
            f"mesh {written} = {fixed} devices but {num_devices} are there: "
            f"set {_mend(sizes, num_devices)}"
        )
    return sizes


def _mend(sizes: dict[str, int], num_devices: int) -> str:
    """The smallest change of the sizes that covers the devices, as command line flags."""
    for name in ("fsdp", "replica", "context", "tensor"):
        others = math.prod(size for other, size in sizes.items() if other != name)
        if num_devices % others == 0:
            return f"--config.mesh.{name}={num_devices // others}"
    return " ".join(f"--config.mesh.{name}={size}" for name, size in DEFAULT_AXES.items())


def make_mesh(axes: Any = None, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh (replica, fsdp, context, tensor) over the devices.

    Where the devices lie in several slices (pods, or hosts of GPUs), which only a slower network
    joins, the replicas are divided over the slices and all other axes stay inside of one.

    Axis types are Auto: `jax.make_mesh` alone would make them Explicit, under which a sharding
    constraint asserts instead of moving data.

    Args:
      axes: mapping from axis name to size, one -1 allowed; None is `DEFAULT_AXES`.
      devices: devices to cover; None is all devices of all processes.

    Raises:
      ValueError: see `resolve_axes`; replicas that do not divide over the slices of TPUs.
    """
    devices = processes.devices() if devices is None else list(devices)
    sizes = resolve_axes(DEFAULT_AXES if axes is None else axes, len(devices))
    shape, types = tuple(sizes[name] for name in AXES), (AxisType.Auto,) * len(AXES)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1 and _divides_over(slices, sizes, devices):
        return Mesh(_over_slices(shape, slices, devices), AXES, axis_types=types)
    try:
        return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
    except NotImplementedError:
        # A mesh axis that is no product of the chips' own axes (8 on 4x4x4): one of them is split.
        laid_out = create_device_mesh(shape, devices, allow_split_physical_axes=True)
        return Mesh(laid_out, AXES, axis_types=types)


def _divides_over(slices: int, sizes: Mapping[str, int], devices: Sequence[Any]) -> bool:
    """Whether the replicas do. Hosts of GPUs have a network that carries the other axes, too."""
    if sizes["replica"] % slices == 0:
        return True
    if devices[0].platform != "tpu":
        return False
    raise ValueError(
        f"the devices lie in {slices} slices and only replicas may lie in different ones, but "
        f"mesh axis replica={sizes['replica']}: set --config.mesh.replica to a multiple of {slices}"
    )


def _over_slices(shape: tuple[int, ...], slices: int, devices: Sequence[Any]) -> np.ndarray:
    inside, across = (shape[0] // slices, *shape[1:]), (slices, 1, 1, 1)
    try:
        return create_hybrid_device_mesh(inside, across, devices)
    except NotImplementedError:  # as in `make_mesh`
        return create_hybrid_device_mesh(inside, across, devices, allow_split_physical_axes=True)


def use_cpu_cores(devices: int = 0, most: int = 8) -> int:
    """Makes a CPU count as several devices, so that every core takes a share of the batch.

    XLA runs much of a small program on one core; data parallelism over devices uses the others.
    Must run before anything asks jax for a device; later it changes nothing. Accelerators are
    not affected.

    Args:
      devices: how many; 0 is the largest power of two that the cores and `most` allow (a power of
        two, because batches are).

    Returns:
      Devices of the CPU from now on.
    """
    if not devices:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        devices = 1 << (max(1, min(cores or 1, most)).bit_length() - 1)
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:  # the devices are in use already: a notebook, a test
        return jax.local_device_count("cpu")
    return devices


def to_global(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Joins the batch slices of all processes into arrays over the mesh.

    Args:
      batch: this process's part, numpy arrays with the batch dimension first; arrays without
        dimensions are copied to every device and must agree between processes.
      mesh: from `make_mesh`.

    Returns:
      The same keys; the batch dimension is split over replica x fsdp, the rest is whole.

    Raises:
      ValueError: a batch dimension that does not split over the mesh, or an entry of a type that
        cannot lie on a device.
    """
    ways = math.prod(mesh.shape[name] for name in BATCH_AXES)
    split = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
    whole = NamedSharding(mesh, PartitionSpec())
    out = {}
    for key, value in batch.items():
        array = np.asarray(value)
        if array.dtype.kind not in "biufcV":
            raise ValueError(
                f"batch[{key!r}] has type {array.dtype}: only numbers go to a device, "
                "keep strings in Batch.ids"
            )
        if array.ndim and (array.shape[0] * processes.count()) % ways:
            total = array.shape[0] * processes.count()
            raise ValueError(
                f"batch[{key!r}] with {total} examples does not split over replica x fsdp = "
                f"{ways} devices: set the batch size to a multiple of {ways}"
            )
        sharding = split if array.ndim else whole
        out[key] = jax.make_array_from_process_local_data(sharding, array)
    return out
