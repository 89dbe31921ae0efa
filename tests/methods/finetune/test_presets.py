"""Presets of the published models: their sizes, what they train, and that files may hold them."""

from __future__ import annotations

import json
import math

import jax
import pytest
from ml_collections import ConfigDict

from configs.finetune import get_config
from configs.finetune_presets import LARGE
from tavid_jax.engine import trees
from tavid_jax.engine.placement import split_trainable
from tavid_jax.engine.stages import check_stages
from tavid_jax.engine.workdir import to_plain
from tavid_jax.methods.registry import make_system

# Latents, trained parameters, and all of them.
RANK = 2 * 128
SIZES = {
    "wan2_1_1_3b_lora": ((21, 60, 104, 16), 30 * 8 * RANK * 1536, 1_418_996_800),
    "wan2_1_14b_lora": ((21, 60, 104, 16), 40 * 8 * RANK * 5120, 14_288_491_584),
    "wan2_2_5b_lora": ((13, 30, 52, 48), 30 * 8 * RANK * 3072, 4_999_787_712),
    "cogvideox_5b_lora": ((13, 60, 90, 16), 42 * 4 * RANK * 3072, 5_570_283_072),
    "cogvideox_5b_i2v_lora": ((13, 60, 90, 16), 42 * 4 * RANK * 3072, 5_625_087_552),
}
SIZES |= {f"{name}_full": (*SIZES[f"{name}_lora"][:1], 0, SIZES[f"{name}_lora"][2])
          for name in ("wan2_1_1_3b", "wan2_2_5b", "cogvideox_5b")}  # fmt: skip


def count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def test_the_list_is_whole():
    assert SIZES.keys() == LARGE.keys()


@pytest.mark.parametrize("preset", LARGE)
def test_what_is_trained(preset: str):
    config = get_config(preset)
    config.lock()
    assert config.preset == preset
    check_stages(config)
    method = make_system(config).method("finetune")
    latents, adapters, published = SIZES[preset]
    assert method.encoded_spec()["video"].shape == latents
    shapes = jax.eval_shape(method.init, jax.random.key(0))
    trained, frozen = split_trainable(method, shapes)
    if adapters:
        assert (count(trained), count(frozen)) == (adapters, published)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(frozen)} == {"bfloat16"}
    else:
        assert count(trained) == published and not trees.flatten(frozen)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(trained)} == {"float32"}


@pytest.mark.parametrize("preset", LARGE)
def test_a_file_may_hold_it(preset: str):
    config = get_config(preset)
    again = ConfigDict(json.loads(json.dumps(to_plain(config))))
    assert to_plain(again) == to_plain(config)
    make_system(again).method("finetune")  # lists where tuples were
