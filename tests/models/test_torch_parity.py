"""Equality with the PyTorch restatement on random weights: sizes and options vary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_reference as reference

from tavid_jax import weights
from tavid_jax.models.latte.flow import TrackFlow, TrackFlowConfig
from tavid_jax.models.latte.vae import TrackVAE, TrackVAEConfig
from tavid_jax.models.latte.visibility import VisibilityConfig, VisibilityHead

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5

VAES = {
    "odd_sizes": dict(size_hw=(12, 20), patch=4, num_frames=9, decoder_depth=4),
    "absolute": dict(use_offsets=False, num_frames=5, latent_channels=1),
    # Stride 2: here the edge padding before the transposed convolution shows.
    "stride_two": dict(num_frames=7, temporal_stride=2, encoder_depth=4),
    "stride_five": dict(num_frames=11, temporal_stride=5),
    "no_compression": dict(use_temp_compress=False, num_frames=4, encoder_depth=4),
    # Halves of five and three blocks: a scan over two pairs, and a block left over.
    "odd_halves": dict(encoder_depth=10, decoder_depth=6),
    "one_frame": dict(num_frames=1, size_hw=(3, 6)),
}


def vae_config(**changes) -> TrackVAEConfig:
    base = dict(size_hw=(9, 6), patch=3, num_frames=5, latent_channels=5, hidden=12, heads=3)
    base |= dict(mlp_ratio=2.5, encoder_depth=2, decoder_depth=2, pos_embed_dim=6)
    return TrackVAEConfig(**base | changes)


@pytest.mark.parametrize("name", VAES)
def test_vae(name, rng, relative_error):
    config = vae_config(**VAES[name])
    torch_vae = reference.randomise(reference.Vae(config), seed=1)
    params = weights.port("trajloom_vae", reference.state_dict(torch_vae), config)
    model = TrackVAE(config)
    field = rng.uniform(-1, 1, (2, config.num_frames, *config.size_hw, 2)).astype(np.float32)
    cells = rng.uniform(-1, 1, (2, config.num_frames, *config.grid_hw, 2)).astype(np.float32)
    rasterised = cells.repeat(config.patch, 2).repeat(config.patch, 3)

    @jax.jit
    def run(field, cells):
        variables = {"params": params}
        dense = model.apply(variables, field, method=model.encode_dense)
        folded = model.apply(variables, cells, method=model.encode)
        return dense, folded, model.apply(variables, dense.mean, method=model.decode_dense)

    dense, folded, decoded = run(field, cells)
    with torch.no_grad():
        want = torch_vae.encode(torch.tensor(np.moveaxis(field, -1, 2)))
        want_folded = torch_vae.encode(torch.tensor(np.moveaxis(rasterised, -1, 2)))
        want_decoded = torch_vae.decode(want[0])
    for got, expected in ((dense, want), (folded, want_folded)):
        assert relative_error(got.mean, expected[0]) < TOLERANCE
        assert relative_error(got.std, expected[1]) < TOLERANCE
    assert relative_error(np.moveaxis(decoded, -1, 2), want_decoded) < TOLERANCE


FLOWS = {
    "released": dict(depth=4),
    "sum_add_last": dict(video_ctx_mode="sum", track_fusion="add_last", temporal_first=False),
    "pooled_two": dict(spatial_ctx_pool=2, spatial_ctx_last_k=2, use_overlap=True),
    "pooled_three_sum": dict(spatial_ctx_pool=3, spatial_ctx_last_k=3, video_ctx_mode="sum"),
    "tracks_only_context": dict(spatial_ctx_include_video=False, video_fusion="add_last"),
    "time_mean": dict(spatial_ctx_mode="time_mean", track_fusion_use_time_gate=False),
    "no_spatial_context": dict(spatial_ctx_mode="none", track_fusion="none", depth=4),
    "gate_for_video_only": dict(track_fusion="none", video_fusion="add_last"),
    "history_only": dict(use_video_cond=False, use_text_cond=False, num_frames=9),
    "no_visibility": dict(use_hist_vis_cond=False, spatial_ctx_mode="time_mean"),
    "stride_two": dict(temporal_stride=2, num_frames=7, use_text_cond=False),
}


def flow_config(**changes) -> TrackFlowConfig:
    base = dict(size_hw=(15, 9), patch=3, num_frames=13, latent_channels=3, hidden=12, heads=2)
    base |= dict(depth=2, mlp_ratio=3.5, video_channels=4, text_dim=7)
    return TrackFlowConfig(**base | changes)


def flow_inputs(config, rng, batch=2):
    """z, t, history, visibility, video, text; None where switched off."""
    grid = (batch, config.num_latent_frames, config.num_tokens)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return (
        normal(*grid, config.latent_channels),
        rng.uniform(0, 1, batch).astype(np.float32),
        normal(*grid, config.latent_channels),
        (rng.uniform(size=grid) < 0.6).astype(np.float32) if config.use_hist_vis_cond else None,
        normal(*grid, config.video_channels) if config.use_video_cond else None,
        normal(batch, config.text_dim) if config.use_text_cond else None,
    )


@pytest.mark.parametrize("name", FLOWS)
def test_flow(name, rng, relative_error):
    config = flow_config(**FLOWS[name])
    torch_flow = reference.randomise(reference.Flow(config), seed=2)
    params = weights.port("trajloom_flow", reference.state_dict(torch_flow), config)
    inputs = flow_inputs(config, rng)
    model = TrackFlow(config)
    got = jax.jit(lambda *a: model.apply({"params": params}, *a))(*inputs)
    with torch.no_grad():
        want = torch_flow(*(None if a is None else torch.tensor(a) for a in inputs))
    assert relative_error(got, want) < TOLERANCE


def test_flow_conditions_not_given(rng, relative_error):
    """None: zeros for visibility and video (bias stays), no term at all for text."""
    config = flow_config(video_fusion="add_last")
    torch_flow = reference.randomise(reference.Flow(config), seed=3)
    params = weights.port("trajloom_flow", reference.state_dict(torch_flow), config)
    inputs = flow_inputs(config, rng)[:3]
    model = TrackFlow(config)
    got = jax.jit(lambda *a: model.apply({"params": params}, *a))(*inputs)
    with torch.no_grad():
        want = torch_flow(*map(torch.tensor, inputs))
    assert relative_error(got, want) < TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [dict(), dict(use_hist_last=True), dict(use_hist_last=True, use_delta=True, kernel_size=5)],
    ids=["future", "last", "delta"],
)
def test_visibility(changes, rng, relative_error):
    config = VisibilityConfig(latent_channels=3, hidden=7, depth=2, **changes)
    torch_head = reference.randomise(reference.Visibility(config), seed=4)
    params = weights.port("trajloom_visibility", reference.state_dict(torch_head), config)
    future = rng.normal(size=(2, 6, 5, 3)).astype(np.float32)
    last = rng.normal(size=(2, 5, 3)).astype(np.float32)
    inputs = (future, last) if config.use_hist_last else (future,)
    got = VisibilityHead(config).apply({"params": params}, *map(jnp.asarray, inputs))
    with torch.no_grad():
        want = torch_head(*map(torch.tensor, inputs))
    assert relative_error(got, want) < TOLERANCE
