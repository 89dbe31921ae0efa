"""OWL-ViT equals transformers': queries, logits, boxes, and what its image processor gives."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_reference import TEXT, VISION, channels_first, images, tokens
from random_weights import randomise, relative_error, state_arrays

from tavid_jax.models.vision.config import OWLVIT_PRESETS, OwlViTConfig
from tavid_jax.models.vision.images import owlvit_preprocess
from tavid_jax.models.vision.owlvit import OwlViT, box_bias, param_shapes
from tavid_jax.weights.owlvit import owlvit_table
from tavid_jax.weights.streaming import port_table

# A query is as wide as the text tower's tokens; all other sizes differ.
TINY = OwlViTConfig(
    dataclasses.replace(VISION, feature_dim=24), dataclasses.replace(TEXT, feature_dim=24)
)
CONFIGS = {
    "tiny": TINY,
    "quick_gelu, other sizes": OwlViTConfig(
        dataclasses.replace(
            TINY.vision, activation="quick_gelu", num_layers=1, image_size=15, patch_size=5
        ),
        dataclasses.replace(TINY.text, activation="quick_gelu", num_layers=1, epsilon=1e-3),
    ),
}
# Layers in front of norms: tokens near 0.01, where a wrong epsilon shows.
SHRUNK = (r"_embedding", r"layers\.0\.(self_attn\.out_proj|mlp\.fc2)", r"pre_layernorm")


@functools.partial(jax.jit, static_argnames=("model", "method"))
def run(model: OwlViT, params, *given, method: str | None = None):
    return model.apply({"params": params}, *given, method=method)


def torch_model(config: OwlViTConfig, seed: int = 0):
    import transformers

    def tower(t, **more):
        return dict(
            hidden_size=t.width,
            intermediate_size=t.mlp_dim,
            num_hidden_layers=t.num_layers,
            num_attention_heads=t.num_heads,
            hidden_act=t.activation,
            layer_norm_eps=t.epsilon,
            **more,
        )

    vision, text = config.vision, config.text
    described = transformers.OwlViTConfig(
        vision_config=tower(vision, image_size=vision.image_size, patch_size=vision.patch_size),
        text_config=tower(
            text,
            vocab_size=text.vocab_size,
            max_position_embeddings=text.text_length,
            bos_token_id=1,
            eos_token_id=2,
        ),
        projection_dim=text.feature_dim,
    )
    return randomise(transformers.OwlViTForObjectDetection(described), seed, SHRUNK)


@pytest.fixture(scope="module")
def models():
    """{name: (transformers' model, our parameters)} of models that were asked for."""
    pytest.importorskip("transformers")

    @functools.cache
    def make(name: str):
        model = torch_model(CONFIGS[name])
        config = CONFIGS[name]
        params = port_table(owlvit_table(config), state_arrays(model), param_shapes(config))
        return model, params

    return make


@pytest.mark.parity
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_boxes(models, name: str):
    torch = pytest.importorskip("torch")
    model, params = models(name)
    c = CONFIGS[name]
    pictures, texts = images(c.vision), tokens(c.text, batch=3)
    with torch.no_grad():
        ids = torch.from_numpy(np.tile(texts, (len(pictures), 1))).long()
        pixels = torch.from_numpy(channels_first(pictures))
        want = model(input_ids=ids, pixel_values=pixels)
    queries = run(OwlViT(c), params, texts, method="queries")
    assert relative_error(queries, want.text_embeds[0]) <= 1e-5
    got = run(OwlViT(c), params, pictures, texts)
    assert got.logits.shape == (2, (c.vision.image_size // c.vision.patch_size) ** 2, 3)
    assert relative_error(got.logits, want.logits) <= 1e-5
    assert relative_error(got.boxes, want.pred_boxes) <= 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("size_hw", [(48, 83), (120, 90)])
def test_preprocessing_is_that_of_transformers(rng, size_hw):
    transformers = pytest.importorskip("transformers")
    given = rng.integers(0, 256, (2, *size_hw, 3), dtype=np.uint8)
    processor = transformers.OwlViTImageProcessorPil(size={"height": 64, "width": 64})
    want = processor(images=list(given), return_tensors="np")["pixel_values"]
    got = owlvit_preprocess(given, 64)
    np.testing.assert_allclose(got, np.moveaxis(want, 1, -1), atol=1e-6)


def test_scan_equals_unrolled_and_bfloat16_is_close(models):
    _, params = models("tiny")
    given = jnp.asarray(images(TINY.vision)), jnp.asarray(tokens(TINY.text))
    want = run(OwlViT(TINY), params, *given)
    unrolled = run(OwlViT(TINY, scan=False), params, *given)
    half = run(OwlViT(TINY, dtype=jnp.bfloat16), params, *given)
    for part in want._fields:
        value = getattr(want, part)
        assert relative_error(getattr(unrolled, part), value) <= 1e-6
        assert getattr(half, part).dtype == jnp.float32
        assert 0 < relative_error(getattr(half, part), value) < 0.15


def test_boxes_start_as_their_patches():
    boxes = np.asarray(jax.nn.sigmoid(box_bias(4)))
    assert boxes.shape == (16, 4)
    np.testing.assert_allclose(boxes[:, 2:], 0.25, atol=1e-3)
    np.testing.assert_allclose(boxes[6, :2], [0.75, 0.5], atol=1e-3)  # row 1, column 2


def test_initialisation_has_the_stated_shapes():
    model = OwlViT(TINY)
    given = jnp.asarray(images(TINY.vision)), jnp.asarray(tokens(TINY.text))
    params = jax.eval_shape(model.init, jax.random.key(0), *given)["params"]
    got = jax.tree.map(lambda leaf: leaf.shape, params)
    assert got == jax.tree.map(lambda leaf: leaf.shape, param_shapes(TINY))


def test_sizes_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="must be one number, not"):
        OwlViTConfig(VISION, TEXT)


@pytest.mark.parity
def test_parameter_count_is_that_of_transformers():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.OwlViTForObjectDetection(transformers.OwlViTConfig())
    want = sum(tensor.numel() for tensor in model.state_dict().values())
    leaves = jax.tree.leaves(param_shapes(OWLVIT_PRESETS["owlvit-base-patch32"]))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == want
