"""The TPU compiler itself, without a TPU: limits, exact bytes, programs that are too large."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tavid_jax.parallel import ahead
from tavid_jax.parallel.ahead import GIB, HBM_GIB, TopologyError

pytest.importorskip("libtpu", reason="the TPU compiler: pip install libtpu")
pytestmark = pytest.mark.aot

SMALLEST = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}


def rows_of(topology: str, gib_per_chip: float) -> jax.ShapeDtypeStruct:
    mesh = ahead.topology_mesh(topology)
    shape = (mesh.size, int(gib_per_chip * 1024), 1024, 256)
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P("fsdp")))


@pytest.mark.parametrize("chip", HBM_GIB)
def test_limits_are_the_compilers_own(chip: str):
    under = ahead.compile_for(SMALLEST[chip], jnp.sum, rows_of(SMALLEST[chip], HBM_GIB[chip] - 0.1))
    assert under.fits and under.chips == 4
    over = ahead.compile_for(SMALLEST[chip], jnp.sum, rows_of(SMALLEST[chip], HBM_GIB[chip] + 0.1))
    assert not over.fits


def test_bytes_and_collectives():
    x = rows_of("v5e:2x4", 1)
    report = ahead.compile_for("v5e:2x4", lambda x: jnp.sum(jnp.sort(x, axis=1)), x)
    assert report.chips == 8 and report.fits
    assert report.arguments_bytes == GIB
    assert GIB <= report.temporaries_bytes < 6 * GIB
    results = report.peak_bytes - report.arguments_bytes - report.temporaries_bytes
    assert 0 <= results < 2**20  # one number, and the compiler's own
    assert report.collectives == {"all-reduce": 1}


def test_too_large_is_a_report():
    x = rows_of("v5e:2x4", 10)
    report = ahead.compile_for("v5e:2x4", lambda x: x + 1, x)
    assert not report.fits
    assert report.arguments_bytes == 10 * GIB and report.peak_bytes == 20 * GIB
    assert report.lacking_bytes == 20 * GIB - int(15.75 * GIB)
    assert ahead.compile_for("v5e:2x4", lambda x: x + 1, x, donate_argnums=0).fits


def test_impossible_layouts_are_named():
    with pytest.raises(TopologyError, match="knows no topology 'v5e:3x3': .* not divisible"):
        ahead.topology_devices("v5e:3x3")


def test_a_mesh_axis_may_split_one_of_the_chips_axes():
    mesh = ahead.topology_mesh("v5p:4x4x4", {"fsdp": 8, "context": 8})
    assert mesh.size == 64 and mesh.shape["context"] == 8
