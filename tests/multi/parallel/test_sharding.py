"""Placement on eight devices: constraints, path tables, global batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from tavid_jax.parallel.mesh import make_mesh, resolve_axes, to_global
from tavid_jax.parallel.sharding import (
    PathTable,
    batch_sharding,
    constrain,
    describe,
    shardings_for,
)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"replica": 2, "fsdp": -1, "context": 2, "tensor": 1})


def test_mesh_fills_the_free_axis_and_is_auto(mesh):
    assert dict(mesh.shape) == {"replica": 2, "fsdp": 2, "context": 2, "tensor": 1}
    assert all(kind == jax.sharding.AxisType.Auto for kind in mesh.axis_types)


def test_mesh_covers_given_devices_only():
    assert make_mesh({"fsdp": -1}, jax.devices()[:3]).size == 3


def _spec_after(mesh, x, *names):
    with jax.set_mesh(mesh):
        y = jax.jit(lambda a: constrain(a * 2, *names))(x)
    np.testing.assert_array_equal(y, 2 * np.asarray(x))
    return y.sharding.shard_shape(y.shape)


def test_constrain_places_activations(mesh):
    x = jnp.arange(8 * 6 * 3.0).reshape(8, 6, 3)
    assert _spec_after(mesh, x, "batch", "tokens", "embed") == (2, 3, 3)


def test_constrain_leaves_undivided_dimensions_whole(mesh):
    x = jnp.ones((2, 5, 3))
    # 2 examples: replica takes them, fsdp does not fit; 5 tokens do not split in two.
    assert _spec_after(mesh, x, "batch", "tokens", "embed") == (1, 5, 3)
    assert _spec_after(mesh, jnp.ones((3, 4)), "batch", None) == (3, 4)


def test_constrain_inside_shard_map_touches_auto_axes_only(mesh):
    def body(a):
        return constrain(a + 1, "batch", "embed")

    with jax.set_mesh(mesh):
        f = jax.shard_map(
            body,
            in_specs=P(("replica", "fsdp")),
            out_specs=P(("replica", "fsdp")),
            axis_names={"replica", "fsdp"},
        )
        y = jax.jit(f)(jnp.ones((8, 4)))
    np.testing.assert_array_equal(y, 2)


def test_fallback_splits_the_largest_divisible_dimension():
    mesh = make_mesh({"fsdp": 8})
    tree = {
        "big": jnp.zeros((3, 40, 24)),
        "odd": jnp.zeros((1001, 16)),
        "none": jnp.zeros((9, 1001)),
        "small": jnp.zeros((8,)),
        "scalar": jnp.zeros(()),
    }
    out = shardings_for(tree, mesh, PathTable(min_size=1000))
    assert out["big"].spec == P(None, "fsdp", None)
    assert out["odd"].spec == P(None, "fsdp")
    for name in ("none", "small", "scalar"):
        assert out[name].spec == P()
    placed = jax.device_put(tree, out)
    assert placed["big"].addressable_shards[0].data.shape == (3, 5, 24)


def test_rules_win_in_order_and_moments_follow():
    mesh = make_mesh({"fsdp": 4, "tensor": 2})
    table = PathTable(
        rules=(
            (r"attn/out/kernel$", ("tensor", "fsdp")),
            (r"kernel$", ("fsdp", ("tensor",))),
            (r"never", (None,)),
        )
    )
    params = {"attn": {"out": {"kernel": jnp.zeros((8, 8))}}, "mlp": {"kernel": jnp.zeros((8, 6))}}
    state = {"params": params, "opt": ({"mu": params},)}
    out = shardings_for(state, mesh, table)
    assert out["params"]["attn"]["out"]["kernel"].spec == P("tensor", "fsdp")
    assert out["opt"][0]["mu"]["mlp"]["kernel"].spec == P("fsdp", "tensor")
    assert table.unused(state) == ["never"]


def test_rule_axis_that_does_not_divide_is_dropped():
    mesh = make_mesh({"fsdp": 8})
    table = PathTable(rules=((r"kernel$", ("fsdp", None)),))
    assert shardings_for({"kernel": jnp.zeros((7, 8))}, mesh, table)["kernel"].spec == P()


def test_describe_names_every_array():
    mesh = make_mesh({"fsdp": 8})
    tree = {"a": {"kernel": jnp.zeros((8, 16))}, "b": jnp.zeros(())}
    text = describe(shardings_for(tree, mesh, PathTable(min_size=1)), tree)
    first, second = text.splitlines()
    assert first.split() == ["a/kernel", "8x16", "-,", "fsdp"]
    assert second.split() == ["b", "scalar", "everywhere"]


def test_init_is_sharded_from_the_start():
    mesh = make_mesh({"fsdp": 8})

    def init(key):
        return {"kernel": jax.random.normal(key, (64, 32))}

    key = jax.random.key(0)
    out = shardings_for(jax.eval_shape(init, key), mesh, PathTable(min_size=1))
    params = jax.jit(init, out_shardings=out)(key)
    assert params["kernel"].addressable_shards[0].data.shape == (8, 32)
    np.testing.assert_allclose(params["kernel"], init(key)["kernel"], rtol=1e-6)


def test_to_global_splits_the_batch(mesh):
    tracks = np.arange(8 * 3, dtype=np.float32).reshape(8, 3)
    out = to_global({"tracks": tracks, "scale": np.float32(3.0)}, mesh)
    np.testing.assert_array_equal(out["tracks"], tracks)
    assert out["tracks"].sharding.is_equivalent_to(batch_sharding(mesh), 2)
    assert out["scale"].shape == () and out["scale"].is_fully_replicated


def test_to_global_names_the_mend(mesh):
    with pytest.raises(ValueError, match=r"'tracks'.*6 examples.*multiple of 4"):
        to_global({"tracks": np.zeros((6, 2))}, mesh)


def test_errors_name_axis_and_mend():
    with pytest.raises(ValueError, match=r"= 16 devices but 8 are there.*config\.mesh\.fsdp=4"):
        make_mesh({"replica": 2, "fsdp": 8})
    with pytest.raises(ValueError, match=r"cannot be divided by 3.*config\.mesh\.replica=1"):
        make_mesh({"replica": 3, "fsdp": -1})
    assert resolve_axes({}, 1)["tensor"] == 1


def test_constrain_works_outside_jit(mesh):
    with jax.set_mesh(mesh):
        y = constrain(jnp.ones((8, 4)), "batch", "tokens")
    assert y.sharding.shard_shape(y.shape) == (2, 2)


def test_to_global_keeps_coordinates_in_float32(mesh):
    out = to_global({"x": np.zeros((4, 2), np.float64), "n": np.zeros(4, np.int64)}, mesh)
    assert out["x"].dtype == np.float32 and out["n"].dtype == np.int32
