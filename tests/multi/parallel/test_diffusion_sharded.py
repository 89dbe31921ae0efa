"""Noise, losses and solvers of a batch over eight devices equal those on one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import losses, onpolicy, solvers, sources, times
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import batch_sharding, constrain

CLIPS = 16


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"replica": 2, "fsdp": 4})


def _inputs():
    keys = jax.random.split(jax.random.key(0), CLIPS)
    last = jax.random.normal(jax.random.key(1), (CLIPS, 6, 4))
    z1 = jax.random.normal(jax.random.key(2), (CLIPS, 3, 6, 4))
    visible = jax.random.uniform(jax.random.key(3), (CLIPS, 3, 6)) < 0.3
    return keys, last, z1, visible


@jax.jit
def _step(keys, last, z1, visible):
    first, second = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    z0 = constrain(sources.draw_source(first, last, 3), "batch", "time", "tokens", "embed")
    t = times.sample_times(second)
    weights = losses.token_weights(visible)

    def velocity(z, t):
        return jnp.tanh(z) - t[:, None, None, None]

    ends = onpolicy.sub_batch((z0, z1, weights), 8)
    rolled = onpolicy.on_policy(velocity, *ends)
    flow = losses.flow_matching(velocity(z0, t), z1 - z0, weights)
    whole = losses.combine([(1.0, flow), (0.1, rolled.rollout), (0.1, rolled.endpoint)])
    return (
        z0,
        t,
        whole,
        solvers.integrate(velocity, z0),
        solvers.integrate(velocity, z0, method="dopri5"),
    )


def test_eight_devices_agree_with_one(mesh):
    inputs = _inputs()
    alone = _step(*inputs)
    with jax.set_mesh(mesh):
        spread = _step(*jax.device_put(inputs, batch_sharding(mesh)))
    assert spread[0].sharding.shard_shape(spread[0].shape)[0] == CLIPS // 8
    np.testing.assert_array_equal(spread[1], alone[1])
    for ours, theirs in zip(jax.tree.leaves(spread), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def test_sub_batch_moves_nothing_between_devices(mesh):
    x = jax.ShapeDtypeStruct((CLIPS, 12), jnp.float32, sharding=batch_sharding(mesh))
    place = batch_sharding(mesh)
    spread = jax.jit(lambda a: onpolicy.sub_batch(a, 8), out_shardings=place).lower(x).compile()
    head = jax.jit(lambda a: a[:8], out_shardings=place).lower(x).compile()
    moves = re.compile(r"all-gather|all-to-all|collective-permute|all-reduce")
    assert not moves.search(spread.as_text())
    assert moves.search(head.as_text())  # taking the first clips would have moved data
