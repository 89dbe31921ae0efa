"""GPUs that are not there."""

import pytest

from tavid_jax.parallel.ahead import GIB, TopologyError
from tavid_jax.parallel.gpus import GPUS, gpu_mesh, gpus_of, is_gpu


def test_what_is_known_of_them():
    for name, gpu in GPUS.items():
        found, count = gpus_of(f"{name}:8")
        assert (found, count) == (gpu, 8) and is_gpu(f"{name}:8")
        assert 0.9 * gpu.gib * GIB < gpu.limit_bytes < gpu.gib * GIB
        assert gpu.peak_flops > 3e14
    assert not is_gpu("v5e:2x4")


def test_mesh_without_devices():
    mesh = gpu_mesh("h100:8", dict(replica=1, fsdp=-1, context=2, tensor=1))
    assert dict(mesh.shape) == dict(replica=1, fsdp=4, context=2, tensor=1)
    with pytest.raises(ValueError, match="8 devices cannot be divided by 3"):
        gpu_mesh("h100:8", dict(fsdp=-1, context=3))


@pytest.mark.parametrize("topology", ["h100", "h100:0", "h100:2x4", "b9:1"])
def test_other_forms(topology: str):
    with pytest.raises(TopologyError, match="write kind:number, as in h100:8, with a kind of a100"):
        gpus_of(topology)
