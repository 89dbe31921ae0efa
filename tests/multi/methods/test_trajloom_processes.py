"""TrajLoom's stages, few steps of each, by the command line: two processes as one."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.multi.together import free_address, run_together

pytestmark = pytest.mark.slow
STAGES = ("vae", "flow", "on_policy", "visibility")


def command(folder: Path, workdir: str, *more: str) -> list[str]:
    return [
        "-m",
        "tavid_jax.main",
        "--config=configs/trajloom.py:tiny",
        f"--workdir={folder / workdir}",
        f"--config.data_dir={folder / 'data'}",
        f"--config.compile_cache={folder / 'programs'}",
        *more,
    ]


def losses(folder: Path, stage: str) -> list[float]:
    lines = (folder / "stages" / stage / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_two_processes_train_as_one(tmp_path: Path):
    (one,) = run_together(command(tmp_path, "one", "--config.cpu_devices=2"), timeout=600)
    assert one.code == 0, one.err[-3000:]
    address = free_address()
    many = [
        f"--config.distributed.coordinator={address}",
        "--config.distributed.num_processes=2",
        "--config.cpu_devices=1",
    ]
    two = run_together(
        *[command(tmp_path, "two", *many, f"--config.distributed.process_id={i}") for i in (0, 1)],
        timeout=600,
    )
    assert [process.code for process in two] == [0, 0], [process.err[-3000:] for process in two]
    for stage in STAGES:
        here, there = (losses(tmp_path / name, stage) for name in ("two", "one"))
        np.testing.assert_allclose(here, there, rtol=1e-4, err_msg=stage)
    assert (tmp_path / "two" / "report" / "index.html").exists()
    # The second process has nothing to say.
    assert "of 2 processes" in two[0].err and "stage vae" not in two[1].err
