"""TAViD as a method: what is trained, what examples hold, what happens to masks and texts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.engine.placement import split_trainable
from tavid_jax.methods.tavid.attention import AttentionLoss, Blocks
from tavid_jax.methods.tavid.method import Masks
from tavid_jax.pipelines.backbones import MASK
from tavid_jax.pipelines.targets import AIM, COLUMNS
from tests.methods.finetune.tiny import batch_of, random_params
from tests.methods.tavid import small


@pytest.fixture(scope="module")
def method():
    return small.method()


def batch_for(method, size=3):
    """Random examples with real masks and one trigger word."""
    batch = batch_of(method.encoded_spec(), size)
    rng = np.random.default_rng(2)
    if MASK in batch:
        batch[MASK] = jnp.asarray(rng.random(batch[MASK].shape) > 0.6, jnp.float32)
    batch[COLUMNS] = jnp.zeros_like(batch[COLUMNS]).at[:, :, 2].set(1.0)
    batch[AIM] = jnp.asarray(rng.random(batch[AIM].shape), jnp.float32)
    return batch


def keys(size=3, seed=0):
    return jax.random.split(jax.random.key(seed), size)


# ---- what is trained ------------------------------------------------------------------------


def paths(tree):
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(part.key for part in path) for path, _ in flat}


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({}, {"backbone/patch_embed/kernel", "backbone/patch_embed/bias",
              "backbone/patch_embed_extra/kernel"}),
        (dict(masks=Masks(given=False)), {"backbone/patch_embed/kernel",
                                          "backbone/patch_embed/bias"}),
        (dict(masks=Masks(given=False, patch=False)), set()),
        (dict(masks=Masks(given=False, patch=False), embedding=True), {"target_embedding"}),
    ],
)  # fmt: skip
def test_what_learns(changes, more):
    """Adapters, the whole patch projection, vectors of the words; nothing else."""
    method = small.method(**changes)
    shapes = jax.eval_shape(method.init, jax.random.key(0))
    trainable, _ = split_trainable(method, shapes)
    found = paths(trainable)
    lora = {path for path in found if path.startswith("backbone/lora/")}
    assert lora and found - lora == more
    assert {leaf.dtype for leaf in jax.tree.leaves(trainable)} == {jnp.dtype("float32")}


def test_channels_begin_at_zero_and_vectors_too():
    method = small.method(embedding=True)
    params = method.init(jax.random.key(0))
    assert not np.any(params["backbone"]["patch_embed_extra"]["kernel"])
    assert params["target_embedding"].shape == (1, 16) and not np.any(params["target_embedding"])


def test_all_that_is_trained_gets_a_gradient():
    method = small.method(embedding=True)
    params, batch = random_params(method), batch_for(method)

    def loss(params):
        (total, weight), _ = method.loss(params, batch, keys(), jnp.int32(0))
        return total / weight

    grads = jax.jit(jax.grad(loss))(params)
    trainable, _ = split_trainable(method, grads)
    for path, leaf in jax.tree_util.tree_flatten_with_path(trainable)[0]:
        assert np.any(leaf), jax.tree_util.keystr(path)


# ---- the loss -------------------------------------------------------------------------------


def test_the_two_losses_and_their_parts():
    """L = L_rec + lambda L_attn; with lambda 0 it is fine-tuning, and nothing is looked at."""
    params, batch = random_params(small.method()), batch_for(small.method())
    seen = {}
    for weight in (0.0, 0.1, 1.0):
        method = small.method(weight=weight)
        (total, count), parts = jax.jit(method.loss)(params, batch, keys(), jnp.int32(0))
        seen[weight] = float(total / count), {k: float(s / n) for k, (s, n) in parts.items()}
    plain = seen[0.0][1]["denoising"]
    assert seen[0.0][0] == plain and set(seen[0.0][1]) == {"denoising"}
    for weight in (0.1, 1.0):
        total, parts = seen[weight]
        assert set(parts) == {
            "denoising", "attention", "attention_inside", "attention_outside", "attention_iou",
        }  # fmt: skip
        np.testing.assert_allclose(parts["denoising"], plain, rtol=1e-5)
        np.testing.assert_allclose(total, plain + weight * parts["attention"], rtol=1e-5)
    assert seen[1.0][1]["attention"] > 1e-3


def test_an_example_has_the_same_loss_in_any_batch():
    method = small.method(masks=Masks(dropout=0.5, noise=0.3))
    params, batch = random_params(method), batch_for(method, 3)

    @jax.jit
    def loss(batch, keys):
        return method.loss(params, batch, keys, jnp.int32(0))[0][0]

    alone = [loss({k: x[i : i + 1] for k, x in batch.items()}, keys()[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(loss(batch, keys()), sum(alone), rtol=1e-5)


# ---- masks and vectors ----------------------------------------------------------------------


def test_masks_are_dropped_and_turned_over():
    size = 400
    batch = {MASK: jnp.asarray(np.random.default_rng(0).random((size, 4, 6, 1)) > 0.7, jnp.float32)}
    many = keys(size)

    def given(**fields):
        made = small.method(masks=Masks(**fields)).conditions({}, batch, many)[MASK]
        return np.asarray(made), np.asarray(batch[MASK])

    same, own = given()
    np.testing.assert_array_equal(same, own)
    dropped, own = given(dropout=0.25)
    gone = ~dropped.any((1, 2, 3))
    assert 0.18 < gone.mean() < 0.32
    np.testing.assert_array_equal(dropped[~gone], own[~gone])
    turned, own = given(noise=0.15)
    assert set(np.unique(turned)) == {0.0, 1.0}
    assert 0.13 < (turned != own).mean() < 0.17
    assert len({tuple(np.flatnonzero(x != y)) for x, y in zip(turned, own, strict=True)}) > 300
    both, _ = given(noise=0.15, dropout=0.25)
    np.testing.assert_array_equal(both[gone], 0.0)
    np.testing.assert_array_equal(both[~gone], turned[~gone])
    again = small.method(masks=Masks(noise=0.15)).conditions({}, batch, many)[MASK]
    np.testing.assert_array_equal(again, turned)


def test_vectors_are_added_at_the_words():
    method = small.method(embedding=True)
    batch = batch_for(method)
    vector = jnp.arange(16.0)[None]
    text = method.conditions({"target_embedding": vector}, batch, keys())["text"]
    added = np.asarray(text - batch["text"])
    np.testing.assert_allclose(added[:, 2], np.tile(vector, (3, 1)), atol=1e-5)
    assert not np.any(np.delete(added, 2, axis=1))


# ---- examples -------------------------------------------------------------------------------


def test_what_a_clip_becomes():
    method = small.method(from_clips=True)
    masks = np.zeros((1, 16, 16), bool)
    masks[0, 2:9, 4:12] = True
    clip = Clip(
        "a", (16, 16), 8, video=np.zeros((9, 16, 16, 3), np.uint8), caption="the target red",
        masks=masks, target=1,
    )  # fmt: skip
    example = method.prepare(clip, np.random.default_rng(0))
    spec = method.raw_spec()
    assert set(example) == {*spec, "id"}
    for name, one in spec.items():
        assert example[name].shape == one.shape, name
    told = method.words.read("the target red")
    for name in ("tokens", "text_mask"):
        np.testing.assert_array_equal(example[name], told[name])
    np.testing.assert_array_equal(example[MASK][..., 0], masks[0, ::2, ::2])
    with pytest.raises(ClipError, match="clip 'a': has no mask of 'target'"):
        method.prepare(dataclasses.replace(clip, masks=None, target=-1), np.random.default_rng(0))
    with pytest.raises(ClipError, match="lacks the word 'target'"):
        method.prepare(clip.replace(caption="the red"), np.random.default_rng(0))


# ---- what makes no sense --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Masks(dropout=1.5), r"masks.dropout 1.5 must lie in \[0, 1\]"),
        (lambda: Masks(noise=-0.1), r"masks.noise -0.1 must lie"),
        (lambda: Masks(patch=False), "masks.given needs masks.patch: their channels begin at zero"),
        (
            lambda: small.method(blocks=Blocks()),
            r"attention.blocks.chosen \(5, 8, .*: block 5 does not exist; the model has 2 blocks",
        ),
        (
            lambda: small.method(text_dropout=0.1),
            "learn.text_dropout leaves texts without the trigger word: set it to 0",
        ),
    ],
)
def test_values_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_without_its_loss_blocks_and_dropout_do_not_matter():
    assert small.method(blocks=Blocks(), weight=0.0, text_dropout=0.1).attention == AttentionLoss(
        weight=0.0, blocks=Blocks()
    )
