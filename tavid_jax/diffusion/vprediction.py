"""Variance-preserving diffusion with v-prediction, as CogVideoX is trained (arXiv:2408.06072).

x_t = sqrt(a_t) x0 + sqrt(1 - a_t) eps and v = sqrt(a_t) eps - sqrt(1 - a_t) x0, where a_t is the
product of (1 - beta) up to step t. Tables are made on the host in float64.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tavid_jax.diffusion.paths import over_time

NUM_STEPS = 1000


def zero_snr_alphas(
    snr_shift: float | int = 1.0,
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
    num_steps: int = NUM_STEPS,
) -> Float[np.ndarray, " S"]:
    """a_t for t = 0 .. num_steps - 1, float64; the last one is exactly zero.

    Betas are evenly spaced in their square root; then the signal-to-noise ratio is shifted,
    a <- a / (s + (1 - s) a), and only then rescaled to end in pure noise (arXiv:2305.08891).

    Args:
      snr_shift: s; 3 for CogVideoX-2B, 1 for the others.
    """
    betas = np.linspace(beta_start**0.5, beta_end**0.5, num_steps, dtype=np.float64) ** 2
    alphas = np.cumprod(1.0 - betas)
    alphas = alphas / (snr_shift + (1.0 - snr_shift) * alphas)
    roots = np.sqrt(alphas)
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    return roots**2


def alpha_at(timestep: Float[Array, "*B"], snr_shift: float | int = 1.0) -> Float[Array, "*B"]:
    """a_t at timesteps 0 .. 999, the nearest step of the table, float32."""
    table = jnp.asarray(zero_snr_alphas(snr_shift), jnp.float32)
    return table[jnp.round(timestep).astype(jnp.int32)]


def add_noise(
    x0: Float[Array, "B *x"], noise: Float[Array, "B *x"], alpha: Float[Array, " B"]
) -> Float[Array, "B *x"]:
    """x_t, float32."""
    alpha = over_time(alpha.astype(jnp.float32), x0.ndim)
    return jnp.sqrt(alpha) * x0.astype(jnp.float32) + jnp.sqrt(1.0 - alpha) * noise


def velocity_target(
    x0: Float[Array, "B *x"], noise: Float[Array, "B *x"], alpha: Float[Array, " B"]
) -> Float[Array, "B *x"]:
    """v, float32."""
    alpha = over_time(alpha.astype(jnp.float32), x0.ndim)
    return jnp.sqrt(alpha) * noise - jnp.sqrt(1.0 - alpha) * x0.astype(jnp.float32)
