"""The published encoders: parameter counts, transformers' shapes, places on a mesh."""

import math

import jax
import pytest

from tavid_jax.models.text.config import TEXT_PRESETS
from tavid_jax.models.text.sharding import RULES
from tavid_jax.models.text.t5 import T5Encoder, param_shapes
from tavid_jax.parallel.sharding import PathTable, paths
from tavid_jax.weights.t5 import t5_shapes, t5_table

# Parameters, and tensors of the file with the encoder alone.
PUBLISHED = {"t5-v1.1-xxl": (4_762_310_656, 219), "umt5-xxl": (5_680_910_336, 242)}


def test_all_presets_are_here():
    assert set(TEXT_PRESETS) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts(name: str):
    leaves = jax.tree.leaves(param_shapes(TEXT_PRESETS[name]))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == PUBLISHED[name][0]


@pytest.mark.parity
@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_of_transformers(name: str):
    """transformers' class, built on no device, has the shapes that we read."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from t5_reference import torch_class

    config = TEXT_PRESETS[name]
    with torch.device("meta"):
        model = torch_class(config)
    theirs = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    theirs.pop("encoder.embed_tokens.weight")  # the same as "shared.weight"
    shapes = dict(paths(t5_shapes(config)))
    for naming in ("transformers", "original"):
        ours = {}
        for row in t5_table(config, naming).rows:
            ours |= dict.fromkeys(row.keys(), row.source_shape(shapes[row.path].shape))
        assert len(ours) == PUBLISHED[name][1]
        if naming == "transformers":
            assert ours == theirs


@pytest.mark.parametrize("name", PUBLISHED)
def test_runs_at_its_own_size(name: str):
    config = TEXT_PRESETS[name]
    features = jax.eval_shape(
        T5Encoder(config, dtype="bfloat16").apply,
        {"params": param_shapes(config)},
        jax.ShapeDtypeStruct((2, 226), "int32"),
        jax.ShapeDtypeStruct((2, 226), "bool"),
    )
    assert features.shape == (2, 226, 4096) and features.dtype == "bfloat16"


def test_every_rule_of_sharding_decides_something():
    trees = {name: param_shapes(config) for name, config in TEXT_PRESETS.items()}
    assert PathTable(rules=RULES).unused(trees) == []
