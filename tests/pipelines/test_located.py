"""Wan with located texts: its batches, the attention plugged in, and dual guidance by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import guidance
from tavid_jax.diffusion.schedulers.registry import make_sampler
from tavid_jax.models.layers.located import Laca, init_laca
from tavid_jax.models.wan.transformer import param_shapes
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


def random(shapes, seed):
    """Noise in the shapes of a parameter tree."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape).astype(np.float32), shapes)


@functools.cache
def made(**laca):
    """(located backbone, its parameters, a batch of two)."""
    backbone = locate(BASE, Laca(**laca), Rule(), points=3, text_positions=5)
    shapes = param_shapes(BASE.model.config)
    node = jax.eval_shape(
        lambda cross, key: init_laca(cross, backbone.laca, key),
        shapes["blocks"]["cross"],
        jax.random.key(2),
    )
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
    return backbone, {**random(shapes, 1), NODE: random(node, 4)}, batch


predictor = functools.cache(lambda backbone: jax.jit(backbone.predict))


def predict(backbone, params, batch):
    state = batch["video"]
    return predictor(backbone)(params, state, jnp.array([200.0, 700.0]), batch)


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


def nulled(null):
    """(entries of the text "", the batch without local texts), by hand."""
    backbone, _, batch = made()
    if null == "drop":
        return {}, backbone.null_local(batch)
    features = jnp.asarray(np.random.default_rng(8).normal(size=(2, 5, 12)), jnp.float32)
    texts = {
        LOCAL_TEXT: jnp.stack([features] * 3, 1),
        LOCAL_LENGTH: jnp.ones((2, 3), jnp.int32),
    }
    return {EMPTY_TEXT: features, EMPTY_LENGTH: jnp.array([1, 1])}, batch | texts


@functools.cache
def four(null):
    """(branches of every mode, what they amount to), from four predictions that are made alone."""
    backbone, _, batch = made()
    negative = {"text": jnp.asarray(np.random.default_rng(6).normal(size=(2, 8, 12)), jnp.float32)}
    nothing, bare = nulled(null)
    branches = {
        mode: dual_branches(backbone, batch | nothing, negative, mode, True)
        for mode in guidance.BRANCHES
    }
    none, glob = (asked(bare | given) for given in (negative, {}))
    loc, both = (asked(batch | given) for given in (negative, {}))
    return branches, {
        "literal": none + 3 * (both - glob) + 2 * (both - loc),
        "semantic": none + 3 * (both - loc) + 2 * (both - glob),
        "global": none + 3 * (glob - none),
        "local": none + 2 * (loc - none),
        "combined": none + 3 * (both - none),
        "global_given": loc + 3 * (both - loc),
        "local_given": glob + 2 * (both - glob),
    }


def asked(batch):
    backbone, params, whole = made()
    return predictor(backbone)(params, whole["video"], jnp.array([1000.0] * 2), batch)


@pytest.mark.parametrize("null", ["drop", "empty"])
def test_every_mode_is_what_its_branches_amount_to(null):
    branches, want = four(null)
    for mode, names in guidance.BRANCHES.items():
        assert len(branches[mode]) == len(names)
        outs = jnp.stack([asked(branch) for branch in branches[mode]])
        close(guidance.dual_cfg(outs, 3.0, 2.0, mode), want[mode])
    backbone, _, batch = made()
    for mode, names in guidance.BRANCHES.items():
        negative = {"text": jnp.zeros_like(batch["text"])}
        *_, last = dual_branches(backbone, batch | nulled(null)[0], negative, mode, True)
        (alone,) = dual_branches(backbone, batch | nulled(null)[0], negative, mode, False)
        assert len(names) > 1 and set(alone) == set(batch)
        jax.tree.map(np.testing.assert_array_equal, alone, last)


@pytest.mark.parametrize(
    ("mode", "sequential"), [("literal", False), ("literal", True), ("local_given", False)]
)
def test_a_guided_step_at_once_and_one_by_one(mode, sequential):
    backbone, params, batch = made()
    branches, want = four("drop")
    sampler = make_sampler("euler", 1, family="wan", shift=3.0)
    assert sampler.timesteps[0] == 1000
    scales = guidance.dual_scales(np.array([3.0]), np.array([2.0]), sampler.timesteps, mode=mode)
    denoiser = Denoiser(backbone, sampler, scales, sequential=sequential, dual=mode)
    conditions = denoiser.precompute(params, branches[mode])
    keys = jax.random.split(jax.random.key(7), 2)
    rest = conditions, Segment(0, 1, True, ""), keys, jnp.zeros((2, 0))
    # One step of Euler from noise to data.
    close(denoiser.run(params, batch["video"], *rest).x, batch["video"] - want[mode])


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
