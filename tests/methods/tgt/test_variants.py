"""What is compared: variants that a config's tables name, and how they are sampled."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict

from configs.tgt import get_config, variant
from tavid_jax.methods.tgt.variants import read_variants


@pytest.fixture
def config() -> ConfigDict:
    return get_config("demo")


def test_only_what_tables_name_is_read(config: ConfigDict):
    config.evaluate.variants.other = variant("nowhere", "x", "x")
    found = read_variants(config)
    assert list(found) == ["tgt", "early", "dense", "text"]
    assert found["early"].stage == ("sparse@100",) and found["tgt"].stage == ("sparse",)
    assert not found["text"].is_located and found["tgt"].is_located
    assert found["text"].options == {"guidance": 3.5} and found["tgt"].options == {}
    config.evaluate.tables = ConfigDict()
    assert read_variants(config) == {}


def test_a_variant_may_have_several_seeds():
    found = read_variants(get_config("ablations"))
    assert found["gaussian"].stage == ("gaussian", "gaussian_seed1", "gaussian_seed2")
    assert found["cfg_local"].options == {"dual": "local_given", "local_guidance": 3.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda e: e.tables.headline.update(order=("tgt", "x")),
            "evaluate.tables.headline: 'x' is no variant, there are .*tgt",
        ),
        (
            lambda e: e.tables.headline.update(main="s9"),
            "evaluate.tables.headline.main 's9' is none of its order, tgt, early, dense, text",
        ),
        (
            lambda e: e.tables.headline.update(against="base"),
            "evaluate.tables.headline.against 'base' is none of its order",
        ),
        (
            lambda e: e.tables.headline.update(over="strength"),
            "evaluate.tables.headline.over 'strength': variant 'tgt' does not set this option",
        ),
        (
            lambda e: e.variants.tgt.options.update(lamda=0.5),
            "evaluate.variants.tgt.options: 'lamda' is no option of sampling",
        ),
        (
            lambda e: e.variants.tgt.update(stage="sprase"),
            "evaluate.variants.tgt: stage 'sprase' is none of dense, sparse",
        ),
        (
            lambda e: e.variants.__setitem__("early", ConfigDict(dict(stage="sparse"))),
            "evaluate.variants.early has no title, short",
        ),
    ],
)
def test_what_could_not_be_judged_is_told_at_once(config: ConfigDict, change, message: str):
    with config.unlocked():
        change(config.evaluate)
    with pytest.raises(ValueError, match=message):
        read_variants(config)
