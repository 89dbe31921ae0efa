"""FlexTraj as a method: what is trained, what examples hold, what several draws cost and give."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.data.clip import Clip
from tavid_jax.data.synthetic import sample_scene, scene_clip, toy
from tavid_jax.engine.placement import split_trainable
from tavid_jax.methods.finetune.method import BACKBONE
from tavid_jax.methods.flextraj.curriculum import Mixture, Schedule
from tavid_jax.methods.flextraj.method import DRAWS, VIDEOS
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.pipelines.control import CONTROL, CONTROL_IMAGE
from tests.methods.finetune.tiny import batch_of, random_params
from tests.methods.flextraj import small


@pytest.fixture(scope="module")
def method():
    return small.method()


@pytest.fixture(scope="module")
def clip() -> Clip:
    config = toy.steered(twins=True, size_hw=(16, 16), radius=(8.0, 9.0))
    return scene_clip(sample_scene(config, 0))


def keys(count: int = 2) -> jax.Array:
    return jax.random.split(jax.random.key(3), count)


def paths(tree) -> set[str]:
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(part.key for part in path) for path, _ in flat}


# ---- training ------------------------------------------------------------------------------------


def test_adapters_of_condition_tokens_and_the_fusion_are_trained(method):
    params = jax.eval_shape(method.init, jax.random.key(0))
    trained, _ = split_trainable(method, params)
    names = paths(trained)
    assert {name for name in names if "/lora/" not in name} == {
        f"{BACKBONE}/fuse/kernel",
        f"{BACKBONE}/fuse/bias",
    }
    assert any("/lora/" in name for name in names)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(trained))


def test_several_draws_equal_as_many_examples(method):
    """The same condition, other noise: the loss of examples that were repeated by hand."""
    several, params = small.method(draws=3), random_params(method)
    batch, rng = batch_of(method.encoded_spec()), keys()
    repeated = {name: jnp.repeat(x, 3, axis=0) for name, x in batch.items()}
    each = jnp.stack([jax.random.fold_in(key, DRAWS + i) for key in rng for i in range(3)])

    def loss(of, batch, rng):
        return jax.jit(lambda p: of.loss(p, batch, rng, jnp.zeros((), jnp.int32))[0])(params)

    got, weight = loss(several, batch, rng)
    want, count = loss(method, repeated, each)
    assert weight == count == 6
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_at_first_conditions_act_by_attention_alone(method):
    """Adapters and fusion are zero: the tokens of the identities are those of any video, and only
    being looked at changes the result; without them the model is the published one."""
    start = jax.jit(method.init)(jax.random.key(0))[BACKBONE]
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(start["fuse"]))
    zero = start["lora"]
    weights = random_params(method)[BACKBONE] | {"fuse": start["fuse"]}
    batch = batch_of(method.backbone.spec())
    time = jnp.full((2,), 500.0)

    @jax.jit
    def out(weights, batch):
        return method.backbone.output(weights, batch["video"], time, batch)

    start = out(weights | {"lora": zero}, batch)
    other = jax.tree.map(lambda leaf: 2 * leaf, zero)
    np.testing.assert_array_equal(start, out(weights | {"lora": other}, batch))
    # Colours come in through the fusion, identities do not.
    swapped = {name: batch[name].at[:, 1].multiply(-1.0) for name in (CONTROL, CONTROL_IMAGE)}
    np.testing.assert_array_equal(start, out(weights | {"lora": zero}, batch | swapped))
    swapped = {name: batch[name].at[:, 0].multiply(-1.0) for name in (CONTROL, CONTROL_IMAGE)}
    assert jnp.abs(start - out(weights | {"lora": zero}, batch | swapped)).max() > 1e-3
    bare = {name: x for name, x in batch.items() if name not in (CONTROL, CONTROL_IMAGE)}
    kept = {name: node for name, node in weights.items() if name not in ("lora", "fuse")}
    plain = jax.jit(small.backbone((), 0).output)(kept, bare["video"], time, bare)
    np.testing.assert_allclose(out(weights, bare), plain, atol=1e-6)
    assert jnp.abs(start - plain).max() > 1e-3


# ---- examples ------------------------------------------------------------------------------------


def test_examples_follow_the_schedule(clip: Clip):
    """Dense at first, in the end without any condition."""
    schedule = Schedule((Mixture(colour=1.0), Mixture(dropout=1.0)), (0, 10))
    method = small.method(schedule=schedule, follow=small.COLOURED, from_clips=True)
    assert method.scheduled
    first, last = (method.prepare(clip, np.random.default_rng(0), step) for step in (0, 10))
    assert first[VIDEOS].shape == method.raw_spec()[VIDEOS].shape == (2, 9, 16, 16, 3)
    assert first[VIDEOS][0].any() and first[VIDEOS][1].any()
    assert not last[VIDEOS].any()
    np.testing.assert_array_equal(first["video"], clip.video)


def test_condition_videos_become_latents_as_clips_do(clip: Clip):
    method = small.method(from_clips=True)
    params = random_params(method)
    example = method.prepare(clip, np.random.default_rng(0))
    example[VIDEOS][1] = clip.video  # any video
    batch = {name: jnp.asarray(x)[None] for name, x in example.items() if name != "id"}
    encoded = jax.jit(method.encode)(params, batch, keys(1))
    np.testing.assert_array_equal(encoded[CONTROL][0, 1], encoded["video"][0])
    np.testing.assert_array_equal(encoded[CONTROL_IMAGE][0, 1], encoded["image"][0])
    assert (encoded[CONTROL][0, 0] != encoded["video"][0]).any()
    assert {name: x.shape[1:] for name, x in encoded.items()} == {
        name: spec.shape for name, spec in method.encoded_spec().items()
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(draws=0), "control.draws 0 must be at least 1"),
        (dict(videos=0), "reads two condition videos: set model.condition_videos to 2"),
        (dict(rules=(LoraRule("blocks/attn/q", rank=2),)), "set stream='condition' in default"),
        (dict(rules=()), "at least one rule of model.lora"),
    ],
)
def test_methods_that_are_refused(changes: dict, message: str):
    if changes.get("videos") == 0:
        changes["rules"] = (LoraRule("blocks/attn/q", rank=2),)
    with pytest.raises(ValueError, match=message):
        small.method(**changes)
