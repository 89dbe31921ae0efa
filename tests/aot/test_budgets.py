"""Full-size training steps against the memory of the chips they are meant for.

Each program compiles for a minute or two, so they are slow tests: `-m "aot and slow"`; one kind of
chip alone with `-k v5e`.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.fit_table import cases
from tavid_jax.engine.fit_table import Row, from_json
from tavid_jax.engine.layouts import LADDERS

# Not skipped without libtpu: whoever selects these tests wants to know.
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


# As recorded, and what compilers of one version may differ by.
SLACK = 1.03
RECORDED = from_json((CHECKOUT / "launch" / "fit_table.json").read_text())


def test_there_is_a_compiler_and_something_to_compile():
    """An empty check must not look like a pass."""
    assert importlib.util.find_spec("libtpu"), "the TPU compiler: pip install libtpu"
    known = {(row.config, row.preset, row.chip) for row in RECORDED}
    assert known == set(cases(list(LADDERS), []))
    assert sum(row.fits for row in RECORDED) > 10


@pytest.mark.parametrize(
    "row", [row for row in RECORDED if row.fits], ids=lambda r: f"{r.topology}-{r.preset}-{r.stage}"
)
def test_a_preset_keeps_its_budget(row: Row):
    """Every train stage, with the preset's own batch, on the smallest layout that holds it."""
    mesh = [f"--config.mesh.{axis}={n}" for axis, n in row.mesh.items()]
    found = answer(row.preset, row.topology, f"--stage={row.stage}", *mesh, system=row.config)
    assert found["fits"] and found["peak_bytes"] <= SLACK * row.peak_bytes


@pytest.mark.parametrize(
    ("system", "preset", "topology", "arguments", "gib"),
    [
        ("finetune", "cogvideox_5b_i2v_lora", "v5e:2x4", (), 9),
        ("finetune", "cogvideox_5b_lora", "v5e:2x4", (), 9),
        ("finetune", "cogvideox_5b_full", "v5e:4x4", (), 15),
        ("finetune", "wan2_1_1_3b_lora", "v5e:2x4", (), 7.5),
        ("finetune", "wan2_1_1_3b_full", "v5e:2x4", (), 11),
        ("finetune", "wan2_2_5b_lora", "v5e:2x4", (), 4.5),
        ("finetune", "wan2_2_5b_full", "v5e:4x4", (), 8.5),
        ("finetune", "wan2_1_14b_lora", "v5p:4x4x4", (), 24),
        ("finetune", "wan2_1_14b_lora", "v5e:8x8",
         ("--config.mesh.context=4", "--batch_per_chip=1"), 15.75),
        ("tgt", "wan2_1_1_3b", "v5e:2x4", ("--stage=sparse",), 9),
        ("tgt", "wan2_2_5b", "v5e:2x4", ("--stage=sparse",), 8),
        ("flextraj", "wan2_2_5b", "v5e:2x4", (), 15),
        ("tavid", "wan2_1_14b", "v5p:4x4x4", ("--batch_per_chip=1",), 25),
        ("tavid", "wan2_2_5b", "v5e:2x4", ("--batch_per_chip=1",), 4.5),
    ],
)  # fmt: skip
def test_others_fit(system: str, preset: str, topology: str, arguments: tuple, gib: float):
    """What the table of all presets does not tell: other layouts and backbones."""
    found = answer(preset, topology, *arguments, system=system)
    assert found["fits"] and found["peak_bytes"] <= gib * GIB
    assert found["collectives"]["all-gather"] >= 1  # weights lie apart until they are needed


@pytest.mark.parametrize(
    ("preset", "topology"),
    [("cogvideox_5b_i2v_lora", "v5e:2x4"), ("wan2_1_14b_lora", "v5p:4x4x4")],
)
def test_a_sampling_step_fits(preset: str, topology: str):
    """With classifier-free guidance: two evaluations at once."""
    assert answer(preset, topology, "--what=sample")["fits"]


def test_the_loss_on_attention_costs_next_to_nothing():
    """TAViD as published: at most 10 GiB per chip, of which the loss takes 64 MiB, and 2 % of the
    operations."""
    where = ("paper", "v5e:2x4", "--batch_per_chip=1")
    led = answer(*where, system="tavid")
    alone = answer(*where, "--config.attention.weight=0.0", system="tavid")
    assert led["fits"] and led["peak_bytes"] <= 10 * GIB
    assert led["peak_bytes"] - alone["peak_bytes"] <= 64 * 2**20
    assert alone["flops_per_step"] < led["flops_per_step"] <= 1.02 * alone["flops_per_step"]
