"""From a config to neighbourhoods, attention and draws; what is wrong with one."""

from __future__ import annotations

import jax
import pytest
from ml_collections import ConfigDict

from configs.tgt import get_config
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.tgt import settings
from tavid_jax.methods.tgt.draw import Draw
from tavid_jax.pipelines.located import Locate, LocatedWan
from tests.methods.tgt import small


@pytest.fixture
def config() -> ConfigDict:
    return get_config("demo")


def located(config: ConfigDict, stage: str = "sparse") -> LocatedWan:
    return settings.read_located(config, config.stages[stage], small.plain())


def test_a_stage_changes_what_it_names_alone(config: ConfigDict):
    dense, sparse = located(config, "dense"), located(config)
    assert (dense.laca.gaussian, dense.points) == ("none", 40)
    assert (sparse.laca.gaussian, sparse.points) == ("input", 5)
    assert dense.rule == sparse.rule and dense.text_positions == sparse.text_positions == 8
    draws = {name: settings.read_draw(config, config.stages[name]) for name in config.order}
    assert draws["dense"] == Draw("points", 20, 40, each=False)
    assert draws["sparse"] == Draw("objects", 1, 5, each=True)
    assert config.laca.gaussian == "input" and config.trajectories.points == 5


def test_the_rule_says_how_overlaps_are_read(config: ConfigDict):
    config.rule.overlap = "blend"
    made = located(config)
    assert made.rule.overlap == made.laca.overlap == "blend"
    config.stages.sparse.options.rule = dict(overlap="concat")
    made = located(config)
    assert made.rule.overlap == made.laca.overlap == "concat"
    assert made.where == Locate(made.laca, made.rule, 5, 8)


@pytest.mark.parametrize(
    ("given", "wanted"), [(0.5, (0.5, 0.5)), (1, (1, 1)), ((0.2, 0.8), (0.2, 0.8))]
)
def test_lambda_is_one_number_or_two(config: ConfigDict, given, wanted: tuple):
    with config.unlocked():
        config.trajectories = config.trajectories.to_dict() | dict(strength=given)
    drops = settings.read_drops(config, config.stages.sparse)
    assert drops == dict(local_dropout=0.1, null="drop", strength=wanted)


def test_lists_of_a_file_count_as_tuples(config: ConfigDict):
    plain = ConfigDict({"rule": {**config.rule.to_dict(), "scale_range": [0.5, 3.0]}})
    plain.laca = {**config.laca.to_dict(), "layers": [0, 1]}
    plain.trajectories = {**config.trajectories.to_dict(), "strength": [0.1, 0.9]}
    stage = ConfigDict(dict(options=dict()))
    made = settings.read_located(plain, stage, small.plain())
    assert (made.rule.scale_range, made.laca.layers) == ((0.5, 3.0), (0, 1))
    assert settings.read_drops(plain, stage)["strength"] == (0.1, 0.9)


def set_in(path: str, value):
    """Puts a value into a node of the config, also a new field."""

    def change(config: ConfigDict) -> None:
        *nodes, last = path.split(".")
        with config.unlocked():
            for node in nodes:
                config = config[node]
            config[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("rule.sigmas", 1.0, "rule.sigmas is no field; there are radius, sigma"),
        ("laca.ranks", 4, "laca.ranks is no field; there are gaussian"),
        ("trajectories.mots", 4, "trajectories.mots is no field; there are source, least, most"),
        ("rule.sigma", 0.0, "sigma is 0.0: it must be above 0"),
        ("rule.overlap", "all", "overlap is 'all': use one of owner, blend, concat"),
        ("laca.gaussian", "keys", "gaussian is 'keys': use one of input, value, none"),
        ("laca.formulation", "segments", "segments.* exists for gaussian value or none"),
        ("laca.layers", (0, 4), "block 4 of 4 does not exist; use 0 to 3"),
        ("trajectories.source", "boxes", "trajectories.source 'boxes' is none of"),
        ("trajectories.points", 0, "points 0: make room for at least 1"),
        ("trajectories.text_positions", 13, "text_positions 13: this model's texts have 12"),
        ("trajectories.null", "zero", "trajectories.null 'zero' is none of"),
        ("main", "sprase", "config.main 'sprase' is none of the stages dense, sparse"),
        ("text.train", True, "set text.train to False"),
        ("model.lora", (dict(path="blocks/attn/q", rank=2),), "trains no adapters"),
        ("model.backbone", "wan2.1-i2v-14b", "reads an image in channels"),
        ("learn.text_dropout", 1.2, r"learn.text_dropout 1.2 must lie in \[0, 1\]"),
    ],
)
def test_what_is_wrong_with_a_config(config: ConfigDict, path: str, value, message: str):
    for stage in config.stages.values():
        stage.options = {}
    config.trajectories.source = "objects"
    set_in(path, value)(config)
    with pytest.raises(ValueError, match=message):
        method = make_system(config).method("sparse")
        jax.eval_shape(method.init, jax.random.key(0))
