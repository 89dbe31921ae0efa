"""Model FLOPs of TrajLoom's three models, see layers/flops.py. Trained, they are trained whole.

Letters: B windows or clips, T frames, L latent frames, N tokens of a frame, D width.
"""

from __future__ import annotations

from tavid_jax.models.latte.flow_config import TrackFlowConfig
from tavid_jax.models.latte.vae import TEMPORAL_KERNEL, TrackVAEConfig
from tavid_jax.models.latte.visibility import VisibilityConfig
from tavid_jax.models.layers.flops import Work


def vae_encode(work: Work, config: TrackVAEConfig, batch: int, *, trained: bool) -> None:
    """`TrackVAE.encode` of fields that are constant over each cell."""
    c, d, w = config, config.hidden, trained
    if c.use_offsets:
        work.product(1, 2 * c.patch**2, d, x=False, w=w)
    work.product(batch * c.num_frames * c.num_tokens, 2, d, x=False, w=w)
    # Where a cell is: fixed directions, then an MLP; the same for all windows.
    work.product(c.num_tokens, 2, c.pos_embed_dim // 2, x=False, w=False)
    pos = c.pos_embed_dim
    live = work.mlp(c.num_tokens, pos, 4 * pos, pos, x=False, w=w)
    work.product(c.num_tokens, pos, d, x=live, w=w)
    _axial(work, c, batch, c.num_frames, range(c.encoder_depth // 2), w)
    rows = batch * c.num_latent_frames * c.num_tokens
    if c.use_temp_compress:
        work.product(rows, TEMPORAL_KERNEL * d, d, x=w, w=w)
    blocks = range(c.encoder_depth // 2, c.encoder_depth)
    _axial(work, c, batch, c.num_latent_frames, blocks, w, first=c.encoder_depth // 2)
    work.product(rows, d, 2 * c.latent_channels, x=w, w=w)


def vae_decode(
    work: Work, config: TrackVAEConfig, batch: int, *, trained: bool, dense: bool
) -> None:
    """`TrackVAE.decode` of one pixel per cell, or of all of them."""
    c, d, w = config, config.hidden, trained
    rows = batch * c.num_latent_frames * c.num_tokens
    work.product(rows, c.latent_channels, d, x=w, w=w)
    _axial(work, c, batch, c.num_latent_frames, range(c.decoder_depth // 2), w)
    if c.use_temp_compress:
        reach = TEMPORAL_KERNEL // 2
        padded = c.num_latent_frames + 2 * (reach if c.temporal_stride <= reach else 0)
        work.product(batch * padded * c.num_tokens, d, TEMPORAL_KERNEL * d, x=w, w=w)
    blocks = range(c.decoder_depth // 2, c.decoder_depth)
    _axial(work, c, batch, c.num_frames, blocks, w, first=c.decoder_depth // 2)
    outputs = 2 * c.patch**2 if dense else 2
    work.product(batch * c.num_frames * c.num_tokens, d, outputs, x=w, w=w)


def _axial(
    work: Work,
    config: TrackVAEConfig,
    batch: int,
    frames: int,
    blocks: range,
    w: bool,
    first: int = 0,
) -> None:
    """Blocks at one frame rate: space, time, space, ..."""
    c, d, rows = config, config.hidden, batch * frames * config.num_tokens
    for number in blocks:
        work.product(rows, d, 3 * d, x=w, w=w)
        _along(work, (number - first) % 2 == 0, batch, frames, c.num_tokens, d, w)
        work.product(rows, d, d, x=w, w=w)
        work.mlp(rows, d, c.mlp_dim, d, x=w, w=w)


def _along(work: Work, space: bool, batch: int, frames: int, tokens: int, d: int, w: bool) -> None:
    """Attention among the tokens of a frame, or the frames of a token."""
    length, sequences = (tokens, batch * frames) if space else (frames, batch * tokens)
    work.attend(length, length, d, q=w, k=w, v=w, batch=sequences)


def flow_evaluate(work: Work, config: TrackFlowConfig, batch: int, *, text: bool) -> None:
    """`TrackFlow.__call__` and its gradient."""
    flow_context(work, config, batch, text=text)
    for block in range(config.depth):
        _flow_keys(work, config, batch, block)
    flow_velocity(work, config, batch)


def flow_rollout(
    work: Work, config: TrackFlowConfig, batch: int, steps: int, *, text: bool
) -> None:
    """K evaluations with one context, whose keys and values are made once; no gradient goes from
    one state to the next."""
    flow_context(work, config, batch, text=text)
    for block in range(config.depth):
        _flow_keys(work, config, batch, block)
    for _ in range(steps):
        flow_velocity(work, config, batch)


def flow_context(work: Work, config: TrackFlowConfig, batch: int, *, text: bool) -> None:
    """What is known of the past, as tokens."""
    c, d = config, config.hidden
    rows = batch * c.num_latent_frames * c.num_tokens
    given = [(rows, c.latent_channels), (batch, 2 * c.latent_channels)]
    given += [(rows, 1)] if c.use_hist_vis_cond else []
    given += [(rows, c.video_channels), (batch, c.video_channels)] if c.use_video_cond else []
    given += [(batch, c.text_dim)] if text else []
    for count, n_in in given:
        work.product(count, n_in, d, x=False, w=True)


def _is_space(config: TrackFlowConfig, block: int) -> bool:
    """The stack holds (space, time) pairs."""
    del config
    return block % 2 == 0


def _context_length(config: TrackFlowConfig, space: bool) -> int:
    """Keys that a token, or a whole window, attends to."""
    c = config
    both = c.use_video_cond and c.video_ctx_mode == "concat"
    frames = c.num_latent_frames * (2 if both else 1)
    if not space or c.spatial_ctx_mode == "time_mean":
        return frames
    if c.spatial_ctx_mode == "none":
        return 0
    slots = c.spatial_ctx_last_k * (2 if both and c.spatial_ctx_include_video else 1)
    rows, columns = (-(-side // c.spatial_ctx_pool) for side in c.grid_hw)
    return slots * rows * columns


def _flow_keys(work: Work, config: TrackFlowConfig, batch: int, block: int) -> None:
    space = _is_space(config, block)
    length = _context_length(config, space)
    rows = batch * length * (1 if space else config.num_tokens)
    work.product(rows, config.hidden, 2 * config.hidden, x=True, w=True)


def flow_velocity(work: Work, config: TrackFlowConfig, batch: int) -> None:
    """All that depends on the state, keys and values of the context being there."""
    c, d = config, config.hidden
    frames, tokens = c.num_latent_frames, c.num_tokens
    rows = batch * frames * tokens
    work.product(rows, c.latent_channels, d, x=False, w=True)
    work.mlp(batch, d, 4 * d, d, x=False, w=True)
    live = dict(x=True, w=True)
    for block in range(c.depth):
        space = _is_space(c, block)
        work.product(batch, d, 9 * d, **live)
        work.product(rows, d, 3 * d, **live)
        _along(work, space, batch, frames, tokens, d, True)
        work.product(rows, d, d, **live)
        keys = _context_length(c, space)
        if keys:
            asking, sequences = (frames * tokens, batch) if space else (frames, batch * tokens)
            work.product(rows, d, d, **live)
            work.attend(asking, keys, d, q=True, k=True, v=True, batch=sequences)
            work.product(rows, d, d, **live)
        work.mlp(rows, d, c.mlp_dim, d, **live)
    work.product(rows, d, c.latent_channels, **live)


def visibility(work: Work, config: VisibilityConfig, rows: int) -> None:
    """The head on so many latent tokens, and its gradient."""
    c = config
    work.product(rows, c.in_channels, c.hidden, x=False, w=True)
    for _ in range(c.depth):
        work.product(rows, c.kernel_size * c.hidden, c.hidden, x=True, w=True)
    work.product(rows, c.hidden, 1, x=True, w=True)
