"""FLOPs of CogVideoX's frozen video encoder, see layers/flops.py."""

from __future__ import annotations

import math

from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig
from tavid_jax.models.layers.flops import Work

_TAPS = 27  # of the causal convolutions
_PLANE = 9  # of those over space


def encode(
    work: Work,
    config: CogVideoXVAEConfig,
    batch: int,
    frames: int,
    size_hw: tuple[int, int],
) -> None:
    """Moments of videos of 4k + 1 frames (or 4k); chunks change nothing of it."""
    c, area, before = config, math.prod(size_hw), config.widths[0]

    def conv(taps: int, positions: int, n_in: int, n_out: int) -> None:
        work.product(batch * positions, taps * n_in, n_out, x=False, w=False)

    def residual(n_in: int, n_out: int) -> None:
        conv(_TAPS, frames * area, n_in, n_out)
        conv(_TAPS, frames * area, n_out, n_out)
        if n_in != n_out:
            conv(1, frames * area, n_in, n_out)

    conv(_TAPS, frames * area, 3, before)
    for level, width in enumerate(c.widths):
        for number in range(c.resnets):
            residual(width if number else before, width)
        before = width
        if level + 1 < len(c.widths):
            # Pairs of frames are averaged first; an odd number leaves the first one alone.
            frames = (frames + 1) // 2 if c.halves_time(level) else frames
            area //= 4
            conv(_PLANE, frames * area, width, width)
    for _ in range(2):
        residual(before, before)
    conv(_TAPS, frames * area, before, 2 * c.latent_channels)
