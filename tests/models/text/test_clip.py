"""CLIP's text tower equals transformers', tokens and features."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_reference import CONFIGS, TEXT, ported, tokens, torch_config, torch_model
from random_weights import relative_error

from tavid_jax.models.text.clip import CLIPText, param_shapes
from tavid_jax.models.vision.config import (
    CLIP_PRESETS,
    CLIPConfig,
    CLIPTextConfig,
    CLIPVisionConfig,
)

# Parameters of each published text tower with its projection.
PUBLISHED = {
    "clip-vit-h-14": 354_032_640,
    "clip-vit-b-32": 63_428_096,
    "clip-vit-l-14": 123_650_304,
}


@functools.partial(jax.jit, static_argnames=("model", "method"))
def run(model: CLIPText, params, given, method: str):
    return model.apply({"params": params}, given, method=method)


@pytest.fixture(scope="module")
def towers():
    """{name: (transformers' model, our parameters)} of models that were asked for."""
    pytest.importorskip("transformers")

    @functools.cache
    def make(name: str, seed: int = 0):
        model = torch_model(CONFIGS[name], seed)
        return model, ported(model, CONFIGS[name])["text"]

    return make


@pytest.mark.parity
@pytest.mark.parametrize(("name", "seed"), [(name, i) for i, name in enumerate(CONFIGS)])
def test_tokens_and_features(towers, name: str, seed: int):
    torch = pytest.importorskip("torch")
    model, params = towers(name, seed)
    config = CONFIGS[name].text
    given = tokens(config, seed)
    with torch.no_grad():
        want = model.text_model(torch.from_numpy(given).long())
        features = model.text_projection(want.pooler_output)
    ours = CLIPText(config)
    assert relative_error(run(ours, params, given, "hidden"), want.last_hidden_state) <= 1e-5
    assert relative_error(run(ours, params, given, "pooled"), want.pooler_output) <= 1e-5
    assert relative_error(run(ours, params, given, "features"), features) <= 1e-5


def test_what_follows_the_end_does_not_matter(towers):
    _, params = towers("gelu")
    model, given = CLIPText(TEXT), jnp.asarray(tokens(TEXT))
    ends = given.argmax(axis=1)
    behind = np.arange(given.shape[1]) > ends[:, None]
    padded = np.where(behind, 2, given).astype(np.int32)
    assert (padded != given).any()
    short = padded[:, : ends.max() + 1]
    want = run(model, params, given, "features")
    np.testing.assert_array_equal(run(model, params, padded, "features"), want)
    assert relative_error(run(model, params, short, "features"), want) <= 1e-6


def test_scan_equals_unrolled(towers):
    _, params = towers("quick_gelu")
    config = CONFIGS["quick_gelu"].text
    scanned, unrolled = (
        run(CLIPText(config, scan=scan), params, tokens(config), "features")
        for scan in (True, False)
    )
    assert relative_error(scanned, unrolled) <= 1e-6


@pytest.mark.parametrize("attention", ["xla", "chunked"])
def test_bfloat16(towers, attention: str):
    _, params = towers("gelu")
    half = CLIPText(TEXT, dtype=jnp.bfloat16, attention=attention)
    features = run(half, params, tokens(TEXT), "features")
    assert features.dtype == jnp.float32
    whole = run(CLIPText(TEXT), params, tokens(TEXT), "features")
    assert 0 < relative_error(features, whole) < 0.1


def test_initialisation_has_the_stated_shapes():
    model = CLIPText(TEXT, param_dtype=jnp.bfloat16)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(tokens(TEXT)))["params"]
    got = jax.tree.map(lambda leaf: leaf.shape, params)
    assert got == jax.tree.map(lambda leaf: leaf.shape, param_shapes(TEXT))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts(name: str):
    leaves = jax.tree.leaves(param_shapes(CLIP_PRESETS[name].text))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == PUBLISHED[name]


@pytest.mark.parity
@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_those_of_transformers(name: str):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        config = torch_config(CLIP_PRESETS[name]).text_config
        model = transformers.CLIPTextModelWithProjection(config)
    counted = {k: v for k, v in model.state_dict().items() if "position_ids" not in k}
    assert sum(tensor.numel() for tensor in counted.values()) == PUBLISHED[name]


def test_bad_input_is_refused():
    model, given = CLIPText(TEXT), jnp.asarray(tokens(TEXT))
    params = jax.eval_shape(model.init, jax.random.key(0), given)["params"]
    long = jnp.concatenate([given, given], axis=1)
    with pytest.raises(ValueError, match="texts of 22 tokens: this model reads at most 11"):
        jax.eval_shape(lambda p: model.apply({"params": p}, long), params)
    with pytest.raises(ValueError, match="CLIPTextConfig: width=30 is not a multiple of"):
        CLIPTextConfig(width=30)
    with pytest.raises(ValueError, match="image features of 8 and text features of 9"):
        CLIPConfig(CLIPVisionConfig(feature_dim=8), CLIPTextConfig(feature_dim=9))
