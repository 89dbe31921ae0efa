"""Programs for several devices: bytes of one of them, work of all of them."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tavid_jax.parallel import ahead
from tavid_jax.parallel.flops import count


@pytest.mark.parametrize(("axes", "ways"), [({"fsdp": -1}, 8), ({"fsdp": 2, "context": 4}, 2)])
def test_bytes_are_per_chip(axes: dict[str, int], ways: int):
    mesh = ahead.topology_mesh("cpu:8", axes)
    split = NamedSharding(mesh, P("fsdp"))
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=split)
    w = jax.ShapeDtypeStruct((32, 32), jnp.float32)
    report = ahead.compile_for("cpu:8", lambda x, w: jnp.sum(x @ w), x, w, mesh=mesh)
    assert report.chips == 8
    assert report.arguments_bytes == 4 * (64 * 32 // ways + 32 * 32)
    assert report.collectives == {"all-reduce": 1}


def test_donated_arguments_are_not_counted_twice():
    mesh = ahead.topology_mesh("cpu:8")
    x = jax.ShapeDtypeStruct((1024, 32), jnp.float32, sharding=NamedSharding(mesh, P("fsdp")))
    kept = ahead.compile_for("cpu:8", lambda x: x + 1, x, mesh=mesh)
    donated = ahead.compile_for("cpu:8", lambda x: x + 1, x, mesh=mesh, donate_argnums=0)
    assert kept.peak_bytes - donated.peak_bytes == kept.arguments_bytes


def test_a_part_of_the_host_is_enough():
    x = jax.ShapeDtypeStruct((8,), jnp.float32)
    assert ahead.compile_for("cpu:4", lambda x: x * 2, x).chips == 4


def test_work_in_shard_map_is_that_of_all_devices():
    mesh = ahead.topology_mesh("cpu:8", {"fsdp": 2, "context": 4})
    x, w = jax.ShapeDtypeStruct((8, 4), jnp.float32), jax.ShapeDtypeStruct((4, 4), jnp.float32)
    whole = count(lambda x, w: x @ w, x, w).flops
    for axes in (("fsdp",), ("fsdp", "context")):
        split = jax.shard_map(
            lambda x, w: x @ w,
            mesh=mesh,
            in_specs=(P(axes), P()),
            out_specs=P(axes),
            axis_names={*axes},
        )
        assert count(split, x, w).flops == whole
