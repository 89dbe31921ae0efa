"""The library from Python: open a finished run, or train one, and sample from it.

import tavid_jax
model = tavid_jax.load("runs/trajloom_demo")
forecast = model.sample("my_video.mp4", samples=3)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tavid_jax import run
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.engine.stages import open_results
from tavid_jax.engine.workdir import config_hash, to_plain
from tavid_jax.methods.registry import make_system


def load(workdir: str | Path) -> Any:
    """Open a finished run for sampling.

    Args:
      workdir: the folder that `python -m tavid_jax.main --workdir=...` trained in.

    Returns:
      The system's sampler; for TrajLoom a `Sampler` whose `sample(...)` forecasts clips.

    Raises FileNotFoundError when the folder holds no run, StageError when a stage of it has not
    finished, ValueError for an unknown system.
    """
    known = Path(workdir) / "config.json"
    if not known.exists():
        raise FileNotFoundError(
            f"{workdir} holds no run (no config.json): train one with "
            f"python -m tavid_jax.main --config=configs/trajloom.py --workdir={workdir}"
        )
    config = ConfigDict(json.loads(known.read_text()))
    system = make_system(config)
    fingerprint = config_hash(to_plain(config), config.volatile)
    results = open_results(config, Path(workdir), fingerprint)
    return system.sampler(results, ConfiguredInputs(config, Path(workdir)))


def train(config: ConfigDict, workdir: str | Path) -> Any:
    """Run every stage of a config that is not finished, judge, report, and `load` the result."""
    run.run(config, Path(workdir), "train")
    return load(workdir)
