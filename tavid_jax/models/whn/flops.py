"""Model FLOPs of WHN's track VAE and denoiser, see layers/flops.py."""

from __future__ import annotations

import math

from tavid_jax.models.layers.flops import Work
from tavid_jax.models.whn.config import WhnConfig, WhnVAEConfig
from tavid_jax.models.whn.denoiser import TIME_DIM


def vae_encode(work: Work, config: WhnVAEConfig, batch: int, frames: int, *, trained: bool) -> None:
    """`WhnVAE.encode` of windows of so many frames."""
    c, d, w = config, config.hidden, trained
    _embed(work, c, batch * frames, directions=False, w=w)
    _frame(work, c, batch, w)
    for block in range(c.encoder_depth):
        work.product(batch * c.frame_tokens, d, 2 * d, x=w, w=w)
        _attention_and_mlp(work, c, batch, frames, block, w)
    work.product(batch * frames * c.num_tokens, d, 2 * c.latent_channels, x=w, w=w)


def vae_decode(work: Work, config: WhnVAEConfig, batch: int, frames: int, *, trained: bool) -> None:
    """`WhnVAE.decode`."""
    c, d, w = config, config.hidden, trained
    rows = batch * frames * c.num_tokens
    work.product(rows, c.latent_channels, d, x=w, w=w)
    _frame(work, c, batch, w)
    for block in range(c.decoder_depth):
        work.product(batch * c.frame_tokens, d, 2 * d, x=w, w=w)
        _attention_and_mlp(work, c, batch, frames, block, w)
    work.product(rows, d, 2 * c.patch**2, x=w, w=w)


def denoise(work: Work, config: WhnConfig, batch: int, frames: int, *, text: bool) -> None:
    """`WhnDenoiser.__call__` and its gradient."""
    c, d = config, config.hidden
    live = dict(x=True, w=True)
    rows = batch * frames * c.num_tokens
    _frame(work, c, batch, True)
    if text:
        work.mlp(batch, c.text_dim, 4 * d, d, x=False, w=True)
    if c.raw:
        _embed(work, c, batch * frames, directions=True, w=True)
    else:
        work.product(rows, c.patch**2 * c.channels, d, x=False, w=True)
    work.mlp(batch, TIME_DIM, d, d, x=False, w=True)
    for block in range(c.depth):
        work.product(batch, d, 7 * d, **live)
        work.product(batch * c.frame_tokens, d, 2 * d, **live)
        _attention_and_mlp(work, c, batch, frames, block, True)
    work.product(batch, d, 2 * d, **live)
    work.product(rows, d, c.patch**2 * c.channels, **live)


def _embed(
    work: Work, config: WhnConfig | WhnVAEConfig, frames: int, *, directions: bool, w: bool
) -> None:
    """Positions of tracks, their Fourier features, patches of both."""
    c, dim = config, config.fourier_dim
    points = frames * math.prod(c.grid_hw)
    hidden = 4 * c.hidden
    live = work.product(points, 2, dim // 2, x=False, w=directions)
    live = work.mlp(points, dim, hidden, dim, x=live, w=w)
    work.product(frames * c.num_tokens, c.patch**2 * c.embed_channels, c.hidden, x=live, w=w)


def _frame(work: Work, config: WhnConfig | WhnVAEConfig, batch: int, w: bool) -> None:
    """The picture's features as tokens."""
    work.product(batch * config.frame_tokens, config.frame_dim, config.hidden, x=False, w=w)


def _attention_and_mlp(
    work: Work, config: WhnConfig | WhnVAEConfig, batch: int, frames: int, block: int, w: bool
) -> None:
    """Space, time, space, ...: self-attention, the picture, the MLP."""
    c, d, n = config, config.hidden, config.num_tokens
    rows = batch * frames * n
    for n_out in (d, 2 * d, d):
        work.product(rows, d, n_out, x=w, w=w)
    length, sequences = (n, batch * frames) if block % 2 == 0 else (frames, batch * n)
    work.attend(length, length, d, q=w, k=w, v=w, batch=sequences)
    for _ in range(2):
        work.product(rows, d, d, x=w, w=w)
    work.attend(frames * n, c.frame_tokens, d, q=w, k=w, v=w, batch=batch)
    work.mlp(rows, d, c.mlp_dim, d, x=w, w=w)
