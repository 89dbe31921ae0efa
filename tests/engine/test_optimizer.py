"""Schedules by value, optimizers by what they do to a quadratic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from tavid_jax.engine.optimizer import OPTIMIZERS, make_optimizer, make_schedule
from tests.engine import toy


def config(**changes) -> ConfigDict:
    return ConfigDict(toy.optimizer(**changes))


def test_warm_up_starts_above_zero_and_ends_at_the_peak():
    schedule = make_schedule(config(lr=1.0, warmup=4, schedule="constant"), 10)
    np.testing.assert_allclose([schedule(i) for i in range(6)], [0.25, 0.5, 0.75, 1, 1, 1])


def test_decays_end_where_they_should():
    cosine = make_schedule(config(lr=2.0, warmup=2, schedule="cosine", final=0.1), 12)
    linear = make_schedule(config(lr=2.0, warmup=2, schedule="linear", final=0.1), 12)
    for schedule in (cosine, linear):
        np.testing.assert_allclose(schedule(2), 2.0)
        np.testing.assert_allclose(schedule(12), 0.2, rtol=1e-6)
        np.testing.assert_allclose(schedule(7), 1.1, rtol=1e-6)  # half way
    np.testing.assert_allclose(linear(4), 2.0 - 0.2 * 1.8, rtol=1e-6)


def test_trapezoid_is_flat_until_its_decay():
    schedule = make_schedule(
        config(lr=2.0, warmup=2, schedule="trapezoid", final=0.1, decay=0.25), 20
    )
    found = [float(schedule(i)) for i in (0, 1, 2, 15, 16, 20, 30)]
    fifth = 2.0 - 1.8 / 5
    np.testing.assert_allclose(found, [1.0, 2.0, 2.0, 2.0, fifth, 0.2, 0.2], rtol=1e-6)
    # All of the stage may go down, from the end of the warm-up on.
    whole = make_schedule(config(lr=2.0, warmup=0, schedule="trapezoid", final=0.1, decay=1), 18)
    np.testing.assert_allclose([whole(0), whole(9), whole(18)], [2.0, 1.1, 0.2], rtol=1e-6)


def test_a_warm_up_of_one_or_no_step():
    np.testing.assert_allclose(make_schedule(config(lr=1.0, warmup=0), 5)(0), 1.0)
    np.testing.assert_allclose(make_schedule(config(lr=1.0, warmup=1), 5)(0), 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(schedule="step"), "optimizer.schedule 'step'"),
        (dict(warmup=11), r"optimizer.warmup 11 must lie in 0..steps \(10\)"),
        (
            dict(schedule="trapezoid", warmup=9),
            "optimizer.decay 0.25 of 10 steps and a warm-up of 9",
        ),
        (dict(schedule="trapezoid", decay=0), "decay is the share of the steps that go down"),
        (dict(name="lion"), "optimizer.name 'lion'"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        make_optimizer(config(**changes), 10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_down_a_quadratic(name: str):
    target = {
        "layers": {"kernel": jnp.ones((3, 4, 6)), "bias": jnp.ones((3, 6))},
        "scale": jnp.ones(5),
    }
    optimizer = make_optimizer(config(name=name, lr=0.05, warmup=0, schedule="constant"), 60)

    def loss(params):
        squares = jax.tree.map(lambda a, b: ((a - b) ** 2).sum(), params, target)
        return sum(jax.tree.leaves(squares))

    @jax.jit
    def update(params, state):
        changes, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, changes), state

    params = jax.tree.map(jnp.zeros_like, target)
    state, before = optimizer.init(params), loss(params)
    for _ in range(60):
        params, state = update(params, state)
    assert loss(params) < 0.2 * before


def test_clipping_by_global_norm_and_none():
    params, grads = {"w": jnp.zeros(4)}, {"w": jnp.full(4, 10.0)}
    for clip, norm in ((1.0, 0.1), (0.0, 2.0)):
        optimizer = make_optimizer(
            config(name="sgd", lr=0.1, clip=clip, warmup=0, b1=0.0, schedule="constant"), 10
        )
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        np.testing.assert_allclose(jnp.linalg.norm(updates["w"]), norm, rtol=1e-5)
