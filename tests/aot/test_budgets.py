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


def answer(preset: str, topology: str, *arguments: str, system: str = "finetune") -> dict:
    """launch/fit.py as a user calls it."""
    command = [sys.executable, "launch/fit.py", f"--config=configs/{system}.py:{preset}"]
    command += [f"--topology={topology}", "--json", *arguments]
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
    ("preset", "topology", "arguments", "gib"),
    [
        ("cogvideox_5b_i2v_lora", "v5e:2x4", (), 9),
        ("cogvideox_5b_lora", "v5e:2x4", (), 9),
        ("cogvideox_5b_full", "v5e:4x4", (), 15),
        ("wan2_1_1_3b_lora", "v5e:2x4", (), 7.5),
        ("wan2_1_1_3b_full", "v5e:2x4", (), 11),
        ("wan2_2_5b_lora", "v5e:2x4", (), 4.5),
        ("wan2_2_5b_full", "v5e:4x4", (), 8.5),
        ("wan2_1_14b_lora", "v5p:4x4x4", (), 24),
        ("wan2_1_14b_lora", "v5e:8x8", ("--config.mesh.context=4", "--batch_per_chip=1"), 15.75),
    ],
)
def test_training_fits(preset: str, topology: str, arguments: tuple, gib: float):
    """Rank 128 or all weights, a video per data way; of a block only its input is kept."""
    found = answer(preset, topology, *arguments)
    assert found["fits"] and found["peak_bytes"] <= gib * GIB
    assert found["collectives"]["all-gather"] >= 1  # weights lie apart until they are needed


@pytest.mark.parametrize(
    ("preset", "topology", "stage", "gib"),
    [
        ("paper", "v5p:4x4x4", "dense", 28),
        ("paper", "v5p:4x4x4", "sparse", 28),
        ("paper_v5e", "v5e:16x16", "sparse", 15.75),
        ("wan2_1_1_3b", "v5e:2x4", "sparse", 9),
        ("wan2_2_5b", "v5e:2x4", "sparse", 8),
    ],
)
def test_tgt_fits(preset: str, topology: str, stage: str, gib: float):
    """The cross-attention of all blocks learns; a video per data way."""
    found = answer(preset, topology, f"--stage={stage}", system="tgt")
    assert found["fits"] and found["peak_bytes"] <= gib * GIB


@pytest.mark.parametrize("stage", ["vae", "flow", "on_policy", "visibility"])
def test_trajloom_fits(stage: str):
    """Eight chips of 16 GB: 4 clips of both halves each, or 16 of latents."""
    found = answer("paper", "v5e:2x4", f"--stage={stage}", system="trajloom")
    assert found["fits"] and found["peak_bytes"] <= 15.75 * GIB


@pytest.mark.parametrize(
    ("preset", "topology"),
    [("cogvideox_5b_i2v_lora", "v5e:2x4"), ("wan2_1_14b_lora", "v5p:4x4x4")],
)
def test_a_sampling_step_fits(preset: str, topology: str):
    """With classifier-free guidance: two evaluations at once."""
    assert answer(preset, topology, "--what=sample")["fits"]


@pytest.mark.parametrize(("preset", "gib"), [("paper", 15), ("wan2_2_5b", 15)])
def test_flextraj_fits(preset: str, gib: float):
    """Two streams and the encoders in one step, a video per chip."""
    found = answer(preset, "v5e:2x4", system="flextraj")
    assert found["fits"] and found["peak_bytes"] <= gib * GIB


def test_the_loss_on_attention_costs_next_to_nothing():
    """TAViD as published: at most 10 GiB per chip, of which the loss takes 64 MiB, and 2 % of the
    operations."""
    where = ("paper", "v5e:2x4", "--batch_per_chip=1")
    led = answer(*where, system="tavid")
    alone = answer(*where, "--config.attention.weight=0.0", system="tavid")
    assert led["fits"] and led["peak_bytes"] <= 10 * GIB
    assert led["peak_bytes"] - alone["peak_bytes"] <= 64 * 2**20
    assert alone["flops_per_step"] < led["flops_per_step"] <= 1.02 * alone["flops_per_step"]


@pytest.mark.parametrize(
    ("preset", "topology", "gib"), [("wan2_1_14b", "v5p:4x4x4", 25), ("wan2_2_5b", "v5e:2x4", 4.5)]
)
def test_tavid_on_wan_fits(preset: str, topology: str, gib: float):
    found = answer(preset, topology, "--batch_per_chip=1", system="tavid")
    assert found["fits"] and found["peak_bytes"] <= gib * GIB
