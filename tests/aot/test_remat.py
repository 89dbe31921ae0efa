"""The TPU compiler keeps named activations where the policy says, in HBM or on the host."""

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

from tavid_jax.models.layers.depth import scan_depth
from tavid_jax.parallel import ahead
from tavid_jax.parallel.sharding import replicated

pytest.importorskip("libtpu", reason="the TPU compiler: pip install libtpu")
pytestmark = pytest.mark.aot

TOPOLOGY = "v5e:2x2"
DEPTH, ROWS, WIDTH, HIDDEN = 8, 16384, 128, 1024
# Of all layers' hidden activations: what there is to gain.
HIDDEN_BYTES = DEPTH * ROWS * HIDDEN * 2


def _block(x, layer):
    hidden = checkpoint_name(jnp.sin(x @ layer["w1"]), "hidden")
    return x + hidden @ layer["w2"], None


def _temporaries(remat):
    """(device, host) bytes of the gradient's temporaries under a policy."""
    mesh = ahead.topology_mesh(TOPOLOGY)

    def shape(*dims):
        return jax.ShapeDtypeStruct(dims, jnp.bfloat16, sharding=replicated(mesh))

    stack = {"w1": shape(DEPTH, WIDTH, HIDDEN), "w2": shape(DEPTH, HIDDEN, WIDTH)}

    def loss(stack, x):
        return jnp.sum(scan_depth(_block, x, stack, True, remat)[0] ** 2)

    with jax.set_mesh(mesh):
        program = jax.jit(jax.grad(loss)).lower(stack, shape(ROWS, WIDTH)).compile()
    used = program.memory_analysis()
    return used.temp_size_in_bytes, used.host_temp_size_in_bytes


def test_where_activations_wait():
    computed_again, kept, offloaded = map(_temporaries, ("full", "names=hidden", "offload=hidden"))
    # On the device, offloading leaves those of the layers that are on their way.
    assert computed_again[0] < offloaded[0] < kept[0] - HIDDEN_BYTES / 2
    assert kept[0] >= computed_again[0] + HIDDEN_BYTES
    assert [host for _, host in (computed_again, kept, offloaded)] == [0, 0, HIDDEN_BYTES]
