"""A step of fine-tuning on eight devices equals the same step on one."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.engine import trees
from tavid_jax.engine.placement import split_trainable
from tavid_jax.engine.program import Program
from tavid_jax.methods.registry import make_system
from tavid_jax.parallel.mesh import make_mesh, to_global
from tavid_jax.parallel.sharding import shardings_for
from tests.methods.finetune import tiny

ONE = dict(replica=1, fsdp=1, context=1, tensor=1)
# Heads over `tensor` and tokens over `context`: 18 of them, two of four heads on each device.
ALL = dict(replica=1, fsdp=2, context=2, tensor=2)


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    """These tests compile a lot and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def method_of(name: str):
    """(method, stage): four heads, everything split however small, plain gradient descent."""
    config = tiny.config(name)
    config.model.changes.num_heads = 4
    stage = config.stages.finetune
    stage.optimizer.update(name="sgd", lr=1.0, schedule="constant", warmup=0, clip=0.0)
    stage.optimizer.weight_decay = 0.0
    method = make_system(config).method("finetune")
    method.sharding = dataclasses.replace(method.sharding, min_size=1)
    return method, stage


def one_step(name: str, axes: dict[str, int]) -> tuple[float, dict[str, np.ndarray], list[int]]:
    """Loss, adapters behind the step, and on how many devices each frozen weight is split."""
    method, stage = method_of(name)
    mesh = make_mesh(axes, devices=jax.devices()[: int(np.prod(list(axes.values())))])
    program = Program(method, stage, mesh)
    params = tiny.random_params(method)
    batch = {k: np.asarray(v) for k, v in tiny.batch_of(method.encoded_spec()).items()}
    with jax.set_mesh(mesh):
        trainable, frozen = split_trainable(
            method, jax.device_put(params, shardings_for(params, mesh, method.sharding))
        )
        like = program.abstract_state(trainable)
        places = jax.tree.map(lambda leaf: leaf.sharding, like)
        state = jax.jit(program.build, out_shardings=places)(trainable, jax.random.key(5))
        state, metrics = program.jitted_step(like)(state, frozen, to_global(batch, mesh))
    ways = [
        x.size // int(np.prod(x.sharding.shard_shape(x.shape))) for x in jax.tree.leaves(frozen)
    ]
    return float(metrics["loss"]), trees.flatten(jax.device_get(state.trainable)), ways


@pytest.mark.parametrize("name", ["cogvideox i2v", "wan i2v"])
def test_a_step_on_eight_devices_is_that_of_one(name: str):
    loss, adapters, whole = one_step(name, ONE)
    spread_loss, spread, ways = one_step(name, ALL)
    assert set(whole) == {1} and {2, 4} <= set(ways)  # weights over fsdp, and over tensor too
    np.testing.assert_allclose(spread_loss, loss, rtol=1e-5)
    method, _ = method_of(name)
    begun = trees.flatten(split_trainable(method, tiny.random_params(method))[0])
    for path, x in spread.items():
        slope, wanted = (np.asarray(y - begun[path]) for y in (x, adapters[path]))
        error = np.sqrt(np.mean((slope - wanted) ** 2) / np.mean(wanted**2))
        assert error < 1e-4, f"{path}: {error:.1e}"


def test_a_sampling_step_on_eight_devices_is_that_of_one():
    """With one timestep per latent frame."""
    found: dict[str, Any] = {}
    for label, axes in (("one", ONE), ("all", ALL)):
        method, _ = method_of("wan ti2v")
        params, batch = tiny.random_params(method), tiny.batch_of(method.sample_spec())
        batch["timestep"] = jnp.array([700.0, 20.0])
        mesh = make_mesh(axes, devices=jax.devices()[: int(np.prod(list(axes.values())))])
        with jax.set_mesh(mesh):
            placed = jax.device_put(params, shardings_for(params, mesh, method.sharding))
            given = to_global({k: np.asarray(v) for k, v in batch.items()}, mesh)
            rng = jax.random.split(jax.random.key(0), 2)
            found[label] = np.asarray(jax.jit(method.sample_step)(placed, given, rng)["video"])
    np.testing.assert_allclose(found["all"], found["one"], rtol=1e-4, atol=1e-4)
