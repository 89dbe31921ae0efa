"""CLIP's image tower equals transformers', tokens of every layer and features."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_reference import (
    CONFIGS,
    VISION,
    channels_first,
    images,
    ported,
    torch_config,
    torch_model,
)
from random_weights import relative_error

from tavid_jax.models.vision.clip import CLIPVision, param_shapes
from tavid_jax.models.vision.config import CLIP_PRESETS, VISION_PRESETS, CLIPVisionConfig

# Parameters of each published image tower with its projection.
PUBLISHED = {
    "clip-vit-h-14": 632_076_800,
    "clip-vit-b-32": 87_849_216,
    "clip-vit-l-14": 303_966_208,
}


@functools.partial(jax.jit, static_argnames=("model", "method", "layer"))
def run(model: CLIPVision, params, given, method: str, **options):
    return model.apply({"params": params}, given, method=method, **options)


@pytest.fixture(scope="module")
def towers():
    """{name: (transformers' model, our parameters)} of models that were asked for."""
    pytest.importorskip("transformers")

    @functools.cache
    def make(name: str, seed: int = 0):
        model = torch_model(CONFIGS[name], seed)
        return model, ported(model, CONFIGS[name])["vision"]

    return make


@pytest.mark.parity
@pytest.mark.parametrize(("name", "seed"), [(name, i) for i, name in enumerate(CONFIGS)])
def test_tokens_and_features(towers, name: str, seed: int):
    torch = pytest.importorskip("torch")
    model, params = towers(name, seed)
    config = CONFIGS[name].vision
    given = images(config, seed)
    with torch.no_grad():
        pixels = torch.from_numpy(channels_first(given))
        want = model.vision_model(pixels, output_hidden_states=True)
        features = model.visual_projection(want.pooler_output)
    ours = CLIPVision(config)
    states = [h.numpy() for h in want.hidden_states]
    assert len(states) == config.num_layers + 1
    for layer, state in enumerate(states):
        assert relative_error(run(ours, params, given, "hidden", layer=layer), state) <= 1e-5
    assert relative_error(run(ours, params, given, "hidden"), states[-2]) <= 1e-5
    assert relative_error(run(ours, params, given, "pooled"), want.pooler_output) <= 1e-5
    assert relative_error(run(ours, params, given, "features"), features) <= 1e-5


@pytest.mark.parametrize("layer", [-1, -2, 2])
def test_scan_equals_unrolled(towers, layer: int):
    _, params = towers("gelu")
    given = jnp.asarray(images(VISION))
    scanned, unrolled = (
        run(CLIPVision(VISION, scan=scan), params, given, "hidden", layer=layer)
        for scan in (True, False)
    )
    assert relative_error(scanned, unrolled) <= 1e-6


def test_bfloat16(towers):
    _, params = towers("gelu")
    given = jnp.asarray(images(VISION))
    half = CLIPVision(VISION, dtype=jnp.bfloat16)
    tokens = run(half, params, given, "hidden")
    assert tokens.dtype == jnp.bfloat16
    whole = run(CLIPVision(VISION), params, given, "features")
    features = run(half, params, given, "features")
    assert features.dtype == jnp.float32
    assert 0 < relative_error(features, whole) < 0.1


def test_initialisation_has_the_stated_shapes():
    model = CLIPVision(VISION, param_dtype=jnp.bfloat16)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(images(VISION)))["params"]
    got = jax.tree.map(lambda leaf: leaf.shape, params)
    assert got == jax.tree.map(lambda leaf: leaf.shape, param_shapes(VISION))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}


def test_initial_features_are_of_order_one():
    model = CLIPVision(VISION)
    given = jnp.asarray(images(VISION))
    params = model.init(jax.random.key(0), given)["params"]
    features = run(model, params, given, "features")
    assert 0.2 < float(jnp.std(features)) < 5


def test_every_published_tower_is_here():
    assert set(CLIP_PRESETS) == set(PUBLISHED)
    assert set(VISION_PRESETS) == {f"{name}-vision" for name in PUBLISHED}
    assert VISION_PRESETS["clip-vit-h-14-vision"] == CLIPVisionConfig()
    assert CLIPVisionConfig().num_tokens == 257


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts(name: str):
    leaves = jax.tree.leaves(param_shapes(CLIP_PRESETS[name].vision))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == PUBLISHED[name]


@pytest.mark.parity
@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_those_of_transformers(name: str):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        config = torch_config(CLIP_PRESETS[name]).vision_config
        model = transformers.CLIPVisionModelWithProjection(config)
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == PUBLISHED[name]


def test_bad_input_is_refused():
    model = CLIPVision(VISION)
    given = jnp.asarray(images(VISION))
    params = jax.eval_shape(model.init, jax.random.key(0), given)["params"]

    def attempt(message: str, given=given, model=model, method="hidden", params=params, **options):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(
                lambda p: model.apply({"params": p}, given, method=method, **options), params
            )

    attempt("images of 28x27 pixels: this model reads 28x28", given[:, :, :27])
    attempt("layer 4 does not exist: 3 blocks, use -4 to 3", layer=4)
    attempt("layer -5 does not exist", layer=-5)
    bare = CLIPVision(CLIPVisionConfig(**{**vars(VISION), "feature_dim": None}))
    rest = {name: leaf for name, leaf in params.items() if name != "head"}
    attempt(
        "without the projection|feature_dim is None", model=bare, method="features", params=rest
    )
    with pytest.raises(ValueError, match="patches of 5 do not fill an image of 28 pixels"):
        CLIPVisionConfig(image_size=28, patch_size=5)
    with pytest.raises(ValueError, match="CLIPVisionConfig: width=30 is not a multiple of"):
        CLIPVisionConfig(width=30, num_heads=4)


def test_layers_behind_the_one_that_is_asked_for_do_not_matter(towers):
    _, params = towers("gelu")
    given = jnp.asarray(images(VISION))
    changed = {**params, "blocks": jax.tree.map(lambda a: a.at[2].set(jnp.nan), params["blocks"])}
    got, want = (run(CLIPVision(VISION), p, given, "hidden") for p in (changed, params))
    np.testing.assert_array_equal(got, want)
