"""The four samplers beside diffusers': one random model, loops in torch and in Python with ours."""

import functools
from unittest import mock

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers.schedulers import scheduling_dpm_cogvideox

from tavid_jax.diffusion.schedulers.sampler import Sampler

SHAPE = (2, 3, 4, 5)


def start(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE)


def model(seed: int):
    """A nonlinear function of the latent that mixes its channels and depends on the timestep."""
    rng = np.random.default_rng(1000 + seed)
    mix, bend = rng.standard_normal((2, SHAPE[-1], SHAPE[-1]))
    return lambda x, t: np.tanh(x @ mix + t / 300) @ bend + 0.3 * np.cos(x + t)


def replayed_noise(steps: int, seed: int) -> np.ndarray:
    """What diffusers' DPM uses of a generator's draws: one, and of two draws the second.

    It draws two in all steps but the first and one that lands on clean data.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = functools.partial(torch.randn, SHAPE, generator=generator, dtype=torch.float64)
    used = []
    for t in dpm_peer(steps).timesteps:
        z = draw()
        if used and t - 1000 // steps >= 0:
            z = draw()
        used.append(z.numpy())
    return np.stack(used)


def _cogvideox(kind, steps, snr_shift):
    scheduler = kind(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        set_alpha_to_one=True,
        snr_shift_scale=snr_shift,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    scheduler.set_timesteps(steps)
    return scheduler


def ddim_peer(steps: int, snr_shift: float = 1.0):
    return _cogvideox(diffusers.CogVideoXDDIMScheduler, steps, snr_shift)


def dpm_peer(steps: int, snr_shift: float = 1.0):
    return _cogvideox(diffusers.CogVideoXDPMScheduler, steps, snr_shift)


def unipc_peer(steps: int, shift: float = 5.0, sigmas=None):
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    scheduler.set_timesteps(steps if sigmas is None else None, sigmas=sigmas)
    scheduler.set_begin_index(0)  # else it looks timesteps up, and some occur twice
    return scheduler


def euler_peer(steps: int, shift: float = 5.0):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    return scheduler


def run_theirs(scheduler, x: np.ndarray, predict, dtype, seed: int = 0) -> np.ndarray:
    """All states of a run, the start first.

    Args:
      predict: (x, t, i) -> output, numpy.
      dtype: of the latents; float64 also makes the flow samplers compute their factors in it.
      seed: of DPM's noise, drawn in float64 whatever the latents' type.
    """
    if hasattr(scheduler, "sigmas"):
        scheduler.sigmas = scheduler.sigmas.to(dtype)
    generator = torch.Generator().manual_seed(seed)
    x, x0, states = torch.from_numpy(x).to(dtype), None, [x]
    for i, t in enumerate(scheduler.timesteps):
        output = torch.from_numpy(np.asarray(predict(x.numpy(), float(t), i))).to(dtype)
        if isinstance(scheduler, diffusers.CogVideoXDPMScheduler):
            back = scheduler.timesteps[i - 1] if i else None
            with mock.patch.object(scheduling_dpm_cogvideox, "randn_tensor", drawn_in_float64):
                x, x0 = scheduler.step(output, x0, t, back, x, generator=generator)
        else:
            x = scheduler.step(output, t, x, return_dict=False)[0]
        states.append(x.numpy())
    return np.stack(states)


def drawn_in_float64(shape, generator, device, dtype):
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def run_ours(
    sampler: Sampler, x: np.ndarray, predict, dtype=jnp.float32, noise: np.ndarray | None = None
) -> np.ndarray:
    """The same with ours, step by step."""
    state, states = sampler.init(jnp.asarray(x, dtype)), [x]
    for i in range(sampler.steps):
        row = sampler.row(i, dtype)
        output = predict(np.asarray(state.x), float(row["timestep"]), i)
        z = None if noise is None else jnp.asarray(noise[i], dtype)
        state = sampler.step(state, row, jnp.asarray(output, dtype), z)
        states.append(np.asarray(state.x))
    return np.stack(states)


def assert_equal_runs(peer, sampler: Sampler, seed: int, noise: np.ndarray | None = None) -> None:
    """Parity over a whole run.

    In float64 each side asks the model at its own states. In float32 both are given the outputs of
    the float64 run: ours must be within 1e-6 of theirs or else of the truth, up to 50 steps, and
    rounding grows with more of them.
    """
    predict = model(seed)
    np.testing.assert_array_equal(sampler.timesteps, peer().timesteps.double().numpy())
    expected = run_theirs(peer(), start(seed), lambda x, t, i: predict(x, t), torch.float64, seed)
    with jax.enable_x64(True):
        exact = run_ours(
            sampler, start(seed), lambda x, t, i: predict(x, t), jnp.float64, noise=noise
        )
    assert exact.dtype == np.float64
    assert worst(exact, expected) <= 1e-12

    outputs = [predict(x, t) for x, t in zip(expected, sampler.timesteps, strict=False)]
    ours = run_ours(sampler, start(seed), lambda x, t, i: outputs[i], noise=noise)
    theirs = run_theirs(peer(), start(seed), lambda x, t, i: outputs[i], torch.float32, seed)
    assert min(worst(ours, theirs), worst(ours, expected)) <= 1e-6 * max(1, sampler.steps / 50)


def worst(states: np.ndarray, expected: np.ndarray) -> float:
    """Largest error of any state, in units of that state's root mean square."""
    axes = tuple(range(1, expected.ndim))
    rms = np.sqrt((expected**2).mean(axes))
    return float((np.abs(states - expected).max(axes) / rms).max())
