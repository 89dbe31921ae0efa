"""I3D equals a PyTorch model built from the paper's figure, at sizes with uneven padding."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from i3d_reference import make_reference
from random_weights import relative_error, state_arrays

from tavid_jax.models.vision.config import I3D_PRESETS, I3DConfig
from tavid_jax.models.vision.i3d import I3D, param_shapes
from tavid_jax.models.vision.images import i3d_preprocess
from tavid_jax.weights.i3d import i3d_table
from tavid_jax.weights.streaming import port_table
from tavid_jax.weights.table import walk

torch = pytest.importorskip("torch")

TINY = I3DConfig(num_classes=11, shrink=8, epsilon=2e-3)


@pytest.mark.parity
def test_logits():
    """Leftovers on both sides of the padding along every axis; feature maps of 2x7x8."""
    model = make_reference(TINY, seed=0)
    params = port_table(i3d_table(TINY), state_arrays(model), param_shapes(TINY))
    given = np.random.default_rng(1).uniform(-1, 1, (1, 9, 195, 230, 3)).astype(np.float32)
    with torch.no_grad():
        want = model(torch.from_numpy(given.transpose(0, 4, 1, 2, 3).copy()))
    got = jax.jit(lambda p, x: I3D(TINY).apply({"params": p}, x))(params, given)
    assert relative_error(got, want) <= 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("size_hw", [(37, 61), (9, 300), (24, 24)])
def test_preprocessing_is_pytorchs_interpolation(size_hw):
    frames = np.random.default_rng(0).integers(0, 256, (3, *size_hw, 3), dtype=np.uint8)
    pixels = torch.from_numpy(frames.transpose(0, 3, 1, 2).astype(np.float32))
    want = torch.nn.functional.interpolate(pixels, size=(24, 24), mode="bilinear") / 127.5 - 1
    got = i3d_preprocess(frames, 24)
    np.testing.assert_allclose(got, want.numpy().transpose(0, 2, 3, 1), atol=2e-5)
    assert got.dtype == np.float32 and got.min() >= -1 and got.max() <= 1


def test_published_model_is_here():
    assert I3D_PRESETS == {"i3d-kinetics-400": I3DConfig()}
    shapes = param_shapes(I3DConfig())
    sizes = [(path, math.prod(leaf.shape)) for path, leaf in walk(shapes)]
    trained = sum(size for path, size in sizes if not path.endswith(("mean", "variance")))
    assert trained == 12_697_264  # those that the public PyTorch model counts
    assert I3DConfig().epsilon == 1e-3


def test_small_clips_and_odd_configs_are_refused():
    small = jnp.zeros((1, 8, 224, 224, 3))
    with pytest.raises(ValueError, match="I3D: clips of 8 frames of 224x224 are too small"):
        jax.eval_shape(I3D(TINY).init, jax.random.key(0), small)
    with pytest.raises(ValueError, match="resized to 224x224"):
        jax.eval_shape(I3D(TINY).init, jax.random.key(0), jnp.zeros((1, 9, 192, 300, 3)))
    with pytest.raises(ValueError, match="I3DConfig: shrink=3 does not divide"):
        I3DConfig(shrink=3)
