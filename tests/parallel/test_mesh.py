"""Axis arithmetic, with whatever devices there are."""

import dataclasses

import jax
import numpy as np
import pytest

from tavid_jax.parallel import mesh
from tavid_jax.parallel.mesh import AXES, make_mesh, resolve_axes, to_global


def test_defaults_use_every_device():
    made = make_mesh()
    assert made.axis_names == AXES
    assert made.shape["fsdp"] == jax.device_count()


@pytest.mark.parametrize(
    "axes, count, expected",
    [
        ({"fsdp": -1}, 16, (1, 16, 1, 1)),
        ({"replica": -1, "fsdp": 4, "context": 2}, 16, (2, 4, 2, 1)),
        ({"fsdp": 1, "tensor": -1}, 6, (1, 1, 1, 6)),
        ({"replica": 2, "fsdp": 2, "context": 2, "tensor": 2}, 16, (2, 2, 2, 2)),
    ],
)
def test_resolve_axes(axes, count, expected):
    assert tuple(resolve_axes(axes, count)[name] for name in AXES) == expected


@pytest.mark.parametrize(
    "axes, count, message",
    [
        ({"model": 2}, 2, r"no axis 'model'"),
        ({"fsdp": 0}, 2, r"fsdp=0.*config\.mesh\.fsdp"),
        ({"fsdp": -1, "replica": -1}, 2, r"both -1"),
        ({"fsdp": 16}, 8, r"= 16 devices but 8 are there: set --config\.mesh\.fsdp=8"),
        ({"fsdp": 2, "tensor": 3}, 8, r"= 6 devices but 8 are there: set --config\.mesh\.tensor=4"),
        ({"fsdp": 3, "tensor": 3}, 8, r"are there: set .*--config\.mesh\.fsdp=-1"),
        ({"fsdp": -1, "tensor": 6}, 8, r"cannot be divided by 6: set --config\.mesh\.tensor=2"),
    ],
)
def test_errors_name_the_mend(axes, count, message):
    with pytest.raises(ValueError, match=message):
        resolve_axes(axes, count)


@dataclasses.dataclass(frozen=True)
class Chip:
    """What `make_mesh` looks at."""

    id: int
    slice_index: int
    platform: str = "gpu"
    device_kind: str = "fake"


def test_replicas_lie_over_slices():
    """Whatever the order of the devices: all other axes stay inside of a slice."""
    chips = [Chip(i, i % 2) for i in range(16)]
    laid_out = mesh._over_slices((4, 2, 2, 1), 2, chips)
    assert laid_out.shape == (4, 2, 2, 1)
    for replica, inside in enumerate(laid_out):
        assert {chip.slice_index for chip in inside.flat} == {replica // 2}
    assert {chip.id for chip in laid_out.flat} == set(range(16))


def test_slices_of_tpus_hold_whole_replicas():
    sizes = dict(replica=1, fsdp=16, context=1, tensor=1)
    hosts, pods = ([Chip(i, i // 8, name) for i in range(16)] for name in ("gpu", "tpu"))
    assert not mesh._divides_over(2, sizes, hosts)  # along fsdp, in the devices' own order
    with pytest.raises(ValueError, match=r"in 2 slices .*config\.mesh\.replica to a multiple of 2"):
        mesh._divides_over(2, sizes, pods)
    assert mesh._divides_over(2, sizes | dict(replica=2, fsdp=8), pods)


def test_strings_do_not_reach_a_device():
    with pytest.raises(ValueError, match=r"'id'.*strings"):
        to_global({"id": np.array(["a"])}, make_mesh({"fsdp": 1}, jax.devices()[:1]))
