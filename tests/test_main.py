"""The main job from a config to its report, and what the command line says to bad input."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from absl import flags
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import config_flags

from tavid_jax import main, run
from tavid_jax.data.forecast_files import read_forecasts
from tavid_jax.data.official import read_tracks
from tests.methods.trajloom import micro

CHECKOUT = Path(__file__).resolve().parents[1]
SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
STAGES = ["vae", "latents", "flow", "on_policy", "visibility"]


def write_video(path: Path, frames: int = 40, seed: int = 0, size=(48, 64)) -> Path:
    """A textured square that slides over a textured background; 12 frames per second."""
    rng = np.random.default_rng(seed)
    (height, width), square = size, rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    ground = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (width, height))
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12.0, (width, height))
    for t in range(frames):
        frame = ground.copy()
        x = 4 + t % (width - 24)
        frame[12:28, x : x + 16] = square
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of the run that all tests share: its data, its compiled programs, its workdir."""
    former = {name: getattr(jax.config, name) for name in SETTINGS}
    compilation_cache.reset_cache()
    yield tmp_path_factory.mktemp("main")
    for name, value in former.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def videos(folder: Path) -> Path:
    """Good clips, one of them under a name with spaces, among files that are none."""
    place = folder / "my videos"
    write_video(place / "one.mp4")
    write_video(place / "deeper" / "second one.mp4", seed=1)
    write_video(place / "short.mp4", frames=5)
    (place / "broken.mp4").write_bytes(b"no video at all" * 100)
    (place / "empty.mp4").write_bytes(b"")
    (place / "notes.txt").write_text("not a video")
    return place


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """Workdir of a micro run of the whole job."""
    run.run(micro.small_run(folder), folder / "run", "train")
    return folder / "run"


def read_metrics(workdir: Path) -> dict:
    return json.loads((workdir / "report" / "metrics.json").read_text())


def test_all_stages_report_and_numbers(trained):
    metrics = read_metrics(trained)
    forecast = metrics["forecast"]
    for name in ("trajloom", "constant_velocity", "stand_still"):
        assert np.isfinite(forecast[name]["ade_px"]) and forecast[name]["clips"] == 3
    assert {"best_of_2_ade_px", "average_of_2_ade_px"} <= set(forecast["trajloom"])
    assert np.isfinite(metrics["vae"]["vepe_px"])
    assert {"accuracy", "f1"} <= set(metrics["visibility"])
    assert set(STAGES) <= set(metrics["seconds"]) and metrics["seconds"]["this_command"] > 0
    provenance = metrics["provenance"]
    assert {"config", "seed", *(f"weights/{s}" for s in STAGES)} <= set(provenance)
    assert set(metrics["comparison"]) >= {"constant_velocity", "stand_still"}
    page = (trained / "report" / "index.html").read_text()
    assert provenance["config"] in page and "<img" in page
    for outside in ('src="http', 'href="http', "url(http"):
        assert outside not in page  # opens offline
    config = json.loads((trained / "config.json").read_text())
    assert config["data"]["frames"] == 9


def test_finished_stages_are_skipped(folder, trained, caplog):
    done = [trained / "stages" / name / "done.json" for name in STAGES]
    before = [path.stat().st_mtime_ns for path in done]
    numbers = read_metrics(trained)["forecast"]
    with caplog.at_level(logging.INFO, logger="absl"):
        run.run(micro.small_run(folder), trained, "train")
    assert [path.stat().st_mtime_ns for path in done] == before
    for name in STAGES:
        assert f"stage {name} is finished: skipped" in caplog.text
    assert read_metrics(trained)["forecast"] == numbers  # the same seed, the same forecasts


def test_evaluate_judges_again_with_other_settings(folder, trained):
    config = micro.small_run(folder)
    config.evaluate.samples, config.sampling.solver = 3, "heun"
    output = run.run(config, trained, "evaluate")
    assert output == trained / "report" / "index.html"
    assert "best_of_3_ade_px" in read_metrics(trained)["forecast"]["trajloom"]


