"""Wan with located texts: its batches, the attention plugged in, and dual guidance by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import guidance
from tavid_jax.diffusion.schedulers.registry import make_sampler
from tavid_jax.models.layers.located import Laca
from tavid_jax.models.layers.located_params import init_laca
from tavid_jax.pipelines.backbones import Geometry, make_backbone
from tavid_jax.pipelines.denoising import Denoiser, Segment
from tavid_jax.pipelines.located import (
    LOCAL_CACHES,
    LOCAL_LENGTH,
    LOCAL_TEXT,
    NEAR,
    NODE,
    STRENGTH,
    Locate,
    locate,
)
from tavid_jax.pipelines.locating import EMPTY_LENGTH, EMPTY_TEXT, dual_branches
from tavid_jax.tracks.neighbourhoods import Rule, neighbourhoods

SIZES = dict(
    num_heads=2, head_dim=16, num_layers=2, text_dim=12, text_length=8, in_channels=4,
    out_channels=4, ffn_dim=40, freq_dim=8,
)  # fmt: skip
SIZE_HW = (32, 64)
BASE = make_backbone("wan2.1-t2v-1.3b", Geometry(9, SIZE_HW), SIZES, False, stride=8)


def moved(tree, seed, scale=0.2):
    """Parameters away from where they start."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return structure.unflatten(
        [x + scale * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    )


@functools.cache
def made(**laca):
    """(located backbone, its parameters, a batch of two)."""
    backbone = locate(BASE, Laca(**laca), Rule(), points=3, text_positions=5)
    params = BASE.model.init(jax.random.key(0), jnp.zeros((1,)), method="embed_time")["params"]
    params = moved(params, 1)
    node = init_laca(params["blocks"]["cross"], backbone.laca, jax.random.key(2))
    rng = np.random.default_rng(3)
    batch = {
        name: jnp.asarray(rng.normal(size=(2, *spec.shape)), jnp.float32)
        for name, spec in backbone.spec().items()
        if name not in NEAR
    }
    batch[LOCAL_LENGTH] = jnp.array([[2, 4, 0], [1, 0, 0]], jnp.int32)
    real = jnp.arange(5)[:, None] < batch[LOCAL_LENGTH][..., None, None]
    batch[LOCAL_TEXT] = jnp.where(real, batch[LOCAL_TEXT], 0.0)
    tracks = rng.uniform(0, 30, (2, 1, 2)) + np.arange(9)[:, None] * [2.0, 0.5]
    seen = np.ones((2, 9), bool)
    pairs = [
        neighbourhoods(
            tracks[:count].astype(np.float32), seen[:count], SIZE_HW, backbone.grid, backbone.rule,
            points=3,
        )
        for count in (2, 1)
    ]  # fmt: skip
    for name, *values in zip(NEAR, *pairs, strict=True):
        batch[name] = jnp.asarray(np.stack(values))
    return backbone, params | {NODE: moved(node, 4)}, batch


def predict(backbone, params, batch):
    state = batch["video"]
    return jax.jit(backbone.predict)(params, state, jnp.array([200.0, 700.0]), batch)


def close(got, want):
    np.testing.assert_allclose(got, want, atol=1e-5 * float(jnp.sqrt(jnp.mean(want**2))) + 1e-6)


def test_without_strength_or_local_entries_it_is_the_published_model():
    backbone, params, batch = made()
    plain = {name: batch[name] for name in BASE.spec()}
    want = predict(BASE, params, plain)
    np.testing.assert_array_equal(predict(backbone, params, plain), want)
    np.testing.assert_array_equal(predict(backbone, params, batch | {STRENGTH: jnp.zeros(2)}), want)
    assert float(jnp.abs(predict(backbone, params, batch) - want).max()) > 1e-2


@pytest.mark.parametrize("laca", [{}, dict(outside="skip", rank=2, layers=(1,))])
def test_caches_equal_texts_that_are_read_anew(laca):
    backbone, params, batch = made(**laca)
    kept = jax.jit(backbone.precompute)(params, batch)
    assert LOCAL_CACHES in kept and not {"text", LOCAL_TEXT} & set(kept)
    close(predict(backbone, params, kept), predict(backbone, params, batch))


def test_strength_is_the_batch_s_or_its_own():
    backbone, params, batch = made()
    given = predict(backbone, params, batch | {STRENGTH: jnp.array([0.5, 1.0])})
    own = predict(backbone, params, batch)
    np.testing.assert_array_equal(given[0], own[0])
    assert float(jnp.abs(given[1] - own[1]).max()) > 1e-2


