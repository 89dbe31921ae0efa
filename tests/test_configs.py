"""Every preset makes sense before anybody waits for it."""

import json

import jax
import pytest
from ml_collections import ConfigDict

from configs import trajloom
from configs.common import choose
from tavid_jax.engine import trees
from tavid_jax.engine.placement import split_trainable
from tavid_jax.engine.stages import check_stages
from tavid_jax.engine.workdir import config_hash, strip, to_plain
from tavid_jax.methods.registry import make_system

PRESETS = ("demo", "tiny", "ablations", "small", "paper")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_stage_can_be_built(preset):
    config = trajloom.get_config(preset)
    assert config.preset == preset
    config.lock()
    check_stages(config)
    system = make_system(config)
    learned: set[str] = set()
    for name in config.order:
        if config.stages[name].kind == "encode":  # which needs a checkpoint
            continue
        method, stage = system.method(name), config.stages[name]
        shapes = jax.eval_shape(method.init, jax.random.key(0))
        trainable, frozen = split_trainable(method, shapes)
        assert trees.flatten(trainable)
        # What is frozen comes from the stages before, or from init itself (fixed tables).
        parts = {path.split("/")[0] for path in trees.flatten(frozen)}
        parts -= {path.split("/")[0] for path in trees.flatten(trainable)}
        assert parts <= learned, f"{name}: {parts - learned} come from nowhere"
        learned |= {path.split("/")[0] for path in trees.flatten(trainable)}
        assert (stage.data in stage.cached_by) == (stage.data != "train")
    for variant in config.variants:
        system.settings(variant)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_config_survives_its_json(preset):
    config = trajloom.get_config(preset)
    again = ConfigDict(json.loads(json.dumps(to_plain(config))))
    assert to_plain(again) == to_plain(config)
    assert config_hash(to_plain(again), again.volatile) == config_hash(
        to_plain(config), config.volatile
    )
    system = make_system(again)  # lists where tuples were
    for name in again.order:
        if again.stages[name].kind != "encode":
            system.method(name)


def test_presets_share_nothing():
    trajloom.get_config("demo").stages.vae.optimizer.lr = 7.0
    assert trajloom.get_config("demo").stages.vae.optimizer.lr != 7.0
    config = trajloom.get_config("demo")
    config.stages.flow.optimizer.lr = 7.0
    assert config.stages.on_policy.optimizer.lr != 7.0


def test_demo_is_the_default():
    assert to_plain(trajloom.get_config()) == to_plain(trajloom.get_config("demo"))


def test_unknown_preset_lists_what_there_is():
    with pytest.raises(ValueError, match="no preset 'dmo'; there are demo, tiny, ablations, paper"):
        trajloom.get_config("dmo")
    with pytest.raises(ValueError, match="there are a"):
        choose({"a": ConfigDict}, "b")


def test_what_only_changes_the_judging_may_change_in_a_workdir():
    config = trajloom.get_config("tiny")
    before = strip(to_plain(config), config.volatile)
    config.update(clips="videos", title="x", data_dir="elsewhere", compile_cache="")
    config.evaluate.samples, config.sampling.steps, config.mesh.fsdp = 9, 3, 2
    config.data.threads = 7
    assert strip(to_plain(config), config.volatile) == before
    config.train_clips = "videos"
    config.learn.vae.beta = 0.1
    changed = strip(to_plain(config), config.volatile)
    assert {k for k in changed if changed[k] != before[k]} == {"train_clips", "learn.vae.beta"}


def test_the_papers_numbers():
    """Weights and distributions that TrajLoom publishes."""
    c = trajloom.get_config("demo")
    assert (c.learn.vae.velocity, c.learn.vae.neighbour) == (0.1, 0.2)
    flow = c.learn.flow
    assert (flow.tube_noise, flow.small_prob, flow.small_max) == (0.05, 0.2, 0.1)
    assert (flow.source, flow.source_std, flow.invisible_weight) == ("anchor_first", 0.1, 0.01)
    assert (c.sampling.solver, c.sampling.steps, c.sampling.threshold) == ("euler", 10, 0.5)
    assert c.data.scenes.test >= 200