def test_clips_are_forecast_and_bad_ones_named(folder, trained, videos, caplog):
    config = micro.small_run(folder)
    config.clips = str(videos)
    run.run(config, trained, "evaluate")
    assert caplog.text.count("Skipping") == 3  # each is named once
    clips = read_metrics(trained)["clips"]
    skipped = "\n".join(clips["skipped"])
    assert len(clips["skipped"]) == 3
    for name in ("short.mp4", "broken.mp4", "empty.mp4"):
        assert name in skipped
    assert "too short" in skipped
    page = (trained / "report" / "index.html").read_text()
    assert "second one" in page and "3 files skipped" in page


def test_sample_writes_a_film_and_files_per_window(folder, trained, videos):
    config = micro.small_run(folder)
    # A list of globs and files, with commas between.
    config.clips = f"{videos}/deeper/*.mp4,{videos}/one.mp4"
    config.sampling.samples = 2
    out = run.run(config, trained, "sample")
    folders = sorted(path.name for path in out.iterdir())
    assert len(folders) == 4  # 40 frames are two windows of 18 each
    film = (out / folders[0] / "forecast.webp").read_bytes()
    assert film[:4] == b"RIFF" and film[8:12] == b"WEBP"
    for root in (out, out.with_name("samples_1")):  # the second sample of each
        forecasts = read_forecasts(root)
        assert sorted(forecasts) == folders
    forecast = forecasts[folders[0]]
    assert forecast.pred_tracks.shape == (micro.N, 9, 2) and forecast.size_hw == (24, 32)
    assert forecast.meta["tavid_jax"]["weights/flow"] and forecast.meta["solver"] == "euler"
    assert read_tracks(out / folders[0] / "gt_full.npz").tracks.shape == (micro.N, 18, 2)


def test_sample_without_clips(folder, trained):
    with pytest.raises(ValueError, match="no clips to forecast: give --config.clips=FOLDER"):
        run.run(micro.small_run(folder), trained, "sample")


def test_preview_draws_data_before_any_training(folder, videos, tmp_path):
    config = micro.small_run(folder)
    config.clips = str(videos / "one.mp4")
    page = run.run(config, tmp_path / "run", "preview")
    assert page.read_text().count("<img") >= 3
    assert not (tmp_path / "run" / "stages").exists()


def test_training_on_clips_judges_what_was_held_out(folder, videos, tmp_path):
    config = micro.small_run(folder)
    config.train_clips = str(videos)
    config.data.clips.holdout = 0.45
    run.run(config, tmp_path / "run", "train")
    metrics = read_metrics(tmp_path / "run")
    held_out = metrics["held_out"]["forecast"]["trajloom"]
    assert np.isfinite(held_out["ade_px"]) and held_out["clips"] >= 2
    # Training saw windows of these two clips: their ids are in no synthetic scene.
    assert metrics["forecast"]["trajloom"]["clips"] == 3


def test_clips_of_which_none_is_usable(folder, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"nothing")
    for wish in ("clips", "train_clips"):
        config = micro.small_run(folder)
        config[wish] = str(tmp_path / "clips")
        with pytest.raises(ValueError, match=r"no usable clip in .*a\.mp4"):
            run.run(config, tmp_path / f"run_{wish}", "train")
        assert not (tmp_path / f"run_{wish}").exists()


def test_clips_too_short_to_hold_anything_out(folder, tmp_path):
    write_video(tmp_path / "clips" / "a.mp4", frames=25)
    config = micro.small_run(folder)
    config.train_clips = str(tmp_path / "clips")
    with pytest.raises(ValueError, match=r"no clip has the 36 frames .*needed for a window in"):
        run.run(config, tmp_path / "run", "train")


