"""Two slices of TPUs that are not there: only sums over replicas leave a slice."""

import re

import jax
import pytest

from tavid_jax.engine.placement import abstract_params, split_trainable
from tavid_jax.engine.program import Program
from tavid_jax.parallel import ahead
from tavid_jax.parallel.sharding import compiling_for
from tests.engine import toy

pytest.importorskip("libtpu", reason="the TPU compiler: pip install libtpu")
pytestmark = pytest.mark.aot


def test_a_training_step_of_two_slices():
    mesh = ahead.topology_mesh("2*v5e:2x4", dict(replica=2, fsdp=-1))
    assert dict(mesh.shape) == dict(replica=2, fsdp=8, context=1, tensor=1)
    for number, replica in enumerate(mesh.devices):
        assert {chip.slice_index for chip in replica.flat} == {number}
    stage = toy.toy_config(batch_size=16, micro_batches=1).stages.fit
    program = Program(toy.Fit(), stage, mesh)
    trainable, frozen = split_trainable(program.method, abstract_params(program.method, mesh))
    state = program.abstract_state(trainable)
    with jax.set_mesh(mesh), compiling_for("tpu"):
        lowered = program.jitted_step(state).lower(state, frozen, program.abstract_batch())
        hlo = lowered.compile(ahead.OPTIONS["tpu"]).as_text()
    # The network of a slice carries gathers of weights and sums: its chips are 0 to 7.
    inside = re.findall(r" (all-\w+)(?:-start)?\(.*replica_groups=\{\{([\d,]+)\}\}", hlo)
    assert {name for name, _ in inside} == {"all-gather", "all-reduce"}
    assert {chips for _, chips in inside} == {"0,1,2,3,4,5,6,7"}
    # The network between slices carries sums alone.
    across = re.findall(r" send\(.*_xla_host_transfer_rendezvous=\"([a-z-]+)[^\"]*\"(.*)", hlo)
    assert across and {name for name, _ in across} == {"all-reduce"}
    assert all('_xla_megascale_reduce_operation="SUM"' in rest for _, rest in across)


def test_slices_hold_whole_replicas():
    with pytest.raises(ValueError, match="2 slices .* set --config.mesh.replica to a multiple"):
        ahead.topology_mesh("2*v5e:2x4", dict(fsdp=-1))
    with pytest.raises(ahead.TopologyError, match="N\\*chip:AxB for N slices"):
        ahead.topology_mesh("2*cpu:8")
