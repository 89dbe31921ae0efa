"""Runs that several tests open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tavid_jax.engine.checkpoint import save_result
from tavid_jax.engine.inputs import StageFolder
from tavid_jax.engine.workdir import Workdir, write_json
from tavid_jax.methods.registry import make_system
from tests.methods.trajloom import micro


@pytest.fixture
def untrained_run(tmp_path: Path) -> Callable[[micro.Geometry], Path]:
    """Makes the folder of a run whose stages finished without learning anything."""

    def make(geometry: micro.Geometry) -> Path:
        config = micro.small_run(tmp_path)
        config.data.update(size_hw=geometry.size_hw, origin=geometry.origin)
        place = Workdir(tmp_path / "run", config, tuple(config.volatile))
        for name, result in micro.untrained(make_system(config), *config.order).items():
            stage = StageFolder(place.stage(name))
            stage.path.mkdir(parents=True)
            save_result(stage.result, result, {"stage": name})
            write_json(stage.done, {"weights": f"hash-{name}", "seconds": 1.0})
        place.close()
        return tmp_path / "run"

    return make
