"""Full-size fine-tuning steps against the memory of the chips they are meant for.

Each program compiles for a minute or two, so they are slow tests: `-m "aot and slow"`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("libtpu", reason="the TPU compiler: pip install libtpu")
pytestmark = [pytest.mark.aot, pytest.mark.slow]

CHECKOUT = Path(__file__).resolve().parents[2]
GIB = 2**30


def answer(preset: str, topology: str, *arguments: str) -> dict:
    """launch/fit.py as a user calls it, one video per data way of the mesh."""
    command = [sys.executable, "launch/fit.py", f"--config=configs/finetune.py:{preset}"]
    command += [f"--topology={topology}", "--batch_per_chip=1", "--json", *arguments]
    drop = ("XLA_FLAGS", "JAX_PLATFORMS")  # the suite's quick compilation; it sets its own platform
    variables = {k: v for k, v in os.environ.items() if k not in drop}
    done = subprocess.run(
        command, cwd=CHECKOUT, env=variables, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode in (0, 3), done.stderr
    found = json.loads(done.stdout)
    gib = {k: round(found[f"{k}_bytes"] / GIB, 2) for k in ("arguments", "temporaries", "peak")}
    print(preset, topology, *arguments, gib, found)  # seen with -rP
    return found


@pytest.mark.parametrize(
    ("preset", "topology", "mesh", "gib", "moves"),
    [
        ("cogvideox_5b_i2v_lora", "v5e:2x4", (), 9, set()),
        ("wan2_1_14b_lora", "v5p:4x4x4", (), 24, set()),
        ("wan2_1_14b_lora", "v5e:8x8", ("--config.mesh.context=4",), 15.75, {"all-to-all"}),
    ],
)
def test_training_fits(preset: str, topology: str, mesh: tuple, gib: float, moves: set):
    """Low-rank adapters of rank 128 at 480p, nothing kept for the backward pass but tokens."""
    found = answer(preset, topology, *mesh)
    assert found["fits"]
    assert found["peak_bytes"] <= gib * GIB
    # Weights are gathered where they are needed; tokens move only where they are split.
    assert {"all-gather", *moves} <= set(found["collectives"])


@pytest.mark.parametrize(
    ("preset", "topology"),
    [("cogvideox_5b_i2v_lora", "v5e:2x4"), ("wan2_1_14b_lora", "v5p:4x4x4")],
)
def test_a_sampling_step_fits(preset: str, topology: str):
    """With classifier-free guidance: two evaluations at once."""
    assert answer(preset, topology, "--what=sample")["fits"]
