"""Constraints and tables on one device; tests/multi/parallel has eight."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import (
    PathTable,
    compiling_for,
    constrain,
    context_ways,
    padded_tokens,
    paths,
    shardings_for,
    target_platform,
)


def _program(mesh, x):
    f = jax.jit(lambda a: constrain(a + 1, "batch", "embed"))
    if mesh is None:
        return f.lower(x).as_text()
    with jax.set_mesh(mesh):
        return f.lower(x).as_text()


def test_constrain_adds_nothing_without_a_mesh_or_with_one_device():
    x = jnp.ones((4, 2))
    assert constrain(x, "batch", "embed") is x
    for mesh in (None, make_mesh({"fsdp": 1}, jax.devices()[:1])):
        text = _program(mesh, x)
        assert "sharding_constraint" not in text and "@Sharding" not in text


def test_constrain_checks_names_even_without_a_mesh():
    with pytest.raises(ValueError, match=r"'channels'.*batch, tokens, heads"):
        constrain(jnp.ones((2, 2)), "batch", "channels")
    with pytest.raises(ValueError, match=r"\(2, 2\).*per dimension"):
        constrain(jnp.ones((2, 2)), "batch")


def test_table_errors_name_rule_and_array():
    mesh = make_mesh({"fsdp": 1}, jax.devices()[:1])
    tree = {"block": {"kernel": jnp.zeros((2, 2, 2))}}
    with pytest.raises(ValueError, match=r"2 dimensions but block/kernel has shape \(2, 2, 2\)"):
        shardings_for(tree, mesh, PathTable(rules=((r"kernel", ("fsdp", None)),)))
    with pytest.raises(ValueError, match=r"mesh axis 'model'.*replica, fsdp"):
        shardings_for(tree, mesh, PathTable(rules=((r"kernel", ("model", None, None)),)))


def test_paths_and_one_device_placement():
    tree = {"a": [jnp.zeros(2**21), {"b": jnp.zeros(())}]}
    assert [path for path, _ in paths(tree)] == ["a/0", "a/1/b"]
    out = shardings_for(tree, make_mesh({"fsdp": 1}, jax.devices()[:1]))
    assert all(s.spec == P() for s in jax.tree.leaves(out))


def test_without_a_mesh_tokens_are_not_padded():
    assert context_ways() == 1 and padded_tokens(13) == 13


def test_programs_know_what_they_are_compiled_for():
    seen = []
    f = jax.jit(lambda x: seen.append(target_platform()) or x)
    f(0.0)
    with compiling_for("tpu"):
        f(0.0)  # traced again: the platform is part of the cache's key
    f(0.0)
    assert seen == [jax.default_backend(), "tpu"]
