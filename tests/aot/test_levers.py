"""Memory levers at full size, by the TPU compiler: what waits on the host, what 8 bits spare."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.aot, pytest.mark.slow]

CHECKOUT = Path(__file__).resolve().parents[2]
GIB = 2**30


@functools.cache
def answer(preset: str, topology: str, *levers: str, system: str = "finetune") -> dict[str, float]:
    """GiB per chip of a stage's step: arguments, host, temporaries, peak."""
    command = [sys.executable, "launch/fit.py", f"--config=configs/{system}.py:{preset}"]
    command += [f"--topology={topology}", "--json"]
    command += [lever if lever.startswith("--") else f"--config.{lever}" for lever in levers]
    drop = ("XLA_FLAGS", "JAX_PLATFORMS")  # the suite's quick compilation; it sets its own platform
    variables = {k: v for k, v in os.environ.items() if k not in drop}
    done = subprocess.run(
        command, cwd=CHECKOUT, env=variables, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode in (0, 3), done.stderr
    found = json.loads(done.stdout)
    names = ("arguments", "host", "temporaries", "peak")
    gib = {name: found[f"{name}_bytes"] / GIB for name in names}
    print(preset, topology, *levers, gib)  # seen with -rP
    return gib


ADAPTERS = ("cogvideox_5b_i2v_lora", "v5e:2x4")
EVERYTHING = ("cogvideox_5b_full", "v5e:4x4")
PARAMETERS = 5.57e9


def test_frozen_blocks_wait_on_the_host():
    usual, waiting = answer(*ADAPTERS), answer(*ADAPTERS, "stages.finetune.offload.frozen=True")
    blocks = 2 * PARAMETERS / 8 / GIB  # bfloat16 on eight chips; nearly all are in blocks
    assert usual["host"] == 0 and 0.8 * blocks < waiting["host"] < 1.1 * blocks
    assert waiting["arguments"] < usual["arguments"] - 0.8 * blocks
    # A layer at a time: what is fetched takes nothing like what it left.
    assert waiting["peak"] < usual["peak"] - 0.6 * blocks


def test_frozen_kernels_in_8_bits():
    usual, narrow = answer(*ADAPTERS), answer(*ADAPTERS, "stages.finetune.frozen_dtype=int8")
    half = PARAMETERS / 8 / GIB
    assert narrow["arguments"] < usual["arguments"] - 0.8 * half
    assert narrow["peak"] < usual["peak"] - 0.5 * half


def test_the_optimizers_state_waits_on_the_host():
    usual, waiting = (
        answer(*EVERYTHING),
        answer(*EVERYTHING, "stages.finetune.offload.optimizer=True"),
    )
    moments = 8 * PARAMETERS / 16 / GIB
    assert 0.9 * moments < waiting["host"] < 1.1 * moments
    assert waiting["arguments"] < usual["arguments"] - 0.9 * moments
    # Fetched for the update, when the activations are gone.
    assert waiting["peak"] < usual["peak"] - 0.5 * moments


# Tokens, width and blocks of one video: what is named in every block, in bfloat16.
@pytest.mark.parametrize(
    ("preset", "tokens", "width", "blocks"),
    [
        ("wan2_1_1_3b_lora", 21 * 30 * 52, 1536, 30),
        ("cogvideox_5b_i2v_lora", 226 + 13 * 30 * 45, 3072, 42),
    ],
)
def test_named_activations_are_kept_where_the_config_says(preset, tokens, width, blocks):
    named = 2 * tokens * width * blocks / GIB
    computed, kept, offloaded = (
        answer(preset, "v5e:2x4", f"model.remat={remat}")
        for remat in ("full", "names=attention", "offload=attention")
    )
    assert kept["peak"] > computed["peak"] + 0.8 * named
    assert kept["host"] == computed["host"] == 0
    assert 0.9 * named < offloaded["host"] < 1.2 * named
    assert offloaded["peak"] < computed["peak"] + 0.3 * named


def test_named_activations_of_track_models():
    where = ("small", "v5e:2x4")
    peaks = [
        answer(*where, f"model.remat={remat}", "--stage=flow", system="trajloom")["peak"]
        for remat in ("full", "names=attention", "names=attention,mlp_hidden", "none")
    ]
    assert peaks == sorted(peaks) and peaks[0] < 0.8 * peaks[2]
