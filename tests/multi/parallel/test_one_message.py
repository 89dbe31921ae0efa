"""Sums over eight devices as one vector: those of the compiler, by one reduction."""

import functools

import jax
import numpy as np
import pytest

from tavid_jax.engine import program
from tavid_jax.engine.placement import initialise, split_trainable
from tavid_jax.engine.program import Program
from tavid_jax.parallel.ahead import count_collectives
from tavid_jax.parallel.mesh import make_mesh, to_global
from tavid_jax.parallel.one_message import is_worth_it
from tavid_jax.parallel.sharding import PathTable
from tests.engine import toy


class Whole(toy.Fit):
    sharding = PathTable()  # small parameters, on every device


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_one_reduction_gives_the_same_step(monkeypatch: pytest.MonkeyPatch, micro_batches: int):
    mesh = make_mesh(dict(replica=2, fsdp=4))
    stage = toy.toy_config(batch_size=16, micro_batches=micro_batches).stages.fit
    batch = to_global(next(toy.ToyInputs().batches([], None, batch_size=16, seed=0)).arrays, mesh)
    seen = {}
    for worth in (False, True):
        monkeypatch.setattr(program, "is_worth_it", lambda *_, worth=worth: worth)
        made = Program(Whole(), stage, mesh)
        key = jax.random.key(0)
        params = initialise(Whole(), key, mesh, {"stats": {"stats": statistics()}})
        trainable, frozen = split_trainable(made.method, params)
        like = made.abstract_state(trainable)
        places = jax.tree.map(lambda leaf: leaf.sharding, like)
        with jax.set_mesh(mesh):
            state = jax.jit(made.build, out_shardings=places)(trainable, key)
            step = made.jitted_step(state).lower(state, frozen, batch).compile()
            seen[worth] = (count_collectives(step.as_text()), step(state, frozen, batch))
    assert seen[True][0] == {"all-reduce": 1}
    (want, _), (got, _) = seen[False][1], seen[True][1]
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, got.trainable, want.trainable)
    jax.tree.map(functools.partial(close), seen[True][1][1], seen[False][1][1])


def statistics() -> dict[str, np.ndarray]:
    return {"mean": np.zeros(toy.DIM, np.float32), "std": np.ones(toy.DIM, np.float32)}


def test_one_process_needs_no_message():
    mesh = make_mesh()
    assert not is_worth_it(mesh, {})
