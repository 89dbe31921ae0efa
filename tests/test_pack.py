"""Finished runs become packaged models."""

import json
import shutil

import pytest

from tavid_jax import pack
from tavid_jax.pipelines import open_pipeline, read_card
from tests.methods.finetune import bases

METRICS = {
    "test": {
        "title": "Unseen scenes",
        "scenes": 200,
        "sample": {"all": {"colour": {"value": 0.99, "interval": [0.98, 1.0], "scenes": 200}}},
        "truth": {"all": {}},
    },
    "goals": [{"name": "colour", "reached": True}],
    "seconds": {"finetune": 12.5},
    "provenance": {"weights/finetune": "mark0", "jax": "0"},
}


@pytest.fixture
def run(tmp_path):
    """A run of 300 steps whose first three losses are known, judged."""
    bases.write_run(tmp_path / "run", bases.config())
    write_metrics(tmp_path / "run", METRICS)
    return tmp_path / "run"


def write_metrics(run, content):
    (run / "report").mkdir(exist_ok=True)
    (run / "report" / "metrics.json").write_text(json.dumps(content))


def write_losses(run, losses):
    lines = [json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in losses.items()]
    (run / "stages" / "finetune" / "metrics.jsonl").write_text("".join(lines))


def test_a_card_has_it_all(run, tmp_path):
    card = pack.pack(run, tmp_path / "bases" / "my_base")
    assert card == read_card(tmp_path / "bases" / "my_base")
    assert card.name == "my-base"
    assert card.loss_curve == ((1, 1.0), (2, 0.5), (3, 1 / 3))
    kept = {key: METRICS["test"][key] for key in ("title", "scenes", "sample")}
    assert card.quality == {"test": kept, "goals": METRICS["goals"]}
    assert "--config.data.scenes.test=3" in card.trained["command"]
    assert open_pipeline(tmp_path / "bases" / "my_base").published.backbone == "my-base"
    # What was judged is what is packed.
    judged = read_card(run / "model")
    assert card.files == judged.files and judged.quality == {}


def test_the_command(run, tmp_path, capsys):
    assert pack.main([str(run), str(tmp_path / "tiny_wan")]) == 0
    assert "tiny_wan: tiny-wan, 0." in capsys.readouterr().out
    assert pack.main([str(tmp_path / "nothing"), str(tmp_path / "other")]) == 1
    assert "holds no run (no config.json)" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_losses_that_were_not_logged_are_trained_again(run, tmp_path, monkeypatch):
    write_losses(run, {2: 8.5, 50: 0.1})
    asked = []

    def first_losses(config, steps, folder):
        asked.append((config.preset, steps, folder.is_dir()))
        return ((1, 9.0), (2, 8.0), (3, 7.0))

    monkeypatch.setattr(pack, "first_losses", first_losses)
    card = pack.pack(run, tmp_path / "base")
    assert asked == [("tiny_wan", 3, True)]
    assert card.loss_curve == ((1, 9.0), (2, 8.0), (3, 7.0))
    shutil.rmtree(run / "model")
    write_losses(run, {1: 9.0, 3: 6.9})
    words = "up to step 3 the run's loss is 6.9, trained again it is 7.5: the code or the data"
    with pytest.raises(ValueError, match=words):
        pack.pack(run, tmp_path / "other")
    assert not (tmp_path / "other").exists()


BAD = {
    "other weights": (
        METRICS | {"provenance": {"weights/finetune": "mark9"}},
        "metrics.json is of other weights .*mark9.* measure them: --judge",
    ),
    "no samples": (METRICS | {"test": {"truth": {}}}, "holds no numbers of samples; measure them"),
    "no report": (None, "metrics.json is missing; measure them: --judge"),
}


@pytest.mark.parametrize("case", BAD)
def test_numbers_of_something_else(run, tmp_path, case):
    content, words = BAD[case]
    if content is None:
        (run / "report" / "metrics.json").unlink()
    else:
        write_metrics(run, content)
    with pytest.raises(ValueError, match=words):
        pack.pack(run, tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_what_was_judged_is_not_written_again(run, tmp_path):
    pack.pack(run, tmp_path / "base")
    before = (run / "model" / "base.json").stat().st_mtime_ns
    config = json.loads((run / "config.json").read_text())
    config["sampling"]["options"]["steps"] = 7
    (run / "config.json").write_text(json.dumps(config))
    assert pack.pack(run, tmp_path / "base").sampling.steps == 2
    assert (run / "model" / "base.json").stat().st_mtime_ns == before


def test_judged_again(run, tmp_path, monkeypatch):
    (run / "report" / "metrics.json").unlink()
    asked = []

    def judge(config, workdir, mode):
        asked.append((workdir, mode))
        write_metrics(workdir, METRICS)

    monkeypatch.setattr(pack.runs, "run", judge)
    pack.pack(run, tmp_path / "base", judge=True)
    assert asked == [(run, "evaluate")]


def test_runs_that_make_no_pipelines(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "make_system", lambda config: object())
    with pytest.raises(ValueError, match="is a run of finetune, which makes no pipelines"):
        pack.pack(run, tmp_path / "base")
