"""What is known without a compiler for absent chips: names, messages, program texts; and a CPU."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest

from tavid_jax.parallel import ahead
from tavid_jax.parallel.ahead import GIB, TopologyError

F32 = jnp.float32


@pytest.mark.parametrize(
    ("topology", "limit_gib"), [("v5e:2x4", 15.75), ("v5p:4x4x4", 95.73), ("v4:2x2x1", 30.75)]
)
def test_limits(topology: str, limit_gib: float):
    assert ahead.limit_of(topology) == int(limit_gib * GIB)


def test_a_cpu_has_no_limit():
    assert ahead.limit_of("cpu:8") is None


@pytest.mark.parametrize(
    "topology", ["", "v5e", "v5e:", "v5e:8", "v5e-8", "v9:2x4", "cpu", "cpu:0", "cpu:2x4", "v5e:2x"]
)
def test_unknown_topologies_are_named(topology: str):
    with pytest.raises(TopologyError, match="write chip:AxB .* of v4, v5e, v5p, v6e"):
        ahead.topology_devices(topology)


def test_more_cpu_devices_than_there_are():
    jax.devices()  # from here on their number stands
    with pytest.raises(TopologyError, match="cpu:4096: .* JAX_NUM_CPU_DEVICES=4096"):
        ahead.topology_devices("cpu:4096")


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TopologyError, match="pip install libtpu"):
        ahead.topology_devices("v6e:16x16")  # not asked for elsewhere: devices are remembered


def test_bytes_of_a_program():
    size = 64
    x = jax.ShapeDtypeStruct((size, size), F32)
    report = ahead.compile_for("cpu:1", lambda a, b: a @ b, x, x)
    assert (report.chips, report.fits, report.limit_bytes) == (1, True, None)
    assert report.arguments_bytes == 2 * 4 * size * size
    result = 4 * size * size
    assert report.peak_bytes == report.arguments_bytes + report.temporaries_bytes + result
    assert report.collectives == {} and report.compile_seconds > 0
    assert report.lacking_bytes == 0


def test_tracing_knows_what_it_is_for():
    from tavid_jax.parallel.sharding import target_platform

    seen = []
    ahead.compile_for("cpu:1", lambda a: seen.append(target_platform()) or a, jnp.zeros(1))
    assert seen == ["cpu"]


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total "
            "memory required for HLO temporaries (44.25G) exceeds available HBM (15.75G).",
            44.25 * GIB,
        ),
        ("Ran out of memory in memory space hbm. Used 183.05G of 95.74G hbm.", 183.05 * GIB),
        ("exceeds: (1.50T) exceeds available HBM (95.73G)", 1.5 * 1024 * GIB),
        ("Ran out of memory in memory space vmem. Used 20.00M of 16.00M vmem.", None),
        ("INVALID_ARGUMENT: something else", None),
    ],
)
def test_reads_what_a_program_needs(message: str, needed: float | None):
    assert ahead._needed(message) == (None if needed is None else int(needed))


HLO = """HloModule jit_step, is_scheduled=true

%start_fusion (p: bf16[1]) -> bf16[8] {
  %all-gather.1 = bf16[8]{0} all-gather(%p), channel_id=1, frontend_attributes={chain_id="0"}
  ROOT %custom-call.1 = bf16[8] custom-call(%g), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.2 (p: bf16[1]) -> bf16[8] {
  %all-gather.2 = bf16[8]{0} all-gather(%p), channel_id=1, frontend_attributes={chain_id="0"}
}

%all-reduce-scatter.3 (p: f32[8]) -> f32[1] {
  %all-reduce.7 = f32[8]{0} all-reduce(%p), channel_id=2, to_apply=%add
}

%body (p: (f32[8])) -> (f32[8]) {
  %permute = (f32[8], f32[8]) collective-permute-start(%x), channel_id=3
  %done = f32[8] collective-permute-done(%permute)
  %fused = f32[8] fusion(%all-gather.9), calls=%start_fusion
  ROOT %all-reduce.8 = f32[8] all-reduce(%done), metadata={op_name="jit(f)/ all-to-all("}
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %all-reduce.9 = f32[8] all-reduce(%p), channel_id=5
  %ragged = f32[8] ragged-all-to-all(%p), channel_id=6
  ROOT %w = (f32[8]) while(%p), body=%body
}
"""


def test_counts_each_collective_once():
    assert ahead.count_collectives(HLO) == {
        "all-gather": 1,
        "all-reduce": 2,
        "collective-permute": 1,
        "ragged-all-to-all": 1,
        "reduce-scatter": 1,
    }
