"""configs/tavid.py: every preset makes its methods; published numbers; what is wrong with one."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.tavid import get_config
from configs.tavid_presets import LARGE
from tavid_jax.engine import trees
from tavid_jax.engine.placement import split_trainable
from tavid_jax.engine.stages import check_stages
from tavid_jax.engine.workdir import to_plain
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.tavid import settings
from tavid_jax.methods.tavid.method import Tavid


def size(tree) -> int:
    return sum(leaf.size for leaf in trees.flatten(tree).values())


@pytest.mark.parametrize("preset", ["demo", "ablations", *LARGE])
def test_every_preset(preset: str):
    config = get_config(preset)
    assert config.preset == preset and config.system == "tavid"
    config.lock()
    check_stages(config)
    system = make_system(config)
    trained = [name for name in config.order if config.stages[name].kind == "train"]
    for name in trained[::12]:
        assert isinstance(system.method(name), Tavid)
    again = ConfigDict(json.loads(json.dumps(to_plain(config))))
    assert settings.read_targets(again) == settings.read_targets(config)


def test_the_paper_at_full_size():
    config = get_config("paper")
    stage, method = config.stages.tavid, make_system(get_config("paper")).method("tavid")
    assert (stage.steps, stage.batch_size, stage.optimizer.lr) == (2000, 4, 1e-4)
    assert (config.data.frames, config.data.size_hw) == (49, (480, 720))
    spec = method.encoded_spec()
    assert spec["mask"].shape == (60, 90, 1) and spec["aim"].shape == (1, 30 * 45)
    assert spec["columns"].shape == (1, 226)
    trained, frozen = split_trainable(method, jax.eval_shape(method.init, jax.random.key(0)))
    # tavid.md 3.2: adapters of rank 128, and the whole convolution of 33 channels.
    assert size(trained) == 132_120_576 + 408_576
    assert {leaf.dtype.name for leaf in jax.tree.leaves(trained)} == {"float32"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(frozen)} == {"bfloat16"}
    assert method.backbone.model.lora[0].scale == 0.5
    weights = method.attention.blocks.weights(42, 0, jnp.int32(3))
    assert np.flatnonzero(weights).tolist() == [5, 8, 11, 14, 17, 20, 23]


@pytest.mark.parametrize(
    ("preset", "aim", "blocks"), [("wan2_1_14b", 30 * 52, 40), ("wan2_2_5b", 15 * 26, 30)]
)
def test_wan_at_full_size(preset: str, aim: int, blocks: int):
    method = make_system(get_config(preset)).method("tavid")
    assert method.encoded_spec()["aim"].shape == (1, aim)
    assert method.depth == blocks and max(method.attention.blocks.chosen) < blocks


def test_baselines():
    without = make_system(get_config("no_mask")).method("tavid")
    assert "mask" not in without.encoded_spec() and not without.attention.weight
    assert without.trainable_paths == ("backbone/lora/.*",)
    for name in ("backbone", "modulation"):
        assert get_config(name).order == ()
    assert get_config("modulation").sampling.modulation > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.attention.blocks.update(chosen=(1, 9)), "block 9 does not exist; the model"),
        (lambda c: c.attention.blocks.update(mode="most"), "none of fixed, sample, random, unif"),
        (lambda c: c.attention.update(direction="up"), "none of video_to_text, text_to_video"),
        (lambda c: c.attention.update(norm="max"), "for looking at maps: as a loss they collapse"),
        (lambda c: c.attention.update(weight=-1.0), "must be 0 or more"),
        (lambda c: c.masks.update(dropout=2.0), r"masks.dropout 2.0 must lie in \[0, 1\]"),
        (lambda c: c.masks.update(patch=False), "masks.given needs masks.patch"),
        (lambda c: c.learn.update(text_dropout=0.1), "texts without the trigger word"),
        (lambda c: c.targets.update(latent="mean"), "targets.latent 'mean' is none of nearest"),
        (lambda c: c.targets.update(words=("target", "source")), "name one object for each of 2"),
        (lambda c: c.targets.update(sentence="It moves."), "lacks the word 'target'"),
    ],
)
def test_what_is_wrong_with_a_config(change, message: str):
    config = get_config("demo")
    change(config)
    with pytest.raises(ValueError, match=message):
        make_system(config).method("tavid")


def test_block_options_of_a_stage():
    config = get_config("ablations")
    system = make_system(config)
    assert system.method("plain_random").attention.blocks.mode == "random"
    assert system.method("plain_t2v_seed2").attention.direction == "text_to_video"
    assert system.method("noisy_tavid").masks.noise == 0.15
    assert system.method("plain_no_loss").attention.weight == 0
