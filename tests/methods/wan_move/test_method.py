"""Wan-Move as a method: which tracks an example moves along, and what the model reads of it."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.wan_move import get_config
from tavid_jax.data.clip import ClipError
from tavid_jax.data.synthetic import sample_scene, scene_clip, toy
from tavid_jax.engine.placement import split_trainable
from tavid_jax.engine.stages import check_stages
from tavid_jax.engine.workdir import config_hash, to_plain
from tavid_jax.methods.finetune.method import BACKBONE
from tavid_jax.methods.finetune.objectives import FlowMatching
from tavid_jax.methods.finetune.words import Words
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.wan_move.method import SOURCES, WanMove
from tavid_jax.methods.wan_move.motion import Motion
from tavid_jax.models.layers.space_to_depth import SpaceToDepth, SpaceToDepthConfig
from tavid_jax.models.text.t5 import T5Encoder
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.pipelines import Card
from tavid_jax.pipelines.backbones import Geometry, make_backbone
from tests.methods.finetune.tiny import random_params
from tests.pipelines import trained

CODER = SpaceToDepthConfig()
ALL = Motion(dropout=0.0, points=(1024, 1024))


def clip(number=0):
    return scene_clip(sample_scene(toy.grounded(), 5_000_000 + number))


def method(motion=ALL, channels=2 * CODER.latent_channels + 4):
    """The smallest one, on pixels as latents."""
    running = dict(dtype=jnp.float32, param_dtype=jnp.float32)
    backbone = make_backbone(
        "wan2.1-i2v-14b",
        Geometry(toy.NUM_FRAMES, (toy.SIZE, toy.SIZE)),
        dataclasses.asdict(trained.CONFIGS["wan"]) | {"in_channels": channels},
        False,
        stride=CODER.stride_hw,
        scan=True,
        remat="none",
        **running,
    )
    words = T5Encoder(trained.text_config("wan"), **running)
    return WanMove(
        motion,
        backbone=backbone,
        objective=FlowMatching(shift=3.0),
        autoencoder=SpaceToDepth(CODER),
        words=Words(words, Tokenizer.captions(), trained.CONFIGS["wan"].text_length, wan=True),
    )


def test_as_many_tracks_as_are_asked_for_all_seen_at_first():
    rng, scene = np.random.default_rng(0), clip()
    first = int(scene.visibility[:, 0].sum())
    assert 4 < first
    counts = []
    for _ in range(60):
        steering = Motion(dropout=0.0, points=(2, 1024)).steering(scene, rng)
        assert steering.visibility[:, 0].all()
        counts.append(steering.num_points)
    assert min(counts) >= 2 and max(counts) <= first and len(set(counts)) > 5
    assert np.median(counts) < first / 2  # few are as likely as many
    assert ALL.steering(scene, rng).num_points == first


def test_motion_is_dropped_for_a_share():
    scene, rng = clip(), np.random.default_rng(1)
    none = [Motion(dropout=0.3).steering(scene, rng) is None for _ in range(300)]
    assert 0.2 < np.mean(none) < 0.4
    grid = (toy.SIZE // CODER.stride_hw,) * 2
    assert (Motion(dropout=1.0).sources(scene, grid, rng) == -1).all()
    hidden = scene.replace(visibility=np.zeros_like(scene.visibility))
    assert (ALL.sources(hidden, grid, rng) == -1).all()


def test_examples_show_the_first_frame_where_tracks_go():
    """Pixels are latents here, so that the copy can be seen: patches of the first frame. All of the
    backbone is trained, by a loss that sees them."""
    of, scene = method(), clip()
    example = of.prepare(scene, np.random.default_rng(2))
    sources, spec = example[SOURCES], of.raw_spec()[SOURCES]
    assert sources.shape == spec.shape and sources.dtype == spec.dtype
    assert (sources[0] == -1).all() and (sources[1:] >= 0).sum() > 10
    params = random_params(of)
    learned, rest = split_trainable(of, params)
    assert set(learned) == {BACKBONE} and BACKBONE not in rest
    batch = {name: jnp.asarray(x)[None] for name, x in example.items() if name != "id"}
    keys = jax.random.split(jax.random.key(1), 1)

    @jax.jit
    def run(sources):
        encoded = of.encode(params, batch | {SOURCES: sources}, keys)
        (total, weight), _ = of.loss(params, encoded, keys, jnp.zeros((), jnp.int32))
        return encoded["condition"][0], total / weight

    condition, loss = map(np.asarray, run(sources[None]))
    plain, without = map(np.asarray, run(np.full_like(sources, -1)[None]))
    columns, hit = plain[0].reshape(-1, plain.shape[-1]), sources >= 0
    np.testing.assert_array_equal(condition[hit], columns[sources[hit]])
    np.testing.assert_array_equal(condition[~hit], plain[~hit])
    assert not np.array_equal(condition, plain)
    assert np.isfinite(loss) and abs(loss - without) > 1e-4 * abs(without)


def test_bad_input():
    with pytest.raises(ValueError, match=r"motion.dropout 1.5 must lie in \[0, 1\]"):
        Motion(dropout=1.5)
    with pytest.raises(ValueError, match=r"motion.points \(3, 2\): give the least and the most"):
        Motion(points=(3, 2))
    with pytest.raises(ValueError, match="move: strategy 'mean'"):
        Motion(strategy="mean")
    with pytest.raises(ValueError, match="which this model does not read: use a Wan image"):
        method(channels=CODER.latent_channels)
    bare = clip().replace(tracks=None, visibility=None, grid_hw=None, query_xy=None)
    with pytest.raises(ClipError, match="has no tracks to move along; track it first"):
        ALL.steering(bare, np.random.default_rng(0))


def test_the_published_preset():
    config = get_config()
    config.lock()
    check_stages(config)
    of = make_system(config).method("move")
    assert of.motion == Motion(dropout=0.05, points=(1, 1024), strategy="sample")
    assert of.raw_spec()[SOURCES].shape == (21, 60, 104) and not of.backbone.model.lora
    shapes = jax.eval_shape(of.init, jax.random.key(0))
    learned, _ = split_trainable(of, shapes)
    assert sum(leaf.size for leaf in jax.tree.leaves(learned)) == 16_394_878_784
    again = ConfigDict(json.loads(json.dumps(to_plain(config))))
    assert config_hash(to_plain(again), again.volatile) == config_hash(
        to_plain(config), config.volatile
    )
    with config.unlocked():
        config.motion.share = 1.0
    with pytest.raises(ValueError, match="motion.share is no field; there are dropout, points"):
        make_system(config).method("move")


def test_a_card_tells_that_a_model_moves_its_image():
    fields = dataclasses.asdict(trained.CARDS["wan"]) | dict(backbone="wan2.1-i2v-14b")
    card = Card.of(json.loads(json.dumps(fields | {"move": method().moves()})))
    assert card.published().move.strategy == "sample"
    assert Card.of(json.loads(json.dumps(fields))).published().move is None
    named = Card.of(json.loads(json.dumps(fields | {"backbone": "wan-move-14b-480p"})))
    assert named.published().preset == "wan2.1-i2v-14b" and named.published().move is not None
