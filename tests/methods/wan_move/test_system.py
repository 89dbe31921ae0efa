"""A tiny Wan-Move from nothing, through the real program: trained, judged, sampled, drawn."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from ml_collections import ConfigDict

from configs.finetune import fields_of
from configs.wan_move import get_config
from tavid_jax import run
from tavid_jax.data.synthetic import toy
from tavid_jax.weights import open_parameters
from tests.pipelines import tiny

IMAGES = dict(in_channels=12, image_dim=20, added_kv_proj_dim=32)


def smallest(folder: Path) -> ConfigDict:
    """The published preset on a tiny checkpoint, two steps."""
    tiny.wan_folder(folder / "model", 70, transformer=IMAGES, clip=True)
    config = get_config("paper")
    config.checkpoint = str(folder / "model")
    scenes = toy.grounded(size_hw=(32, 48), num_frames=9)
    config.data.update(size_hw=(32, 48), frames=9)
    config.data.splits = dict(train=fields_of(scenes), test=fields_of(scenes))
    config.data.scenes = dict(train=16, test=2)
    config.model.dtype = config.autoencoder.dtype = "float32"
    parts = dict(model="transformer", text="text_encoder", autoencoder="vae", image="image_encoder")
    for node, part in parts.items():
        sizes = dataclasses.asdict(open_parameters(folder / "model" / part).config)
        config[node].changes.update(sizes)
    config.sampling.options = dict(sampler="euler", steps=2)
    config.report.scenes = 2
    config.data_dir, config.compile_cache = str(folder / "data"), str(folder / "xla")
    config.stages.move.update(steps=2, batch_size=4, log_every=1, checkpoint_every=2)
    return config


@pytest.mark.slow
def test_all_modes(tmp_path):
    config = smallest(tmp_path)
    preview = run.run(config, tmp_path / "run", "preview")
    assert "Tracks of some examples" in preview.read_text()
    report = run.run(config, tmp_path / "run", "train")
    text = report.read_text()
    assert text.count("<img") + text.count("<video") >= 2 and "sample" in text
    metrics = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    assert len(metrics["shown"]["test"]) == 2
    samples = run.run(config, tmp_path / "run", "sample")
    files = sorted(samples.iterdir())
    assert len([file for file in files if file.suffix == ".webp"]) == 2
