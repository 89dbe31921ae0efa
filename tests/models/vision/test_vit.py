"""The plain ViT equals transformers', and so does DINOv2: at their own size and at others."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_reference import channels_first
from random_weights import randomise, relative_error, state_arrays

from tavid_jax.models.vision.config import VIT_PRESETS, ViTConfig
from tavid_jax.models.vision.vit import ViT, param_shapes
from tavid_jax.weights.streaming import port_table
from tavid_jax.weights.vit import vit_table

TINY = ViTConfig(width=24, num_heads=3, num_layers=2, mlp_dim=40, image_size=28, patch_size=7)
CONFIGS = {
    "tiny": TINY,
    "one block, other sizes": dataclasses.replace(
        TINY, num_layers=1, num_heads=4, image_size=20, patch_size=5, epsilon=1e-3
    ),
    "dinov2": dataclasses.replace(TINY, mlp_dim=48, epsilon=1e-5, layer_scale=True),
}
# Layers in front of norms: tokens near 0.01, where a wrong epsilon shows.
SHRUNK = (r"embeddings", r"layers\.0\.(attention\.o_proj|mlp\.fc2)")
# What transformers calls a layer in memory, and what it writes to files.
IN_FILES = {
    "layers.": "encoder.layer.",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


@functools.partial(jax.jit, static_argnames=("model", "method"))
def run(model: ViT, params, given, method: str = "features"):
    return model.apply({"params": params}, given, method=method)


def in_files(state: dict[str, np.ndarray], is_v2: bool = False) -> dict[str, np.ndarray]:
    """Keys as transformers writes them; DINOv2's differ only in attention."""
    renames = {k: v for k, v in IN_FILES.items() if not is_v2 or k.startswith("attention")}
    renamed = {}
    for key, value in state.items():
        for memory, file in renames.items():
            key = key.replace(memory, file)
        renamed[key] = value
    return renamed


@pytest.fixture(scope="module")
def models():
    """{name: (transformers' model, our parameters)} of models that were asked for."""
    transformers = pytest.importorskip("transformers")

    @functools.cache
    def make(name: str, seed: int = 0):
        c = CONFIGS[name]
        sizes = dict(
            hidden_size=c.width,
            num_hidden_layers=c.num_layers,
            num_attention_heads=c.num_heads,
            image_size=c.image_size,
            patch_size=c.patch_size,
            layer_norm_eps=c.epsilon,
        )
        if c.layer_scale:
            config = transformers.Dinov2Config(**sizes, mlp_ratio=c.mlp_dim // c.width)
            model, naming = transformers.Dinov2Model(config), "dinov2"
        else:
            config = transformers.ViTConfig(**sizes, intermediate_size=c.mlp_dim)
            model, naming = transformers.ViTModel(config, add_pooling_layer=False), "transformers"
        model = randomise(model, seed, SHRUNK[: 1 if c.layer_scale else 2])
        state = in_files(state_arrays(model), c.layer_scale)
        return model, port_table(vit_table(c, naming), state, param_shapes(c))

    return make


@pytest.mark.parity
@pytest.mark.parametrize("patches_hw", [None, (3, 6), (9, 4)])
@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_of_any_size(models, name: str, patches_hw):
    torch = pytest.importorskip("torch")
    model, params = models(name)
    c = CONFIGS[name]
    size_hw = [c.patch_size * n for n in patches_hw or (c.image_size // c.patch_size,) * 2]
    given = np.random.default_rng(0).standard_normal((2, *size_hw, 3)).astype(np.float32)
    with torch.no_grad():
        pixels = torch.from_numpy(channels_first(given))
        asked = {} if c.layer_scale else {"interpolate_pos_encoding": patches_hw is not None}
        want = model(pixels, **asked).last_hidden_state
    tokens = run(ViT(c), params, given, "hidden")
    assert relative_error(tokens, want) <= 1e-5
    features = run(ViT(c), params, given)
    assert relative_error(features, want[:, 0]) <= 1e-5


def test_scan_equals_unrolled_and_bfloat16_is_close(models):
    _, params = models("tiny")
    given = jnp.asarray(np.random.default_rng(0).standard_normal((2, 28, 28, 3)), jnp.float32)
    want = run(ViT(TINY), params, given)
    assert relative_error(run(ViT(TINY, scan=False), params, given), want) <= 1e-6
    half = run(ViT(TINY, dtype=jnp.bfloat16), params, given)
    assert half.dtype == jnp.float32
    assert 0 < relative_error(half, want) < 0.15


def test_initialisation_has_the_stated_shapes():
    model = ViT(TINY)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 3)))["params"]
    got = jax.tree.map(lambda leaf: leaf.shape, params)
    assert got == jax.tree.map(lambda leaf: leaf.shape, param_shapes(TINY))


def test_published_model_is_here():
    assert VIT_PRESETS["dino-vit-b-16"] == ViTConfig()
    leaves = jax.tree.leaves(param_shapes(ViTConfig()))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == 85_798_656
    assert ViTConfig().num_tokens == 197
    # Without the mask token of its training, which no picture needs.
    small = jax.tree.leaves(param_shapes(VIT_PRESETS["dinov2-small"]))
    assert sum(math.prod(leaf.shape) for leaf in small) == 22_056_576 - 384


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="ViTConfig: patches of 5 do not fill an image of 28"):
        dataclasses.replace(TINY, patch_size=5)
    with pytest.raises(ValueError, match="ViTConfig: width=24 is not a multiple of num_heads=5"):
        dataclasses.replace(TINY, num_heads=5)
    with pytest.raises(ValueError, match="patches of 1x7x7 do not fit: width 27"):
        jax.eval_shape(ViT(TINY).init, jax.random.key(0), jnp.zeros((1, 28, 27, 3)))
