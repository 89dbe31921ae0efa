"""TrackFlow: cached contexts, execution options, effect of every option, initial values."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import print_saved_residuals

from tavid_jax.models.latte.flow import (
    TrackFlow,
    TrackFlowConfig,
    repeat_context,
)

CONFIG = TrackFlowConfig(
    size_hw=(6, 9),
    patch=3,
    num_frames=9,
    latent_channels=5,
    hidden=12,
    heads=2,
    depth=4,
    mlp_ratio=2.0,
    video_channels=4,
    text_dim=7,
)
GRID = (2, 3, 6)


def make(**changes) -> TrackFlowConfig:
    return TrackFlowConfig(**{**vars(CONFIG), **changes})


def inputs(config):
    """z, t, history, visibility, video, text of a batch of two."""
    keys = jax.random.split(jax.random.key(3), 5)
    seen = jax.random.bernoulli(keys[2], 0.5, GRID).astype(jnp.float32)
    return (
        jax.random.normal(keys[0], (*GRID, 5)),
        jnp.array([0.1, 0.8]),
        jax.random.normal(keys[1], (*GRID, 5)),
        seen if config.use_hist_vis_cond else None,
        jax.random.normal(keys[3], (*GRID, 4)) if config.use_video_cond else None,
        jax.random.normal(keys[4], (2, 7)) if config.use_text_cond else None,
    )


@pytest.fixture(scope="module")
def params(randomised):
    return randomised(jax.jit(TrackFlow(CONFIG).init)(jax.random.key(0), *inputs(CONFIG))["params"])


def run(model, params, *args, method=None):
    return jax.jit(lambda p, *a: model.apply({"params": p}, *a, method=method))(params, *args)


@pytest.mark.parametrize("mode", ["pooled_last", "time_mean", "none"])
def test_cached_context_equals_direct_call(mode, params):
    model = TrackFlow(make(spatial_ctx_mode=mode))
    z, t, *conditions = inputs(CONFIG)
    context = run(model, params, *conditions, method=model.context)
    cached = run(model, params, z, t, context, method=model.velocity)
    np.testing.assert_allclose(cached, run(model, params, z, t, *conditions), atol=1e-5)


@pytest.mark.parametrize("cache", [True, False])
def test_repeated_context_serves_several_samples(cache, params):
    model = TrackFlow(CONFIG)
    z, t, *conditions = inputs(CONFIG)
    context = jax.jit(
        lambda *a: model.apply({"params": params}, *a, cache=cache, method=model.context)
    )(*conditions)
    many = repeat_context(context, 3)
    assert many.batch_size == 6
    noise = jax.random.normal(jax.random.key(9), (6, *GRID[1:], 5))
    got = run(model, params, noise, jnp.repeat(t, 3), many, method=model.velocity)
    velocity = jax.jit(lambda z: model.apply({"params": params}, z, t, context, method="velocity"))
    for sample in range(3):
        alone = velocity(noise[sample::3])
        np.testing.assert_allclose(got[sample::3], alone, atol=1e-5)


def test_spatial_keys_and_values_are_not_repeated_over_frames(params):
    model = TrackFlow(CONFIG)
    context = jax.eval_shape(
        lambda *a: model.apply({"params": params}, *a, method=model.context), *inputs(CONFIG)[2:]
    )
    assert context.spatial.k.shape == (2, 2, 2, 12, 6)  # pairs, B, heads, 2 N tokens, head dim
    assert context.temporal.v.shape == (2, 2, 6, 2, 6, 6)  # pairs, B, N, heads, 2 L, head dim


def loss_and_grad(model, params):
    args = inputs(CONFIG)

    def loss(p):
        return jnp.mean(jnp.square(model.apply({"params": p}, *args) - args[2]))

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.slow
def test_scan_unroll_and_remat_agree(params):
    value, grad = loss_and_grad(TrackFlow(CONFIG), params)
    assert min(float(jnp.abs(g).max()) for g in jax.tree.leaves(grad)) > 0
    for model in (
        TrackFlow(CONFIG, scan=False),
        TrackFlow(CONFIG, remat="full"),
        TrackFlow(CONFIG, remat="names=query,attention"),
    ):
        other_value, other_grad = loss_and_grad(model, params)
        np.testing.assert_allclose(other_value, value, rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * (1 + np.abs(b).max())),
            other_grad,
            grad,
        )


def test_named_activations_are_kept(params, capsys):
    args = inputs(CONFIG)

    def hidden_kept(remat: str) -> int:
        model = TrackFlow(CONFIG, remat=remat)
        print_saved_residuals(lambda p: jnp.sum(model.apply({"params": p}, *args)), params)
        wide = int(CONFIG.hidden * CONFIG.mlp_ratio)
        kept = capsys.readouterr().out
        return len(re.findall(rf"^f32\[[\d,]*,{wide}\]", kept, re.MULTILINE))

    # Of both blocks of the scan's pair.
    assert hidden_kept("names=mlp_hidden") == hidden_kept("full") + 2


def test_bfloat16_compute_stays_close(params, relative_error):
    args = inputs(CONFIG)
    got = run(TrackFlow(CONFIG, dtype=jnp.bfloat16), params, *args)
    assert got.dtype == jnp.float32
    assert 1e-5 < relative_error(got, run(TrackFlow(CONFIG), params, *args)) < 0.1


# Options that keep the parameters' shapes: the same weights must give another velocity.
@pytest.mark.parametrize(
    "changes",
    [
        dict(spatial_ctx_mode="time_mean"),
        dict(spatial_ctx_mode="none"),
        dict(spatial_ctx_pool=2),
        dict(spatial_ctx_last_k=2),
        dict(spatial_ctx_include_video=False),
        dict(video_ctx_mode="sum"),
        dict(track_fusion="add_last"),
        dict(temporal_first=False),
        dict(use_overlap=True),
    ],
    ids=lambda c: "-".join(f"{k}={v}" for k, v in c.items()),
)
def test_option_has_an_effect(changes, params):
    args = inputs(CONFIG)
    base = run(TrackFlow(CONFIG), params, *args)
    changed = run(TrackFlow(make(**changes)), params, *args)
    assert changed.shape == base.shape
    assert float(jnp.abs(changed - base).max()) > 1e-4


@pytest.mark.parametrize(
    "changes, absent, present",
    [
        (
            dict(use_video_cond=False),
            {"hist_video_proj", "video_global_proj", "alpha_video_ctx", "beta_video_cond"},
            set(),
        ),
        (dict(use_text_cond=False), {"text_proj"}, set()),
        (dict(use_hist_vis_cond=False), {"hist_vis_proj", "alpha_hist_vis"}, set()),
        (dict(track_fusion="none"), {"track_fusion_scale", "track_fusion_gate_logit"}, set()),
        (dict(track_fusion_use_time_gate=False), {"track_fusion_gate_logit"}, set()),
        (dict(video_fusion="add_last"), set(), {"video_fusion_scale"}),
    ],
    ids=lambda c: "-".join(f"{k}={v}" for k, v in c.items()) if isinstance(c, dict) else "",
)
def test_option_changes_the_parameters(changes, absent, present):
    def names(config):
        model = TrackFlow(config)
        return set(jax.eval_shape(model.init, jax.random.key(0), *inputs(config))["params"])

    assert names(make(**changes)) == names(CONFIG) - absent | present


def test_missing_text_is_not_zero_text(params):
    *given, text = inputs(CONFIG)
    model = TrackFlow(CONFIG)
    without = run(model, params, *given)
    zeros = run(model, params, *given, jnp.zeros_like(text))
    assert float(jnp.abs(without - zeros).max()) > 1e-4


@pytest.mark.parametrize("index", [3, 4], ids=["visibility", "video"])
def test_missing_visibility_and_video_are_zeros(index, params):
    model = TrackFlow(CONFIG)
    args = list(inputs(CONFIG))
    zeros = args[:index] + [jnp.zeros_like(args[index])] + args[index + 1 :]
    none = args[:index] + [None] + args[index + 1 :]
    np.testing.assert_allclose(run(model, params, *none), run(model, params, *zeros), atol=1e-6)


def test_parameter_count_of_the_released_model():
    config = TrackFlowConfig()
    latents = jax.ShapeDtypeStruct((1, 21, 390, 16), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.float32)
    shapes = jax.eval_shape(TrackFlow(config).init, jax.random.key(0), latents, t, latents)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 244_461_354


def test_initial_values():
    config = make(video_fusion="add_last", hist_vis_scale_init=0.7)
    params = jax.jit(TrackFlow(config).init)(jax.random.key(0), *inputs(config))["params"]
    adaln = params["blocks"]["adaln"]
    assert float(jnp.abs(adaln["kernel"]).max()) == 0
    np.testing.assert_array_equal(
        adaln["bias"].reshape(4, 3, 3, 12)[:, :, :, 0], np.tile([0.0, 0.0, 1.0], (4, 3, 1))
    )
    for name in ("kernel", "bias"):
        assert float(jnp.abs(params["hist_vis_proj"][name]).max()) == 0
    scalars = dict(alpha_video_ctx=1, beta_video_cond=1, beta_track_cond=1)
    scalars |= dict(alpha_hist_vis=0.7, track_fusion_scale=0.1, video_fusion_scale=0.05)
    for name, value in scalars.items():
        assert params[name].shape == () and float(params[name]) == pytest.approx(value)
    gates = jax.nn.sigmoid(params["track_fusion_gate_logit"])
    np.testing.assert_allclose(gates, [0.95, 0.65, 0.35], rtol=1e-5)
    assert 0.015 < float(params["pos_embed"].std()) < 0.025
    for layer in (params["out_proj"], params["blocks"]["attn"]["qkv"]):
        limit = 12**-0.5
        assert 0.8 * limit < float(jnp.abs(layer["kernel"]).max()) <= limit
        assert float(jnp.abs(layer["bias"]).max()) > 0


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(num_frames=10), r"num_frames must be 4\*k \+ 1"),
        (dict(size_hw=(7, 9)), "height 7 is not divisible by patch 3"),
        (dict(heads=5), "hidden 12 is not divisible by heads 5"),
        (dict(depth=3), "depth 3 is not divisible by two 2"),
        (dict(spatial_ctx_mode="first"), "spatial_ctx_mode must be one of .* got 'first'"),
        (dict(video_ctx_mode="mul"), "video_ctx_mode must be one of"),
        (dict(track_fusion="add"), "track_fusion must be one of"),
        (dict(video_fusion="add_all"), "video_fusion must be one of"),
        (dict(spatial_ctx_last_k=4), "spatial_ctx_last_k 4 is more than the 3 latent frames"),
        (dict(spatial_ctx_pool=0), "spatial_ctx_pool must be a positive integer"),
        (dict(video_fusion="add_last", use_video_cond=False), "needs use_video_cond=True"),
        (dict(num_frames=1), "needs at least 2 latent frames"),
    ],
)
def test_bad_configs_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_wrong_inputs_are_named(params):
    model = TrackFlow(CONFIG)
    z, t, *conditions = inputs(CONFIG)
    context = run(model, params, *conditions, method=model.context)
    with pytest.raises(ValueError, match="see repeat_context"):
        model.apply({"params": params}, z[:1], t[:1], context, method=model.velocity)
    with pytest.raises(ValueError, match=r"video must have shape \(2, 3, 6, 4\)"):
        model.apply({"params": params}, z, t, z, None, z)
    silent = TrackFlow(make(use_text_cond=False))
    with pytest.raises(ValueError, match="text is given but switched off"):
        silent.init(jax.random.key(0), z, t, *conditions)
