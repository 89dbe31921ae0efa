"""What holds for every sampler: finite constant tables, value semantics, exact data, gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion.schedulers.ddim import DDIM, ddim
from tavid_jax.diffusion.schedulers.dpm import dpm
from tavid_jax.diffusion.schedulers.euler import euler
from tavid_jax.diffusion.schedulers.unipc import unipc

ALL = {
    "ddim": ddim,
    "ddim_next": functools.partial(ddim, previous="next", snr_shift=3),
    "dpm": dpm,
    "dpm_next": functools.partial(dpm, previous="next", snr_shift=3.0),
    "unipc": unipc,
    "unipc_diffusers": functools.partial(unipc, grid="diffusers", shift=3),
    "euler": euler,
    "euler_diffusers": functools.partial(euler, grid="diffusers", shift=12.0),
}
everywhere = pytest.mark.parametrize("make", ALL.values(), ids=ALL)
STEPS = (1, 2, 3, 4, 6, 7, 10, 30, 50, 61, 97, 333, 600, 667, 700, 1000)


@everywhere
@pytest.mark.filterwarnings("error")
def test_tables_are_finite_float64_of_one_length(make):
    for steps in STEPS:
        sampler = make(steps)
        assert sampler.steps == steps
        assert sampler.alphas.shape == sampler.sigmas.shape == (steps + 1,)
        assert np.all(np.diff(sampler.timesteps) <= 0)
        assert 0 <= sampler.timesteps.min() and sampler.timesteps.max() <= 1000
        for column in (sampler.timesteps, sampler.alphas, sampler.sigmas, *sampler.table.values()):
            assert column.dtype == np.float64 and np.isfinite(column).all()
            assert np.isfinite(column.astype(np.float32)).all()
        for column in sampler.table.values():
            assert column.shape == (steps,)
            assert np.abs(column).max() < 100


@everywhere
def test_samplers_are_values(make):
    sampler, again = make(6), make(6)
    assert sampler == again and hash(sampler) == hash(again)
    assert sampler != make(7)
    with pytest.raises(ValueError, match="read-only"):
        sampler.timesteps[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        next(iter(sampler.table.values()))[0] = 1
    traced = 0

    @functools.partial(jax.jit, static_argnums=0)
    def levels(sampler):
        nonlocal traced
        traced += 1
        return sampler.rows()["timestep"]

    np.testing.assert_array_equal(levels(sampler), levels(again))
    assert traced == 1


def test_kinds_and_options_make_other_samplers():
    assert len({make(10) for make in ALL.values()}) == len(ALL)
    assert ddim(10) == ddim(10, previous="next")  # 10 divides 1000
    assert ddim(10) != "ddim"


@everywhere
def test_rows_are_the_table(make):
    sampler = make(7)
    rows = sampler.rows(2, 5)
    assert set(rows) == {*sampler.table, "timestep", "index"}
    np.testing.assert_array_equal(rows["index"], [2, 3, 4])
    assert rows["index"].dtype == jnp.int32
    np.testing.assert_allclose(rows["timestep"], sampler.timesteps[2:5], rtol=1e-6)
    row = sampler.row(3)
    for name, column in rows.items():
        np.testing.assert_array_equal(row[name], column[1])
        assert name == "index" or column.dtype == jnp.float32


def known_data(sampler, data):
    """A model that sees the same data in whatever it is given."""

    def predict(x, i):
        # The inverse of x0 = a x + b v.
        a, b = sampler.table["x_to_x0"][i], sampler.table["v_to_x0"][i]
        return (data - a * x) / b

    return predict


@pytest.mark.parametrize("make", [ALL[name] for name in ALL if name not in ("ddim", "dpm")])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50])
def test_known_data_are_reached(make, steps):
    sampler = make(steps)
    rng = np.random.default_rng(0)
    data, x = rng.standard_normal((2, 2, 3))
    predict = known_data(sampler, data)
    with jax.enable_x64(True):
        state = sampler.init(jnp.asarray(x))
        for i in range(steps):
            row = sampler.row(i, jnp.float64)
            output = predict(state.x, i)
            np.testing.assert_allclose(sampler.x0_of(state.x, row, output), data, atol=1e-10)
            noise = jnp.asarray(rng.standard_normal(x.shape))
            state = sampler.step(state, row, output, noise)
        np.testing.assert_allclose(state.x, data, atol=1e-10)


@everywhere
def test_latents_stay_in_float32(make):
    sampler = make(3)
    x = jnp.ones((2, 3), jnp.bfloat16)
    state = sampler.init(x)
    state = sampler.step(state, sampler.row(0), x, jnp.ones((2, 3), jnp.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}


@everywhere
@pytest.mark.parametrize("steps", [0, -3])
def test_too_few_steps(make, steps):
    with pytest.raises(ValueError, match=f"steps={steps}"):
        make(steps)


def test_a_table_with_infinities_is_refused():
    good = ddim(3)
    columns = {**good.table, "x": np.array([0.1, np.inf, 0.0])}
    with pytest.raises(ValueError, match=r"x\[1\] = inf: must be finite"):
        DDIM(good.timesteps, good.alphas, good.sigmas, columns)
