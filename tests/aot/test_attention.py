"""The TPU kernel and its exchanges at full size, compiled for TPUs that are not there."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding

from tavid_jax.models.layers.attention import Part, Query, attention
from tavid_jax.models.layers.attention.sharded import spec
from tavid_jax.parallel import ahead
from tavid_jax.parallel.ahead import GIB
from tavid_jax.parallel.sharding import padded_tokens

pytest.importorskip("libtpu", reason="the TPU compiler: pip install libtpu")
pytestmark = pytest.mark.aot

TOPOLOGY = "v5e:2x4"
TEXT, VIDEO, DIM = 226, 17550, 64


def loss(text, video):
    outs = attention(
        [Query(text["q"]), Query(video["q"], split=True)],
        [Part(text["k"], text["v"]), Part(video["k"], video["v"], length=VIDEO, split=True)],
    )
    return sum(jnp.sum(jnp.square(out.astype(jnp.float32))) for out in outs)


def compiled(axes, heads: int, batch: int) -> ahead.Report:
    """Forward and backward of one layer, bfloat16."""
    mesh = ahead.topology_mesh(TOPOLOGY, axes)
    with jax.set_mesh(mesh):

        def stream(tokens, split):
            shape = (batch, tokens, heads, DIM)
            sharding = NamedSharding(mesh, spec(shape, split))
            array = jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding)
            return {"q": array, "k": array, "v": array}

        args = stream(TEXT, False), stream(padded_tokens(VIDEO), True)
    return ahead.compile_for(TOPOLOGY, jax.grad(loss, argnums=(0, 1)), *args, mesh=mesh)


@pytest.mark.parametrize(
    "axes, heads, batch, gib, collective",
    [
        ({"fsdp": 8}, 48, 8, 1.8, None),
        ({"fsdp": 2, "context": 4}, 48, 2, 0.6, "all-to-all"),
        ({"fsdp": 2, "context": 4}, 30, 2, 1.0, "collective-permute"),
    ],
    ids=["one chip a video", "heads over chips", "ring"],
)
def test_a_video_layer_compiles_and_is_lean(axes, heads, batch, gib, collective):
    """The score tensor of one video would be 28 GiB in bfloat16."""
    report = compiled(axes, heads, batch)
    assert report.fits
    assert report.temporaries_bytes < gib * GIB
    moved = {name for name in report.collectives if name in ("all-to-all", "collective-permute")}
    assert moved == ({collective} if collective else set())
