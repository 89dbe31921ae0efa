"""Published sizes: parameter counts, tensors of diffusers' class, and what belongs to a pair."""

import math

import jax
import pytest
from wan_reference import diffusers_arguments

from tavid_jax.models.wan.config import PRESETS, WanConfig
from tavid_jax.models.wan.experts import BOUNDARIES
from tavid_jax.models.wan.transformer import param_shapes

# Parameters and tensors of each published transformer (of each expert, where there are two).
PUBLISHED = {
    "wan2.1-t2v-1.3b": (1_418_996_800, 825),
    "wan2.1-t2v-14b": (14_288_491_584, 1095),
    "wan2.1-i2v-14b": (16_394_878_784, 1303),
    "wan2.1-flf2v-14b": (16_394_878_784 + 514 * 1280, 1304),
    "wan2.2-ti2v-5b": (4_999_787_712, 825),
    "wan2.2-t2v-a14b": (14_288_491_584, 1095),
    "wan2.2-i2v-a14b": (14_288_901_184, 1095),
}


def test_all_presets_are_here():
    assert set(PRESETS) == set(PUBLISHED)
    assert set(BOUNDARIES) == {name for name in PRESETS if "a14b" in name}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts(name: str):
    leaves = jax.tree.leaves(param_shapes(PRESETS[name]))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == PUBLISHED[name][0]


@pytest.mark.parity
@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_diffusers(name: str):
    """Each layer at full size, by its shape; names are the business of the weights' tables."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    config = PRESETS[name]
    with torch.device("meta"):
        model = diffusers.WanTransformer3DModel(**diffusers_arguments(config))
    want = [tensor.numel() for tensor in model.state_dict().values()]
    assert len(want) == PUBLISHED[name][1]
    got = []
    for path, leaf in jax.tree.leaves_with_path(param_shapes(config)):
        layers = config.num_layers if path[0].key == "blocks" else 1
        got += layers * [math.prod(leaf.shape) // layers]
    assert sorted(got) == sorted(want)


def test_token_counts():
    """480 x 832 x 81, 720 x 1280 x 81, and what the 5B makes of 704 x 1280 x 121."""
    wan21, wan22 = PRESETS["wan2.1-t2v-14b"], PRESETS["wan2.2-ti2v-5b"]
    assert math.prod(wan21.grid((21, 60, 104))) == 32760
    assert math.prod(wan21.grid((21, 90, 160))) == 75600
    assert math.prod(wan22.grid((31, 44, 80))) == 27280


def test_configs_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="head_dim=15 and freq_dim=256 must be even"):
        WanConfig(head_dim=15)
    with pytest.raises(ValueError, match="image_tokens without image_dim"):
        WanConfig(image_tokens=514)
