"""UniPC against diffusers, and its order on a flow that is known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion.schedulers.unipc import unipc
from tests.diffusion.schedulers import gaussian


@pytest.mark.parity
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 7, 10, 30, 37, 50, 99])
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 16.0])
def test_diffusers(steps, shift):
    pytest.importorskip("diffusers")
    from tests.diffusion.schedulers import peers

    sampler = unipc(steps, shift=shift, grid="diffusers")
    peers.assert_equal_runs(lambda: peers.unipc_peer(steps, shift), sampler, seed=steps)


@pytest.mark.parity
@pytest.mark.parametrize("steps", [6, 31])
def test_wan_grid_with_diffusers_solver(steps):
    """The two publishers' solvers are one; only their grids differ."""
    pytest.importorskip("diffusers")
    import torch

    from tests.diffusion.schedulers import peers

    sampler = unipc(steps)

    def peer():
        scheduler = peers.unipc_peer(steps)
        scheduler.sigmas = torch.from_numpy(sampler.sigmas.copy())
        scheduler.timesteps = torch.from_numpy(sampler.timesteps.astype(np.int64))
        return scheduler

    peers.assert_equal_runs(peer, sampler, seed=steps)


@pytest.mark.parity
def test_sigmas_of_ones_own_in_diffusers():
    pytest.importorskip("diffusers")
    from tests.diffusion.schedulers import peers

    levels = [0.9375, 0.8125, 0.75, 0.5, 0.0625]  # exact in float32, where theirs are kept
    sampler = unipc(5, sigmas=levels)
    peers.assert_equal_runs(lambda: peers.unipc_peer(5, 1.0, np.array(levels)), sampler, seed=0)


@pytest.mark.parametrize(
    ("steps", "options"),
    [(80, {"shift": 1.0}), (160, {"shift": 3.0})],
)
def test_second_order(steps, options):
    """The larger the shift, the longer the last steps, and the later the order shows."""
    measured = gaussian.order(unipc, steps, **options)
    assert 1.7 < measured < 2.3, measured


def test_pure_noise_as_the_limit():
    """The first sigma may be 1: everything is the limit of levels just below."""
    exact, near = (unipc(5, sigmas=[top, 0.8, 0.6, 0.4, 0.2]) for top in (1.0, 1 - 1e-15))
    for name, column in exact.table.items():
        # lam = ln(1e-15) is still only -34.
        np.testing.assert_allclose(column, near.table[name], atol=0.02, err_msg=name)
    assert exact.table["rho"][1] == 0 and exact.table["rho_before"][2] == 0


def test_levels_that_nearly_coincide():
    """Weights of the corrector go to those of the trapezoidal rule's kin, without lost digits."""
    levels = np.linspace(0.5, 0.5 - 1e-7, 6)
    table = unipc(6, sigmas=levels).table
    np.testing.assert_allclose(table["rho"][1:5], -0.5, atol=1e-6)
    np.testing.assert_allclose(table["rho_new"][2:5], 5 / 12, atol=1e-6)
    np.testing.assert_allclose(table["rho_before"][2:5], -1 / 12, atol=1e-6)


def test_the_model_is_asked_at_the_predicted_latent():
    """A wrong model output must be seen by the corrector only in part: x and last differ."""
    sampler, x = unipc(4), jnp.ones((1, 3))
    state = sampler.init(x)
    np.testing.assert_array_equal(state.x, state.last)
    for i in range(2):
        state = sampler.step(state, sampler.row(i), jnp.sin(state.x + i))
    assert float(jnp.abs(state.x - state.last).max()) > 1e-3
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, sampler.init(x))
