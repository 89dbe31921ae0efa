"""The published CogVideoX transformers by name: sizes, parameter counts, and diffusers' shapes."""

import math

import jax
import pytest

from tavid_jax import weights
from tavid_jax.models.cogvideox.config import PRESETS
from tavid_jax.models.cogvideox.transformer import CogVideoX, param_shapes
from tavid_jax.parallel.sharding import paths
from tests.models.cogvideox import tiny

# Published; the learned positions of image-to-video, no parameters there, are counted apart.
COUNTS = {
    "cogvideox-2b": 1_693_783_872,
    "cogvideox-5b": 5_570_283_072,
    "cogvideox-5b-i2v": 5_570_479_680,
    "cogvideox1.5-5b": 5_570_676_352,
    "cogvideox1.5-5b-i2v": 5_571_594_880,
}
POSITIONS = {"cogvideox-5b-i2v": 54_607_872}
TENSORS = {
    "cogvideox-2b": 736,
    "cogvideox-5b": 1024,
    "cogvideox-5b-i2v": 1025,
    "cogvideox1.5-5b": 1024,
    "cogvideox1.5-5b-i2v": 1028,
}


def test_all_presets_are_counted():
    assert PRESETS.keys() == COUNTS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_parameter_counts(name):
    sizes = {path: math.prod(leaf.shape) for path, leaf in paths(param_shapes(PRESETS[name]))}
    assert sizes.pop("pos_embed", 0) == POSITIONS.get(name, 0)
    assert sum(sizes.values()) == COUNTS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_shapes_of_diffusers(name):
    """diffusers' class, built on no device from our config, has the shapes that we export."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        model = diffusers.CogVideoXTransformer3DModel(**tiny.torch_arguments(PRESETS[name]))
    theirs = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    kind = weights.CHECKPOINTS["cogvideox"]
    shapes = dict(paths(kind.shapes(PRESETS[name])))
    ours = {}
    for row in kind.table(PRESETS[name]).rows:
        shape = row.source_shape(shapes[row.path].shape)
        ours |= {key: shape for key in row.keys()}
    assert ours == theirs
    assert len(theirs) == TENSORS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_runs_at_its_own_size(name):
    """Shapes alone: a forward pass of every preset at the size it was made for."""
    config = PRESETS[name]
    frames = (config.sample_frames - 1) // config.time_compression + 1
    frames += -frames % config.patch_size[0]
    size = (frames, *((60, 90) if config.sample_hw == (60, 90) else (96, 170)))
    shapes = jax.eval_shape(
        CogVideoX(config).apply,
        {"params": param_shapes(config)},
        jax.ShapeDtypeStruct((1, *size, config.in_channels), "float32"),
        jax.ShapeDtypeStruct((1,), "int32"),
        jax.ShapeDtypeStruct((1, config.text_length, config.text_dim), "float32"),
    )
    assert shapes.shape == (1, *size, config.out_channels)
