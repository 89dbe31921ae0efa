"""Large convolutions on several CPU devices: divided by the compiler, or whole on each device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tavid_jax.models.layers import conv_cpu
from tavid_jax.models.layers.conv import conv
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import batch_sharding

KERNELS = {"winograd": ((3, 3, 3), 32), "few outputs": ((3, 3, 3), 3), "patches": ((3, 1, 1), 32)}


@pytest.fixture
def problem(request, monkeypatch):
    """(x, parameters, result on one device)."""
    for name in ("WORTH", "WORTH_FEW_OUTPUTS", "WINOGRAD_POSITIONS"):
        monkeypatch.setattr(conv_cpu, name, 1)
    taps, outputs = KERNELS[request.param]
    rng = np.random.default_rng(0)
    shapes = (8, 4, 8, 6, 32), (*taps, 32, outputs), (outputs,)
    x, kernel, bias = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)
    params = {"kernel": kernel, "bias": bias}
    return x, params, run(params, x)


def run(params, x):
    return conv(params, x, jnp.float32, padding=((0, 0), (1, 1), (1, 1)))


@pytest.mark.parametrize("problem", KERNELS, indirect=True)
def test_divided_examples(problem):
    """With a mesh in force, without one, and with each device working on its share."""
    x, params, want = problem
    mesh = make_mesh({"fsdp": 8})
    placed = jax.device_put(x, batch_sharding(mesh))
    results = [jax.jit(run)(params, placed)]
    with jax.set_mesh(mesh):
        results.append(jax.jit(run)(params, placed))
        places = (PartitionSpec(), PartitionSpec("fsdp"))
        share = jax.shard_map(run, in_specs=places, out_specs=PartitionSpec("fsdp"))
        results.append(jax.jit(share)(params, placed))
    for got in results:
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.std(want))
