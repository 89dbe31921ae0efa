"""The pair of transformers of Wan 2.2 A14B."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from wan_reference import CONFIGS, inputs, state_arrays, torch_model

from tavid_jax import weights
from tavid_jax.models.wan import experts
from tavid_jax.models.wan.transformer import Wan

pytest.importorskip("torch")
pytest.importorskip("diffusers")

CONFIG = dataclasses.replace(CONFIGS["i2v-a14b"], num_layers=1)
BOUNDARY = 0.9
FOLDERS = {"high_noise": "transformer", "low_noise": "transformer_2"}


@pytest.mark.parametrize(
    ("timestep", "boundary", "name"),
    [
        (875, 0.875, "high_noise"),
        (874.999, 0.875, "low_noise"),
        (900, 0.9, "high_noise"),
        (899, 0.9, "low_noise"),
        (1000, 0.9, "high_noise"),
        (0, 0.9, "low_noise"),
    ],
)
def test_the_boundary_belongs_to_high_noise(timestep, boundary, name):
    assert experts.expert_at(timestep, boundary) == name


def test_published_boundaries():
    assert experts.BOUNDARIES == {"wan2.2-t2v-a14b": 0.875, "wan2.2-i2v-a14b": 0.9}


def test_how_many_steps_need_the_high_noise_expert():
    """Fifty steps of the published grid at shift 5: 21 of them at t >= 875."""
    sigmas = np.linspace(0.999, 0, 51)[:-1]
    timesteps = np.floor(1000 * 5 * sigmas / (1 + 4 * sigmas))
    assert experts.high_noise_steps(timesteps, 0.875) == 21
    assert experts.high_noise_steps([999, 900, 875], 0.9) == 2
    assert experts.high_noise_steps([], 0.9) == 0


@pytest.fixture(scope="module")
def pair():
    """({expert: the checkpoint's tensors}, parameters of both)."""
    states = {name: state_arrays(torch_model(CONFIG, i)) for i, name in enumerate(FOLDERS)}
    joined = {f"{name}/{k}": v for name, state in states.items() for k, v in state.items()}
    return states, weights.port("wan_experts_diffusers", joined, CONFIG)


def test_weights_of_the_pair(pair):
    states, params = pair
    for name, state in states.items():
        alone = weights.port("wan_diffusers", state, CONFIG)
        jax.tree.map(np.testing.assert_array_equal, params[name], alone)
    back = weights.export("wan_experts_diffusers", params, CONFIG)
    assert len(back) == 2 * len(states["high_noise"])


@functools.partial(jax.jit, static_argnums=0)
def alone(model, params, given, timestep):
    return model.apply({"params": params}, given["latents"], timestep, given["text"])


@functools.partial(jax.jit, static_argnums=0)
def together(model, params, given, timestep):
    given = given["latents"], timestep, given["text"]
    return experts.predict(model, params, *given, boundary=BOUNDARY).sample


@pytest.mark.parametrize(
    ("timestep", "name"),
    [
        ([900.0, 900.0], "high_noise"),
        ([899.9, 899.9], "low_noise"),
        # Per frame, the first one clean: the others decide.
        ([[0.0, 950.0, 950.0]] * 2, "high_noise"),
        ([[0.0, 500.0, 500.0]] * 2, "low_noise"),
    ],
)
def test_the_right_expert_serves_under_jit(pair, timestep, name: str):
    params, given, model = pair[1], inputs(CONFIG), Wan(CONFIG)
    timestep = jnp.array(timestep)
    want = {n: alone(model, p, given, timestep) for n, p in params.items()}
    got = together(model, params, given, timestep)
    np.testing.assert_allclose(got, want[name], rtol=1e-6, atol=1e-6)
    other = next(n for n in want if n != name)
    assert np.abs(got - want[other]).max() > 0.1
