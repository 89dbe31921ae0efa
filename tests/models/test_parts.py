"""Fields walked over in parts give what whole fields give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.latte import parts
from tavid_jax.models.latte.context import Compact, KeysValues, repeat_context
from tavid_jax.models.latte.flow import TrackFlow, TrackFlowConfig
from tavid_jax.models.latte.vae import TrackVAE, TrackVAEConfig
from tavid_jax.parallel.mesh import make_mesh

SIZES = dict(size_hw=(6, 9), patch=3, num_frames=9, latent_channels=5, hidden=12, heads=2)
FLOW = TrackFlowConfig(**SIZES, depth=4, mlp_ratio=2.0, video_channels=4, text_dim=7)
VAE = TrackVAEConfig(**SIZES, encoder_depth=4, decoder_depth=4, pos_embed_dim=8)
GRID = (2, 3, 6)  # B, L, N


def change(**changes) -> TrackFlowConfig:
    return TrackFlowConfig(**{**vars(FLOW), **changes})


def forecast(config: TrackFlowConfig, params, numbers: int | None) -> tuple:
    """(the context, the velocity that it gives)."""
    keys = jax.random.split(jax.random.key(3), 4)
    z, history = (jax.random.normal(key, (*GRID, 5)) for key in keys[:2])
    seen = jax.random.bernoulli(keys[2], 0.5, GRID).astype(jnp.float32)
    video = jax.random.normal(keys[3], (*GRID, 4)) if config.use_video_cond else None
    given = (history, seen if config.use_hist_vis_cond else None, video)
    model = TrackFlow(config)

    @jax.jit
    def run(params):
        own = {"params": params}
        context = model.apply(own, *given, method="context")
        return context, model.apply(own, z, jnp.array([0.1, 0.8]), context, method="velocity")

    with parts.at_once(numbers):
        return run(params)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(dict(), marks=pytest.mark.slow),
        dict(video_ctx_mode="sum", spatial_ctx_mode="none"),
        pytest.param(dict(use_video_cond=False, use_hist_vis_cond=False), marks=pytest.mark.slow),
    ],
    ids=["concat", "sum", "tracks alone"],
)
def test_a_flow_in_parts(changes, randomised, relative_error):
    config = change(**changes)
    latents, times = jnp.zeros((*GRID, 5)), jnp.zeros(2)
    init = jax.jit(lambda key: TrackFlow(config).init(key, latents, times, latents)["params"])
    params = randomised(init(jax.random.key(0)))
    context, whole = forecast(config, params, None)
    compact, walked = forecast(config, params, 2 * GRID[0] * GRID[1] * FLOW.hidden)
    assert isinstance(context.temporal, KeysValues) and isinstance(compact.temporal, Compact)
    assert relative_error(walked, whole) < 1e-5
    again = repeat_context(compact, 2)
    assert again.batch_size == 4 and again.temporal.inputs.shape[0] == 4


@pytest.mark.parametrize("numbers", [1, 2 * 9 * 12], ids=["one sequence", "some"])
def test_a_vae_in_parts(numbers, randomised, relative_error):
    model = TrackVAE(VAE)
    tracks = jax.random.normal(jax.random.key(1), (1, 9, 2, 3, 2))
    params = randomised(jax.jit(model.init)(jax.random.key(0), tracks)["params"])
    run = jax.jit(lambda params: model.apply({"params": params}, tracks))
    whole = run(params)
    with parts.at_once(numbers):
        assert relative_error(run(params), whole) < 1e-5


@pytest.mark.parametrize("axis, free", [("space", 1), ("time", 2)])
def test_parts_are_what_the_budget_says(axis, free):
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    along = jnp.arange(2 * x.shape[free] * 5.0).reshape(2, x.shape[free], 5)
    held = []

    def block(x, along):
        held.append(x.shape)
        weight = along.sum(-1)
        return x * (weight[:, :, None, None] if axis == "space" else weight[:, None, :, None])

    whole = parts.over_sequences(block, x, along, axis=axis)
    with parts.at_once(2 * x.size // x.shape[free] + 1):
        walked = parts.over_sequences(block, x, along, axis=axis)
    np.testing.assert_array_equal(walked, whole)
    assert held[0] == x.shape and held[-1][free] == 2


def test_sizes_divide():
    assert parts.part_size(390, 10**9) == 390  # nobody asks for parts
    with parts.at_once(1000):
        assert parts.part_size(390, 40) == 15  # 25 would fit
        assert parts.part_size(7, 500) == 1
        assert parts.part_size(7, 5000) == 1


@pytest.mark.parametrize("budget", [None, 1, 40, 1000])
def test_samples_and_examples_in_groups(budget):
    """Five samples of two numbers of width 4 in two clips: one, two or all at a time."""
    z, t = jnp.arange(20.0).reshape(2, 5, 2, 1), jnp.arange(10.0).reshape(2, 5)
    with parts.at_once(budget):
        got = parts.over_samples(lambda z, t: z * t[:, None, None], z, t, width=4)
        np.testing.assert_array_equal(got, z * t[:, :, None, None])
        each = parts.by_example(lambda z: z[:, 0] + 1, z, 20)
        np.testing.assert_array_equal(each, z[:, 0] + 1)


def test_only_a_single_cpu_wants_parts(monkeypatch):
    mesh = make_mesh(devices=jax.devices()[:1])
    assert parts.choose(mesh) == parts.NUMBERS["cpu"]
    monkeypatch.delitem(parts.NUMBERS, "cpu")
    assert parts.choose(mesh) is None
