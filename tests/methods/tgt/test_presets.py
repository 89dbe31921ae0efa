"""configs/tgt.py: every preset makes its methods; published numbers and sizes."""

from __future__ import annotations

import json

import jax
import pytest
from ml_collections import ConfigDict

from configs.tgt import GUIDANCE, get_config
from configs.tgt_presets import LARGE
from tavid_jax.engine import trees
from tavid_jax.engine.placement import split_trainable
from tavid_jax.engine.stages import check_stages
from tavid_jax.engine.workdir import config_hash, to_plain
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.tgt.method import Tgt
from tavid_jax.methods.tgt.variants import read_variants
from tavid_jax.pipelines.settings import Sampling

PRESETS = ("demo", "ablations", *LARGE)


def size(tree) -> int:
    return sum(leaf.size for leaf in trees.flatten(tree).values())


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset(preset: str):
    config = get_config(preset)
    assert config.preset == preset and config.system == "tgt"
    config.lock()
    check_stages(config)
    system = make_system(config)
    assert system.main_stage == ("gaussian" if preset == "ablations" else "sparse")
    stages = [name for name in config.order if config.stages[name].kind == "train"]
    for name in stages[:2]:
        assert isinstance(system.method(name), Tgt)
    again = ConfigDict(json.loads(json.dumps(to_plain(config))))
    assert config_hash(to_plain(again), again.volatile) == config_hash(
        to_plain(config), config.volatile
    )
    name = stages[-1]  # lists where tuples were
    assert make_system(again).method(name).backbone == system.method(name).backbone


def test_presets_share_nothing():
    get_config("demo").stages.sparse.options.trajectories.most = 9
    get_config("paper").stages.dense.options.laca.gaussian = "value"
    assert get_config("demo").stages.sparse.options.trajectories.most == 5
    assert get_config("paper_v5e").stages.dense.options.laca.gaussian == "none"
    assert to_plain(get_config()) == to_plain(get_config("demo"))


# Trained (tgt.md 2: 4 (D^2 + D) + 2 D in every block), all others, tokens.
SIZES = {
    "paper": (4_195_532_800, 14_288_491_584, 21 * 30 * 52),
    "paper_v5e": (4_195_532_800, 14_288_491_584, 21 * 30 * 52),
    "wan2_1_1_3b": (283_392_000, 1_418_996_800, 21 * 30 * 52),
    "wan2_2_5b": (30 * (4 * (3072**2 + 3072) + 2 * 3072), 4_999_787_712, 21 * 15 * 26),
}


@pytest.mark.parametrize("preset", LARGE)
def test_what_is_trained_at_full_size(preset: str):
    method = make_system(get_config(preset)).method("sparse")
    trained, frozen = split_trainable(method, jax.eval_shape(method.init, jax.random.key(0)))
    own, published, tokens = SIZES[preset]
    assert size(trained) == own and method.backbone.tokens == tokens
    # Besides the published model the features of the text "", of the prompts that are dropped.
    assert size(frozen) - frozen["null_text"].size == published
    assert {leaf.dtype.name for leaf in jax.tree.leaves(trained)} == {"float32"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(frozen)} == {"bfloat16"}


def test_the_papers_numbers():
    config = get_config("paper")
    dense, sparse = (make_system(config).method(name) for name in ("dense", "sparse"))
    assert (config.data.size_hw, config.data.frames) == ((480, 832), 81)
    assert (dense.backbone.points, dense.draw.most) == (40, 40)
    assert (dense.backbone.laca.gaussian, sparse.backbone.laca.gaussian) == ("none", "input")
    assert (sparse.backbone.points, sparse.draw.least, sparse.draw.most) == (5, 1, 5)
    rule = sparse.backbone.rule
    assert (rule.radius, rule.sigma, rule.unit, rule.overlap) == (2.0, 1.0, "token", "owner")
    assert (sparse.local_dropout, sparse.conditioning.text_dropout) == (0.1, 0.8)
    assert (config.stages.sparse.steps, config.stages.sparse.optimizer.lr) == (200_000, 1e-5)
    options = config.sampling.options
    assert (options.guidance, options.local_guidance, options.get("dual", "literal")) == (
        5.0, 4.0, "literal",
    )  # fmt: skip
    # Thirteen tokens of a disc and five trajectories in 21 latent frames.
    spec = sparse.encoded_spec()
    assert spec["near_token"].shape == (5 * 21 * 13,)
    assert spec["local_text"].shape == (5, 32, 4096) and spec["text"].shape == (512, 4096)
    assert get_config("paper_v5e").mesh.context == 8


@pytest.mark.parametrize("preset", ["demo", "ablations"])
def test_what_is_judged_can_be_sampled(preset: str):
    config = get_config(preset)
    assert config.data.scenes.test >= 200
    start = Sampling((24, 24), 9, 8, "euler", 2, 3.5)
    for variant in read_variants(config).values():
        start.changed({**config.sampling.options, **variant.options})
    for table in config.evaluate.tables.values():
        assert table.main in table.order


def test_the_ablations_are_the_papers():
    """Stages, the four ways of guidance and the other reading, a sweep of lambda; three seeds."""
    config = get_config("ablations")
    variants = read_variants(config)
    tables = config.evaluate.tables
    assert set(tables.stages.order) == {"dense", "sparse", "gaussian", "text"}
    assert set(tables.guidance.order) == {f"cfg_{name}" for name in GUIDANCE}
    swept = [variants[name].options["strength"] for name in tables.strength.order]
    assert swept == sorted(swept) and len(swept) == 4
    assert all(len(v.stage) == 3 for name, v in variants.items() if name != "text")
    stages = config.stages
    for row in ("dense", "sparse", "gaussian"):
        seeds = [stages[name] for name in variants[row].stage]
        assert [stage.seed for stage in seeds] == [0, 1, 2]
        (first,) = {stages[stage.init_from[0]].steps + stage.steps for stage in seeds}
        assert first == stages.first.steps + stages.dense.steps  # all have trained as long
    assert stages.sparse.options.laca.gaussian == "none"
    assert stages.gaussian.options.get("laca", {}) == {}