def test_a_workdir_of_another_config(folder, trained):
    config = micro.small_run(folder)
    config.seed, config.learn.vae.beta = 5, 0.5
    with pytest.raises(run.WorkdirError) as error:
        run.run(config, trained, "train")
    message = str(error.value)
    assert (
        "  seed: 0 there, 5 now" in message and "  learn.vae.beta: 2e-06 there, 0.5 now" in message
    )
    assert "choose another --workdir" in message
    assert json.loads((trained / "config.json").read_text())["seed"] == 0


def test_a_workdir_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(run.WorkdirError, match="file/run cannot be written .* --workdir"):
        run.run(micro.small_run(folder), tmp_path / "file" / "run", "train")


def test_nothing_is_there_to_evaluate(folder, tmp_path):
    with pytest.raises(run.WorkdirError, match="run holds no run; train one first: --mode=train"):
        run.run(micro.small_run(folder), tmp_path / "run", "evaluate")
    assert not (tmp_path / "run").exists()
    run.run(micro.small_run(folder), tmp_path / "run", "preview")
    with pytest.raises(ValueError, match="stage 'vae' in .* has not finished; run --mode=train"):
        run.run(micro.small_run(folder), tmp_path / "run", "evaluate")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.data.update(frames=16), r"data.frames 16 is not 4k\+1: take 13 or 17"),
        (lambda c: c.data.update(size_hw=(24, 30)), "not a multiple of data.stride 8"),
        (lambda c: c.mesh.update(fsdp=7), r"= 7 devices but \d are there"),
        (lambda c: c.sampling.update(solver="x"), "sampling.solver 'x'"),
        (lambda c: c.stages.flow.update(init_from=("visibility",)), "stage 'flow' needs"),
    ],
    ids=["frames", "size", "mesh", "solver", "order"],
)
def test_bad_configs_start_nothing(folder, tmp_path, change, words):
    config = micro.small_run(folder)
    change(config)
    with pytest.raises(ValueError, match=words):
        run.run(config, tmp_path / "run", "train")
    assert not (tmp_path / "run").exists()


# The program itself: one process per case, which ends before anything is compiled.


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    return subprocess.run(
        [sys.executable, "-m", "tavid_jax.main", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_errors_are_one_message_and_exit_code_1(tmp_path):
    """From another folder, through a path, up to the first thing that is wrong."""
    config = f"--config={CHECKOUT}/configs/trajloom.py:tiny"
    result = command(config, f"--config.clips={tmp_path}/none", cwd=tmp_path)
    assert result.returncode == 1
    assert f"tavid_jax: clips '{tmp_path}/none': no such file or folder" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config=configs/trajloom.py:nope", "no preset 'nope'; there are demo, tiny, ablations"),
        ("--config.model.vae.hiddn=3", r"no key 'hiddn' \(--.*=3\); did you mean 'hidden'\?"),
        ("--config.zzz=3", r"the config has no key 'zzz' \(--config.zzz=3\)"),
        ("--config.seed=many", "--config.seed=many"),
        ("--wokdir=x", "Unknown command line flag 'wokdir'"),
    ],
)
def test_flags_that_make_no_sense(monkeypatch, argument, words):
    monkeypatch.chdir(CHECKOUT)
    arguments = ["main", "--config=configs/trajloom.py:tiny", argument]
    monkeypatch.setattr(sys, "argv", arguments)  # ml_collections looks for its keys there
    fresh = flags.FlagValues()
    monkeypatch.setattr(main.flags, "FLAGS", fresh)
    config_flags.DEFINE_config_file("config", None, "", flag_values=fresh, lock_config=True)
    with pytest.raises(ValueError) as error:
        main.parse_flags(arguments)
    message = str(error.value)
    assert re.search(words, message) and len(message.splitlines()) == 1


def test_config_files_find_their_pieces(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    main.let_configs_import(["--mode=train", "--config=some/configs/x.py:tiny"])
    main.let_configs_import(["--config", "/other/configs/x.py"])
    some, library = str(Path("some").resolve()), str(CHECKOUT)
    assert sys.path == [some, f"{some}/configs", library, "/other", "/other/configs", library]
