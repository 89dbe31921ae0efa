"""Flow-matching Euler against diffusers, a plain loop, and its order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion.schedulers.euler import euler
from tests.diffusion.schedulers import gaussian


@pytest.mark.parity
@pytest.mark.parametrize("steps", [1, 6, 7, 10, 30, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_diffusers(steps, shift):
    """Its class works in float32 whatever it is given, so that is where both are compared."""
    pytest.importorskip("diffusers")
    import torch

    from tests.diffusion.schedulers import peers

    model, x = peers.model(steps), peers.start(steps)
    sampler = euler(steps, shift=shift, grid="diffusers")
    outputs = []

    def recorded(x, t, i):
        outputs.append(model(x, t))
        return outputs[-1]

    expected = peers.run_theirs(peers.euler_peer(steps, shift), x, recorded, torch.float32)
    ours = peers.run_ours(sampler, x, lambda x, t, i: outputs[i])
    assert peers.worst(ours, expected) <= 1e-7


def test_a_plain_loop_in_float64():
    sampler, x = euler(10), np.random.default_rng(0).standard_normal((2, 3))
    with jax.enable_x64(True):
        state = sampler.init(jnp.asarray(x))
        for i in range(10):
            state = sampler.step(state, sampler.row(i, jnp.float64), jnp.cos(3 * state.x))
    for now, after in zip(sampler.sigmas[:-1], sampler.sigmas[1:], strict=True):
        x = x + (after - now) * np.cos(3 * x)
    np.testing.assert_allclose(state.x, x, rtol=1e-13)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_first_order(shift):
    measured = gaussian.order(euler, 160, shift=shift)
    assert 0.8 < measured < 1.2, measured
