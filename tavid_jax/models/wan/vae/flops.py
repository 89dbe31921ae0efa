"""FLOPs of Wan's frozen video encoders, see layers/flops.py."""

from __future__ import annotations

import math

from tavid_jax.models.layers.flops import Work
from tavid_jax.models.wan.vae.config import WanVAEConfig

_TAPS = 27  # of the convolutions over space and time
_PLANE = 9  # of those over space
_TIME = 3  # of those over time


def encode(
    work: Work, config: WanVAEConfig, batch: int, frames: int, size_hw: tuple[int, int]
) -> None:
    """Moments of videos of 1 + 4k frames; chunks change nothing of it."""
    c = config
    area = math.prod(side // c.patch for side in size_hw)
    stages = c.encoder_stages

    def conv(taps: int, positions: int, n_in: int, n_out: int) -> None:
        work.product(batch * positions, taps * n_in, n_out, x=False, w=False)

    def residual(positions: int, n_in: int, n_out: int) -> None:
        conv(_TAPS, positions, n_in, n_out)
        conv(_TAPS, positions, n_out, n_out)
        if n_in != n_out:
            conv(1, positions, n_in, n_out)

    conv(_TAPS, frames * area, c.pixel_channels, stages[0].dim_in)
    for stage in stages:
        for number in range(stage.blocks):
            residual(frames * area, stage.dim if number else stage.dim_in, stage.dim)
        if stage.factor_hw == 1:
            continue
        area //= stage.factor_hw**2
        conv(_PLANE, frames * area, stage.dim, stage.dim_out)
        if stage.factor_t > 1:  # the first frame passes by
            halved = (frames - 1) // stage.factor_t
            conv(_TIME, halved * area, stage.dim, stage.dim_out)
            frames = 1 + halved
    dim, positions = stages[-1].dim_out, frames * area
    for _ in range(2):
        residual(positions, dim, dim)
    conv(1, positions, dim, 3 * dim)
    work.attend(area, area, dim, q=False, k=False, v=False, batch=batch * frames)
    conv(1, positions, dim, dim)
    conv(_TAPS, positions, dim, 2 * c.latent_channels)
    conv(1, positions, 2 * c.latent_channels, 2 * c.latent_channels)
