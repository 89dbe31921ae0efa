"""The library from Python: opening a finished run and sampling from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import tavid_jax
from tavid_jax.data.clip import ClipError
from tavid_jax.engine.checkpoint import save_result
from tavid_jax.engine.inputs import StageFolder
from tavid_jax.engine.stages import StageError
from tavid_jax.engine.workdir import Workdir, write_json
from tavid_jax.methods.registry import make_system
from tests.methods.trajloom import micro


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose stages finished without learning anything."""
    folder = tmp_path_factory.mktemp("api")
    config = micro.small_run(folder)
    place = Workdir(folder / "run", config, tuple(config.volatile))
    for name, result in micro.untrained(make_system(config), *config.order).items():
        stage = StageFolder(place.stage(name))
        stage.path.mkdir(parents=True)
        save_result(stage.result, result, {"stage": name})
        write_json(stage.done, {"weights": f"hash-{name}", "seconds": 1.0})
    place.close()
    return folder / "run"


@pytest.fixture(scope="module")
def model(workdir: Path) -> Iterator:
    yield tavid_jax.load(workdir)


def test_clips_in_memory(model):
    clips = [micro.clip(i) for i in range(3)]
    forecast = model.sample(clips, samples=2, seed=1)
    assert forecast.tracks.shape == (3, 2, micro.N, 9, 2)
    assert forecast.visible.shape == (3, 2, micro.N, 9) and forecast.visible.dtype == bool
    np.testing.assert_array_equal(forecast.history[1], clips[1].tracks[:, :9])
    np.testing.assert_array_equal(forecast.truth[2], clips[2].tracks[:, 9:])
    error = np.linalg.norm(forecast.tracks[:, 0] - forecast.truth, axis=-1)
    seen = np.stack([clip.visibility[:, 9:] for clip in clips])
    want = (error * seen).sum((1, 2)) / seen.sum((1, 2))
    np.testing.assert_allclose(forecast.error_px(), want, rtol=1e-5)
    again = model.sample(clips, samples=2, seed=1)
    np.testing.assert_array_equal(again.tracks, forecast.tracks)
    assert not np.array_equal(model.sample(clips, 2, seed=2).tracks, forecast.tracks)


def test_one_clip_and_its_picture(model):
    forecast = model.sample(micro.clip(0))
    assert forecast.tracks.shape == (1, 1, micro.N, 9, 2)
    film = forecast.draw(0)
    assert film.mime == "image/webp" and film.data[:4] == b"RIFF"


def test_unseen_scenes(model):
    forecast = model.sample_scenes(range(2), samples=2)
    assert forecast.tracks.shape == (2, 2, micro.N, 9, 2)
    assert [clip.size_hw for clip in forecast.clips] == [(24, 32)] * 2
    assert forecast.draw(1).data[:4] == b"RIFF"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_video_file(model, tmp_path, kind):
    path = tmp_path / "my video.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12.0, (64, 48))
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (80, 48))
    for t in range(20):
        writer.write(np.ascontiguousarray(ground[:, t % 16 : t % 16 + 64]))
    writer.release()
    forecast = model.sample(kind(path))
    assert forecast.tracks.shape == (1, 1, micro.N, 9, 2)
    assert "my video" in forecast.clips[0].id


def test_clips_that_do_not_fit(model):
    with pytest.raises(ClipError, match="clip 'clip0': field 'tracks' has 17 frames, 18 are"):
        model.sample(micro.clip(0, frames=17))
    with pytest.raises(ClipError, match="no clips"):
        model.sample([])
    with pytest.raises(ClipError, match="no such file"):
        model.sample("nowhere.mp4")


def test_provenance_comes_with_it(model):
    assert model.provenance["weights/flow"] == "hash-flow"
    assert model.settings.geometry == micro.GEOMETRY


def test_no_run_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no run \(no config.json\): train one"):
        tavid_jax.load(tmp_path)


def test_a_stage_is_missing(workdir, tmp_path):
    (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
    with pytest.raises(StageError, match="stage 'vae' in .* has not finished"):
        tavid_jax.load(tmp_path)


def test_a_run_of_a_system_that_is_not_there(workdir, tmp_path):
    config = json.loads((workdir / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"system": "other"}))
    with pytest.raises(ValueError, match="config.system 'other' is none of"):
        tavid_jax.load(tmp_path)
