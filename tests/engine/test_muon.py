"""Muon: which weights it takes of the real models, and the size and shape of its updates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from tavid_jax.engine.muon import muon, muon_groups
from tavid_jax.engine.optimizer import make_optimizer
from tavid_jax.models.text.config import TEXT_PRESETS
from tavid_jax.models.text.t5 import T5Encoder
from tests.engine import toy
from tests.methods.finetune import tiny

RATE = 0.1


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def update(params, grads, rate: float = RATE, **options):
    optimizer = muon(optax.constant_schedule(rate), **options)
    return optimizer.update(grads, optimizer.init(params), params)[0]


def backbone_shapes(name: str):
    method = tiny.method(name, lora=())
    return jax.eval_shape(method.init, jax.random.key(0))


def text_shapes(name: str):
    changes = dict(vocab_size=30, dim=8, num_heads=2, head_dim=4, ffn_dim=16, num_layers=3)
    encoder = T5Encoder(dataclasses.replace(TEXT_PRESETS[name], **changes))
    return jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32))["params"]


@pytest.mark.parametrize(
    ("shapes", "left"),
    [
        (lambda: backbone_shapes("wan t2v"), {"bias", "scale", "modulation", "out_modulation"}),
        (lambda: backbone_shapes("wan i2v"), {"bias", "scale", "modulation", "out_modulation"}),
        (lambda: backbone_shapes("cogvideox i2v"), {"bias", "scale", "pos_embed"}),
        (lambda: backbone_shapes("cogvideox 1.5"), {"bias", "scale"}),
        (lambda: text_shapes("umt5-xxl"), {"embed", "scale", "position_bias"}),
        (lambda: text_shapes("t5-v1.1-xxl"), {"embed", "scale", "position_bias"}),
    ],
)
def test_no_matrix_of_a_block_is_left_to_adam(shapes, left: set[str]):
    tree = shapes()
    groups = muon_groups(tree)
    names, taken = {"muon": set(), "adam": set()}, 0
    for path, group in jax.tree_util.tree_leaves_with_path(groups):
        names[group].add(path[-1].key)
        taken += group == "muon"
    assert names == {"muon": {"kernel"}, "adam": left}
    # The same by shape: blocks are stacked, and their matrices have three axes.
    for (path, leaf), group in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(groups), strict=True
    ):
        keys = [key.key for key in path]
        if "blocks" in keys and leaf.ndim == 3 and keys[-1] in ("modulation", "position_bias"):
            assert group == "adam"
        elif "blocks" in keys:
            assert (group == "muon") == (leaf.ndim == 3)
    assert taken > 6


def test_weights_are_taken_and_left_by_their_paths():
    tree = {
        "text": {"embed": jnp.ones((9, 4))},
        "out_proj": {"kernel": jnp.ones((4, 5))},
        "blocks": {"kernel": jnp.ones((2, 4, 4)), "bias": jnp.ones((2, 4))},
    }
    expected = {
        "text": {"embed": "adam"},
        "out_proj": {"kernel": "muon"},
        "blocks": {"kernel": "muon", "bias": "adam"},
    }
    assert muon_groups(tree) == expected
    expected["text"]["embed"], expected["out_proj"]["kernel"] = "muon", "adam"
    options = dict(also=(".*/embed", "out_proj/kernel"), never=("(patch|out)_.*/kernel",))
    assert muon_groups(tree, **options) == expected
    # As a stage's config says it.
    config = toy.optimizer(name="muon", muon_also=[".*/embed"], muon_not=["out_.*"], clip=0.0)
    optimizer = make_optimizer(ConfigDict(config), 10)
    updates, _ = optimizer.update(tree, optimizer.init(tree), tree)
    # Gradients of ones have rank 1: only Adam changes all entries by the rate.
    sizes = {name: float(jnp.abs(leaf).max()) for name, leaf in _flat(updates).items()}
    rate = toy.optimizer()["lr"] / toy.optimizer()["warmup"]
    np.testing.assert_allclose([sizes["out_proj/kernel"], sizes["blocks/bias"]], rate, rtol=1e-4)
    assert sizes["text/embed"] < 0.5 * rate > sizes["blocks/kernel"]


def _flat(tree) -> dict[str, jax.Array]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(also=("text/embeds",)),
            "optimizer.muon_also: 'text/embeds' matches no weight",
        ),
        (dict(never=("kernel",)), "optimizer.muon_not: 'kernel' matches no weight"),
        (dict(also=(".*/scale",)), r"muon_also: 'norm/scale' of shape \(4,\) is no matrix"),
        (dict(never=(".*/kernel",)), "none of the weights that are trained is a matrix"),
    ],
)
def test_patterns_that_say_nothing_are_refused(options: dict, message: str):
    tree = {"out": {"kernel": jnp.ones((4, 5))}, "norm": {"scale": jnp.ones(4)}}
    with pytest.raises(ValueError, match=message):
        muon_groups(tree, **options)


def test_adapters_alone_are_adams_unless_asked_for():
    lora = {"lora": {"q": {"a": jnp.ones((3, 8, 2)), "b": jnp.ones((3, 2, 8))}}}
    with pytest.raises(ValueError, match=r'name them in optimizer.muon_also: adapters are "\.\*/'):
        muon_groups(lora)
    groups = muon_groups(lora, also=(".*/(a|b)",))
    assert groups == {"lora": {"q": {"a": "muon", "b": "muon"}}}


def test_stacked_kernels_are_separate_matrices():
    """Each is changed as it would be alone, and its singular values become alike."""
    stacked = {"kernel": normal(3, 4, 6), "bias": jnp.ones((3, 6))}
    grads = jax.tree.map(lambda x: jnp.cos(x * 3), stacked)
    together = update(stacked, grads)
    for i in range(3):
        one, grad = ({"kernel": tree["kernel"][i]} for tree in (stacked, grads))
        np.testing.assert_allclose(together["kernel"][i], update(one, grad)["kernel"], atol=1e-6)
    # Adam's first update has one size everywhere.
    np.testing.assert_allclose(jnp.abs(together["bias"]), RATE, rtol=1e-4)
    assert spread(together["kernel"][0]) < 2 < spread(grads["kernel"][0])


def spread(matrix: jax.Array) -> float:
    values = jnp.linalg.svd(matrix, compute_uv=False)
    return float(values.max() / values.min())


def test_more_iterations_make_singular_values_more_alike():
    kernel = normal(24, 24)
    zero = {"kernel": jnp.zeros_like(kernel)}
    spreads = [spread(update(zero, {"kernel": kernel}, steps=n)["kernel"]) for n in (0, 3, 6)]
    assert spreads[0] > 4 * spreads[1] and spreads[1] > 2 * spreads[2]


@pytest.mark.parametrize("shape", [(16, 16), (16, 64), (64, 16), (3, 8, 32)])
def test_updates_have_one_size_whatever_the_shape(shape: tuple[int, ...]):
    grad = {"kernel": normal(*shape)}
    zero = {"kernel": jnp.zeros(shape)}
    found = update(zero, grad, consistent_rms=0.2)["kernel"]
    # Singular values are 0.7 to 1.2 after the iterations.
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(found**2)), 0.2 * RATE, rtol=0.25)
    plain = update(zero, grad)["kernel"]
    largest = jnp.linalg.svd(plain, compute_uv=False).max()
    expected = RATE * max(1, shape[-1] / shape[-2]) ** 0.5
    np.testing.assert_allclose(largest, expected, rtol=0.25)


@pytest.mark.parametrize("rms", [0.0, 0.2])
def test_matrices_are_changed_as_by_optax(rms: float):
    """Momentum, decay and schedule of several steps, on matrices of two axes."""
    params = {"fc1": {"kernel": normal(6, 9)}, "fc2": {"kernel": normal(9, 6, seed=1)}}
    schedule = optax.linear_schedule(0.1, 0.0, 5)
    ours = muon(schedule, beta=0.8, steps=4, consistent_rms=rms, weight_decay=0.3)
    options = dict(beta=0.8, ns_steps=4, consistent_rms=rms or None, weight_decay=0.3)
    theirs = optax.contrib.muon(schedule, **options)
    states, found = [ours.init(params), theirs.init(params)], [params, params]
    for step in range(3):
        grads = jax.tree.map(lambda x: jnp.cos(x * (step + 1)), params)  # noqa: B023
        for i, optimizer in enumerate((ours, theirs)):
            changes, states[i] = optimizer.update(grads, states[i], found[i])
            found[i] = optax.apply_updates(found[i], changes)
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