def test_nulls_of_local_texts():
    backbone, params, batch = made()
    dropped = backbone.null_local(batch)
    assert set(dropped) == set(batch) and (dropped[NEAR[0]] == backbone.tokens).all()
    other = dropped | {LOCAL_TEXT: 1 + dropped[LOCAL_TEXT]}
    want = predict(backbone, params, dropped)
    np.testing.assert_array_equal(predict(backbone, params, other), want)
    features = jnp.asarray(np.random.default_rng(5).normal(size=(5, 12)), jnp.float32)
    empty = backbone.empty_local(batch, features, 1)
    assert (empty[LOCAL_LENGTH] == 1).all() and (empty[LOCAL_TEXT][1, 2] == features).all()
    assert all((empty[name] == batch[name]).all() for name in NEAR)
    assert float(jnp.abs(predict(backbone, params, empty) - want).max()) > 1e-3


@pytest.mark.parametrize("null", ["drop", "empty"])
@pytest.mark.parametrize("mode", guidance.BRANCHES)
def test_guidance_equals_predictions_that_are_made_one_by_one(mode, null):
    backbone, params, batch = made()
    rng = np.random.default_rng(6)
    negative = jnp.asarray(rng.normal(size=batch["text"].shape), jnp.float32)
    nothing = {}
    if null == "empty":
        features = jnp.asarray(rng.normal(size=(2, 5, 12)), jnp.float32)
        nothing = {EMPTY_TEXT: features, EMPTY_LENGTH: jnp.array([1, 1])}
    branches = dual_branches(backbone, batch | nothing, {"text": negative}, mode, True)
    sampler = make_sampler("euler", 1, family="wan", shift=3.0)
    scales = guidance.dual_scales(np.array([3.0]), np.array([2.0]), sampler.timesteps, mode=mode)
    keys = jax.random.split(jax.random.key(7), 2)

    def sample(sequential):
        denoiser = Denoiser(backbone, sampler, scales, sequential=sequential, dual=mode)
        conditions = denoiser.precompute(params, branches)
        segment = Segment(0, 1, True, "")
        return denoiser.run(params, batch["video"], conditions, segment, keys, jnp.zeros((2, 0))).x

    timestep = jnp.full((2,), sampler.timesteps[0], jnp.float32)
    ask = jax.jit(functools.partial(backbone.predict, params, batch["video"], timestep))
    bare = backbone.null_local(batch)
    if null == "empty":
        bare = batch | {
            LOCAL_TEXT: jnp.stack([features] * 3, 1),
            LOCAL_LENGTH: jnp.ones((2, 3), jnp.int32),
        }
    none, glob = ask(bare | {"text": negative}), ask(bare)
    loc, both = ask(batch | {"text": negative}), ask(batch)
    want = {
        "literal": none + 3 * (both - glob) + 2 * (both - loc),
        "semantic": none + 3 * (both - loc) + 2 * (both - glob),
        "global": none + 3 * (glob - none),
        "local": none + 2 * (loc - none),
        "combined": none + 3 * (both - none),
        "global_given": loc + 3 * (both - loc),
        "local_given": glob + 2 * (both - glob),
    }[mode]
    # One step of Euler from noise to data.
    close(sample(False), batch["video"] - want)
    close(sample(True), batch["video"] - want)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Locate(points=0), "points 0: make room"),
        (lambda: Locate(text_positions=1), "text_positions 1"),
        (lambda: Locate(Laca(overlap="blend")), "laca.overlap is 'blend', rule.overlap 'owner'"),
        (lambda: Locate.of({"rule": {"sigmas": 1}}), "locate.rule has no field 'sigmas'"),
        (lambda: Locate.of({"point": 1}), "locate has no field 'point'"),
        (lambda: locate(BASE, text_positions=9), "text_positions 9: this model's texts have 8"),
        (
            lambda: locate(make_backbone(
                "wan2.1-i2v-14b", Geometry(9, SIZE_HW), SIZES | {"in_channels": 12}, False,
                stride=8,
            )),
            "this model reads an image",
        ),
        (
            lambda: locate(make_backbone(
                "cogvideox-5b", Geometry(9, SIZE_HW), {}, False, stride=8
            )),
            "CogVideoX has no cross-attention",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_located(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_it_is_written_and_read_again():
    how = Locate(Laca(layers=(0, 1), rank=4, overlap="blend"), Rule(overlap="blend"), 40, 16)
    assert Locate.of(how.to_json()) == how
