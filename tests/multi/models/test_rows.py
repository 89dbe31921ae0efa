"""Convolutions with rows, examples and kernels divided: values and gradients are those of one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.wan.vae.config import Stage
from tavid_jax.models.wan.vae.layers import conv3d, init_conv, spread
from tavid_jax.models.wan.vae.resample import down, init_down, init_up, up
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import PathTable, shardings_for

MESHES = {"both": {"fsdp": 2, "context": 4}, "rows": {"fsdp": 1, "context": 8}}
# (layer, parameters).
LAYERS = {
    "conv": (conv3d, functools.partial(init_conv, taps=(3, 3, 3), n_in=16, n_out=8)),
    "down": (down, functools.partial(init_down, stage=Stage(16, 16, 16, 1, 2, 2))),
    "up": (up, functools.partial(init_up, stage=Stage(16, 16, 8, 1, 2, 2))),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    ("mesh", "batch", "rows"), [("both", 2, 8), ("both", 3, 12), ("rows", 1, 16), ("rows", 1, 6)]
)
def test_values_and_gradients(name, mesh, batch, rows):
    """Eight rows, or 16: whole steps for everyone; 12: not for `down`; 6: some have none."""
    layer, init = LAYERS[name]
    params = init(jax.random.key(0))
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((batch, 3, rows, 4, 16)), jnp.float32)

    def loss(params, x):
        x = spread(x)
        y, past = layer(params, x, None, jnp.float32)
        z, _ = layer(params, x[:, 1:], past, jnp.float32)  # the next chunk
        return jnp.sum(jnp.cos(spread(y))) + jnp.sum(jnp.sin(spread(z))), (y, z)

    run = jax.value_and_grad(loss, (0, 1), has_aux=True)
    want = jax.jit(run)(params, x)
    mesh = make_mesh(MESHES[mesh])
    with jax.set_mesh(mesh):
        stored = jax.device_put(params, shardings_for(params, mesh, PathTable(min_size=1)))
        got = jax.jit(lambda *inputs: run(*inputs))(stored, x)
    for ours, alone in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, alone, rtol=1e-4, atol=1e-4)
