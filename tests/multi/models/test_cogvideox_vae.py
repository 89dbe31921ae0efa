"""The CogVideoX autoencoder with samples and rows of the picture over eight devices."""

import jax
import numpy as np
import pytest

from tavid_jax.models.cogvideox.vae.autoencoder import CogVideoXVAE, param_shapes
from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import PathTable, shardings_for

VAE = CogVideoXVAE(CogVideoXVAEConfig((4, 6, 10), 1, 3, groups=2, stride_t=2))


def params():
    """Noise on everything, norms around one."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        noise = rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        return (1.0 * (path[-1].key == "scale") + noise).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, param_shapes(VAE.config))


def run(method: str, x: jax.Array, axes: dict[str, int]) -> tuple[jax.Array, jax.Array]:
    """What one device and what the mesh makes of x."""

    def moments_or_pixels(params, x):
        out = VAE.apply({"params": params}, x, method=method)
        return out.mean if method == "encode" else out

    tree, mesh = params(), make_mesh(axes)
    want = jax.jit(moments_or_pixels)(tree, x)
    # Kernels are stored in parts too, along whatever dimension the devices divide.
    tree = jax.device_put(tree, shardings_for(tree, mesh, PathTable(min_size=8)))
    with jax.set_mesh(mesh):
        got = jax.jit(moments_or_pixels)(tree, x)
    return want, got


@pytest.mark.parametrize("axes", [{"fsdp": 2, "context": 4}, {"fsdp": 1, "context": 8}])
@pytest.mark.parametrize(
    "method, shape", [("encode", (2, 17, 32, 8, 3)), ("decode", (2, 5, 8, 3, 3))]
)
def test_rows_over_devices(axes, method, shape):
    x = jax.random.normal(jax.random.key(1), shape)
    want, got = run(method, x, axes)
    error = np.abs(np.asarray(got) - want).max() / np.sqrt(np.mean(np.square(want)))
    assert error <= 1e-5


def test_memory_is_divided():
    """A device of eight holds about an eighth of what one device alone holds."""
    x = jax.ShapeDtypeStruct((2, 3, 32, 16, 3), np.float32)

    def decode(params, x):
        return VAE.apply({"params": params}, x, method="decode")

    tree = param_shapes(VAE.config)
    alone = jax.jit(decode).lower(tree, x).compile().memory_analysis()
    with jax.set_mesh(make_mesh({"fsdp": 2, "context": 4})):
        shared = jax.jit(decode).lower(tree, x).compile().memory_analysis()
    assert shared.temp_size_in_bytes < 0.3 * alone.temp_size_in_bytes
