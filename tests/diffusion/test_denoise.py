"""The scan: equal to a loop, in segments, with noise, guidance and held elements; its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion.denoise import denoise
from tavid_jax.diffusion.guidance import dynamic_cfg
from tavid_jax.diffusion.paths import per_clip_normal
from tavid_jax.diffusion.schedulers.registry import make_sampler

SAMPLERS = {
    "ddim": make_sampler("ddim", 7, family="cogvideox"),
    "dpm": make_sampler("dpm", 7, family="cogvideox"),
    "dpm_next": make_sampler("dpm", 5, family="cogvideox", previous="next"),
    "unipc": make_sampler("unipc", 7, family="wan"),
    "unipc_sigmas": make_sampler("unipc", 5, family="wan", sigmas=[1, 0.9, 0.7, 0.4, 0.1]),
    "euler": make_sampler("euler", 7, family="wan"),
}
everywhere = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
SHAPE = (2, 3, 4)
START = jax.random.normal(jax.random.key(0), SHAPE)
KEYS = jax.random.split(jax.random.key(1), SHAPE[0])


def predict(x, timestep, row, weight=1.0):
    return jnp.tanh(weight * x @ jnp.eye(4)[::-1] + timestep / 300) + 0.1 * row["index"] * x


def jitted(predict, sampler, x, **options):
    return jax.jit(lambda x: denoise(predict, sampler, x, **options))(x)


def close(a, b, atol=2e-6):
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=atol, rtol=1e-5), a, b)


@everywhere
def test_the_scan_is_a_loop_jitted_or_not(sampler):
    state = sampler.init(START)
    for i in range(sampler.steps):
        row = sampler.row(i)
        keys = jax.vmap(jax.random.fold_in, (0, None))(KEYS, i)
        output = predict(state.x, jnp.float32(sampler.timesteps[i]), row)
        state = sampler.step(state, row, output, per_clip_normal(keys, SHAPE[1:]))
    close(denoise(predict, sampler, START, noise=KEYS), state)
    close(jitted(predict, sampler, START, noise=KEYS), state)


@everywhere
def test_segments_continue(sampler):
    whole = jitted(predict, sampler, START, noise=KEYS)
    state = START
    for start, stop in ((0, 0), (0, 1), (1, 3), (3, 3), (3, None)):
        state = jitted(predict, sampler, state, noise=KEYS, start=start, stop=stop)
    close(state, whole, atol=1e-6)


def test_one_expert_after_the_other():
    sampler = make_sampler("unipc", 12, family="wan")
    boundary = int((sampler.timesteps >= 875).sum())
    assert 0 < boundary < 12

    def both(x, timestep, row):
        return jnp.where(timestep >= 875, jnp.sin(x), jnp.cos(x))

    high = jitted(lambda x, t, row: jnp.sin(x), sampler, START, stop=boundary)
    low = jitted(lambda x, t, row: jnp.cos(x), sampler, high, start=boundary)
    close(low, jitted(both, sampler, START))


def test_the_model_is_traced_once_and_told_the_schedule():
    traced, told = 0, []
    sampler = SAMPLERS["unipc"]

    def recorded(x, timestep, row):
        nonlocal traced
        traced += 1
        jax.debug.callback(lambda t, i: told.append((int(i), float(t))), timestep, row["index"])
        return x

    jax.block_until_ready(jitted(recorded, sampler, START))
    jax.effects_barrier()
    assert traced == 1
    assert sorted(told) == list(enumerate(sampler.timesteps))


def test_replayed_noise_is_that_of_its_step():
    sampler = SAMPLERS["dpm"]
    folded = [jax.vmap(jax.random.fold_in, (0, None))(KEYS, i) for i in range(7)]
    replayed = jnp.stack([per_clip_normal(keys, SHAPE[1:]) for keys in folded])
    drawn = jitted(predict, sampler, START, noise=KEYS)
    close(jitted(predict, sampler, START, noise=replayed), drawn)
    half = jitted(predict, sampler, START, noise=replayed, stop=4)
    close(jitted(predict, sampler, half, noise=replayed, start=4), drawn)
    assert float(jnp.abs(jitted(predict, sampler, START, noise=-replayed).x - drawn.x).max()) > 0.1


def test_a_clips_noise_does_not_depend_on_its_batch():
    whole = jitted(predict, SAMPLERS["dpm"], START, noise=KEYS)
    alone = jitted(predict, SAMPLERS["dpm"], START[1:], noise=KEYS[1:])
    close(alone, jax.tree.map(lambda leaf: leaf[1:], whole))


@pytest.mark.parametrize("scales", [1, 2])
def test_guidance_reaches_its_step(scales):
    sampler = SAMPLERS["euler"]
    guidance = dynamic_cfg(6, sampler.timesteps)
    guidance = guidance if scales == 1 else np.stack([guidance, -guidance], axis=1)

    def guided(x, timestep, row):
        assert row["guidance"].shape == guidance.shape[1:]
        return x * 0 + row["guidance"].sum() + (row["guidance"].ravel()[0] if scales == 2 else 0)

    out = jitted(guided, sampler, START, guidance=guidance, stop=5)
    out = jitted(guided, sampler, out, guidance=guidance, start=5)
    expected = START + (sampler.table["change"] * dynamic_cfg(6, sampler.timesteps)).sum()
    close(out.x, expected, atol=1e-5)
    assert "guidance" not in sampler.rows()


@everywhere
def test_held_elements_stay_and_touch_no_others(sampler):
    """A clean first latent frame: the rest is as if the model alone had seen it."""
    clean = jnp.full((2, 1, 4), 0.7)

    def project(x):
        return jnp.concatenate([clean, x[:, 1:]], axis=1)

    held = jitted(predict, sampler, START, noise=KEYS, project=project).x
    np.testing.assert_array_equal(held[:, :1], clean)
    seen = jitted(lambda x, t, row: predict(project(x), t, row), sampler, START, noise=KEYS).x
    close(held[:, 1:], seen[:, 1:])


@everywhere
def test_gradients_are_finite_and_no_nan_passes_by(sampler):
    def loss(weight, x):
        weighted = functools.partial(predict, weight=weight)
        return jnp.square(denoise(weighted, sampler, x, noise=KEYS).x).mean()

    with jax.debug_nans(True), jax.debug_infs(True):
        gradients = jax.jit(jax.grad(loss, (0, 1)))(1.0, START)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))
    assert float(gradients[0]) != 0
    step = 1e-2
    numeric = (loss(1 + step, START) - loss(1 - step, START)) / (2 * step)
    np.testing.assert_allclose(gradients[0], numeric, rtol=0.05, atol=1e-3)


def test_half_precision_in_float32_out():
    out = jitted(
        lambda x, t, row: x.astype(jnp.bfloat16), SAMPLERS["unipc"], START.astype(jnp.bfloat16)
    )
    assert out.x.dtype == jnp.float32
    assert denoise(predict, SAMPLERS["euler"], np.asarray(START)).x.shape == SHAPE


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("euler", {"stop": 8}, r"steps \[0:8\] are not within the schedule's 7"),
        ("euler", {"start": 3, "stop": 2}, r"steps \[3:2\] are not within"),
        ("euler", {"start": -1}, r"steps \[-1:7\] are not within"),
        ("unipc", {"start": 3}, r"start=3: needs the state that steps \[0:3\] returned"),
        ("dpm", {}, r"DPM\(steps=7\) is stochastic: noise must be one key per clip"),
        ("dpm", {"noise": KEYS[:1]}, r"keys of the noise: shape \(1,\) must begin with \(2,\)"),
        ("dpm", {"noise": jnp.zeros((6, *SHAPE))}, r"replayed noise: shape \(6, 2, 3, 4\) must"),
        ("euler", {"guidance": np.ones(6)}, r"guidance: shape \(6,\) must begin with \(7,\)"),
    ],
)
def test_bad_input(name, options, match):
    with pytest.raises(ValueError, match=match):
        denoise(predict, SAMPLERS[name], START, **options)
