"""Exactness, orders of convergence, held slots, and one traced model per solve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import solvers

FIXED = ("euler", "heun", "rk4")


def _z0():
    return jax.random.normal(jax.random.key(0), (2, 3, 4))


@pytest.mark.parametrize("method", solvers.METHODS)
@pytest.mark.parametrize("steps", [1, 10])
def test_constant_velocity_is_exact(method, steps):
    z0 = _z0()
    out = solvers.integrate(lambda z, t: jnp.full_like(z, 2.5), z0, method=method, steps=steps)
    np.testing.assert_allclose(out, z0 + 2.5, rtol=1e-6, atol=1e-6)


def _error(method, steps):
    """Largest error for z' = 2tz, whose solution is z(1) = e z0."""
    z0 = jnp.array([[1.0, -0.5]])
    out = solvers.integrate(
        lambda z, t: 2 * t[:, None] * z, z0, method=method, steps=steps, t_eps=0.0
    )
    return float(jnp.abs(out - z0 * np.e).max())


@pytest.mark.parametrize("method, order, steps", [("euler", 1, 64), ("heun", 2, 8), ("rk4", 4, 4)])
def test_order_of_convergence(method, order, steps):
    measured = np.log2(_error(method, steps) / _error(method, 2 * steps))
    assert abs(measured - order) < 0.2, measured


def test_dopri5_meets_its_tolerance():
    assert _error("dopri5", 1) < 2e-5
    z0 = _z0()
    decay = solvers.integrate(lambda z, t: -4 * z, z0, method="dopri5")
    np.testing.assert_allclose(decay, z0 * np.exp(-4.0), atol=5e-5)


def test_dopri5_adapts():
    z0 = _z0()

    def steps(rate, tolerance):
        return int(solvers.dopri5(lambda z, t: -rate * z, z0, rtol=tolerance, atol=tolerance)[1])

    assert 1 <= steps(1.0, 1e-5) < steps(30.0, 1e-5)
    assert steps(8.0, 1e-2) < steps(8.0, 1e-6)


def test_euler_equals_a_written_loop():
    z0 = _z0()

    def velocity(z, t):
        return jnp.sin(3 * z) + t[:, None, None]

    z = z0
    for k in range(7):
        z = z + velocity(z, jnp.full(2, np.clip(k / 7, 1e-5, 1 - 1e-5))) / 7
    np.testing.assert_allclose(solvers.integrate(velocity, z0, steps=7), z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", solvers.METHODS)
def test_times_are_clamped_one_per_clip_and_states_float32(method):
    seen = []

    def velocity(z, t):
        assert z.dtype == jnp.float32 and t.shape == (2,) and t.dtype == jnp.float32
        jax.debug.callback(lambda value: seen.append(float(value)), t[0])
        return z.astype(jnp.bfloat16)

    out = solvers.integrate(velocity, _z0().astype(jnp.bfloat16), method=method, steps=3)
    jax.effects_barrier()
    assert out.dtype == jnp.float32
    assert min(seen) == pytest.approx(1e-5) and max(seen) <= 1 - 1e-5 + 1e-7
    if method in FIXED:
        assert len(seen) == solvers.evaluations(method, 3)


@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("steps", [1, 20])
def test_the_model_is_traced_once_however_many_steps(method, steps):
    traced = []

    def velocity(z, t):
        traced.append(1)
        return -z

    program = jax.jit(lambda z: solvers.integrate(velocity, z, method=method, steps=steps))
    text = program.lower(_z0()).as_text()
    assert len(traced) == 1
    assert text.count("stablehlo.while") == 1


@pytest.mark.parametrize("method", solvers.METHODS)
def test_first_slot_is_held(method):
    z0, first = _z0(), jnp.full((2, 4), 9.0)
    seen = []

    def velocity(z, t):
        jax.debug.callback(lambda slot: seen.append(np.asarray(slot)), z[:, 0])
        return jnp.ones_like(z)

    out = solvers.integrate(velocity, z0, method=method, steps=4, first=first)
    jax.effects_barrier()
    np.testing.assert_array_equal(out[:, 0], first)
    np.testing.assert_allclose(out[:, 1:], z0[:, 1:] + 1, rtol=1e-5, atol=1e-5)
    assert seen and all(np.array_equal(slot, first) for slot in seen)


def test_euler_is_differentiable():
    gradient = jax.grad(lambda a: solvers.integrate(lambda z, t: a * z, _z0()).sum())(1.0)
    expected = jax.grad(lambda a: (_z0() * (1 + a / 10) ** 10).sum())(1.0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


def test_errors_name_solver_and_steps():
    with pytest.raises(ValueError, match=r"'midpoint'.*euler, heun, rk4, dopri5"):
        solvers.integrate(lambda z, t: z, _z0(), method="midpoint")
    with pytest.raises(ValueError, match=r"heun with steps=0"):
        solvers.integrate(lambda z, t: z, _z0(), method="heun", steps=0)
