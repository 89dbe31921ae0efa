"""configs/finetune.py at full size, from shapes alone; what is wrong with a config."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from configs.finetune import get_config
from tavid_jax import run
from tavid_jax.engine import trees
from tavid_jax.engine.fit import fit
from tavid_jax.engine.placement import split_trainable
from tavid_jax.engine.stages import check_stages
from tavid_jax.engine.workdir import config_hash, to_plain
from tavid_jax.methods.registry import make_system
from tests.methods.finetune import tiny

CHECKOUT = Path(__file__).resolve().parents[3]
# Latent, text tokens, adapters (42 blocks with 4 projections of 3072, and 40 with 8 of 5120), base
# (CogVideoX with its table of positions).
PRESETS = {
    "cogvideox_5b_i2v_lora": ((13, 60, 90, 16), 226, 42 * 4 * 2 * 128 * 3072, 5_625_087_552),
    "wan2_1_14b_lora": ((21, 60, 104, 16), 512, 40 * 8 * 2 * 128 * 5120, 14_288_491_584),
}


def size(tree: Any) -> int:
    return sum(leaf.size for leaf in trees.flatten(tree).values())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_at_full_size(preset: str):
    video, text, adapters, base = PRESETS[preset]
    config = get_config(preset)
    assert config.preset == preset
    config.lock()
    check_stages(config)
    method = make_system(config).method("finetune")
    spec = method.encoded_spec()
    assert spec["video"].shape == video
    assert spec["text"].shape == (text, 4096) and spec["text"].dtype == jnp.bfloat16
    trained, frozen = split_trainable(method, jax.eval_shape(method.init, jax.random.key(0)))
    assert size(trained) == adapters
    assert size(frozen) == base
    assert {leaf.dtype.name for leaf in jax.tree.leaves(frozen)} == {"bfloat16"}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_config_survives_its_json(preset: str):
    config = get_config(preset)
    again = ConfigDict(json.loads(json.dumps(to_plain(config))))
    assert config_hash(to_plain(again), again.volatile) == config_hash(
        to_plain(config), config.volatile
    )
    # Lists where tuples were, in fields of the backbone too.
    again.model.changes = dict(patch_size=[1, 2, 2])
    method, wanted = (make_system(c).method("finetune") for c in (again, config))
    assert method.backbone == wanted.backbone
    assert hash(method.backbone.model) == hash(wanted.backbone.model)


def test_the_first_preset_is_the_default():
    assert to_plain(get_config()) == to_plain(get_config("demo"))
    with pytest.raises(ValueError, match="no preset 'wan'; there are demo, cogvideox_5b_i2v_lora"):
        get_config("wan")


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("cogvideox 1.5", (4, 4, 6, 16)),  # two frames to a token: padded to an even number
        ("wan ti2v", (3, 4, 6, 48)),  # 16 pixels to a latent position
    ],
)
def test_latent_sizes(name: str, video: tuple):
    assert tiny.method(name).encoded_spec()["video"].shape == video


def test_noise_schedules():
    def objective(name, **model):
        return tiny.method(name, **model).objective

    assert objective("cogvideox i2v").snr_shift == 1.0
    assert objective("cogvideox 2b").snr_shift == 3.0
    flow = objective("wan t2v", shift=3.0, levels=[0.9, 1])
    assert (flow.shift, flow.levels) == (3.0, (0.9, 1))


def test_a_stage_may_have_options_of_its_own():
    config = tiny.config()
    with config.unlocked():
        config.stages.finetune.options.model = dict(shift=12.0, levels=(0.0, 0.875))
    made = make_system(config).method("finetune").objective
    assert (made.shift, made.levels) == (12.0, (0.0, 0.875))
    assert config.model.shift == 5.0


RULE = dict(path="blocks/attn/q", rank=2)
BAD = {
    "backbone": (dict(backbone="wan3"), "model.backbone 'wan3' is none of cogvideox-2b, .*a14b$"),
    "change": (
        dict(changes=dict(num_layer=2)),
        "model.changes.num_layer is no field of WanConfig; there are num_heads, head_dim, .*",
    ),
    "dtype": (dict(dtype="bf16"), "model.dtype 'bf16' is none of float32, bfloat16"),
    "rule's field": (
        dict(lora=(RULE | dict(dropout=0.1),)),
        "model.lora: 'dropout' is no field of a rule; there are path, rank, .*",
    ),
    "rule without rank": (dict(lora=(dict(path="a"),)), "needs a path and a rank"),
    "no rule": (dict(lora=("blocks/attn/q",)), "model.lora: 'blocks/attn/q' is no rule: give path"),
    "rule's pattern": (
        dict(lora=(RULE | dict(path="blocks/(attn"),)),
        r"LoRA rule 'default': 'blocks/\(attn' is no regular expression: ",
    ),
    "rule's rank": (dict(lora=(RULE | dict(rank=0),)), "rank 0 must be at least 1"),
    "shift": (dict(shift=0.0), "model.shift 0.0 must be above 0"),
    "levels": (dict(levels=(0.9, 0.1)), "model.levels .* the lowest and the highest sigma"),
    "levels of CogVideoX": (
        dict(backbone="cogvideox-5b", changes={}, levels=(0.5, 1.0)),
        "model.levels are Wan's: CogVideoX draws",
    ),
    "first frame of CogVideoX": (
        dict(backbone="cogvideox-5b", changes={}, first_frame=True),
        "model.first_frame is Wan's: cogvideox-5b has one timestep",
    ),
    "first frame twice": (
        dict(backbone="wan2.1-i2v-14b", first_frame=True),
        "model.first_frame: this model reads its image in further channels; set it to False",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_with_the_model(what: str):
    model, message = BAD[what]
    changes = model.get("changes")
    config = tiny.config(**{k: v for k, v in model.items() if k != "changes"})
    if changes is not None:
        config.model.changes = ConfigDict(changes)
    with pytest.raises(ValueError, match=message):
        make_system(config).method("finetune")


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        (dict(frames=50), {}, r"frames 50 is not 4k \+ 1: use 49"),
        (dict(frames=0), {}, "frames 0 must be at least 1"),
        (dict(size_hw=(480, 850)), {}, "width 850 is not a multiple of 16: use 848"),
        (dict(size_hw=(4, 848)), {}, "height 4 is not a multiple of 16: use 16"),
        (dict(size_hw=(480,)), {}, r"size_hw \(480,\): give height and width"),
        (dict(size_hw=(0, 16)), {}, r"size_hw \(0, 16\): give height and width"),
        (
            dict(size_hw=(480, 832), frames=49),
            dict(backbone="wan2.2-ti2v-5b", first_frame=True, changes=dict(patch_size=(1, 4, 2))),
            "height 480 is not a multiple of 64: use 512",
        ),
        (dict(frames=1), dict(first_frame=True), "nothing is left to predict .* at least 5"),
    ],
)
def test_what_is_wrong_with_the_videos(data: dict, model: dict, message: str):
    config = tiny.config()
    with config.unlocked():
        config.model.update(model)
        config.data.update(data)
    with pytest.raises(ValueError, match=message):
        make_system(config).method("finetune")


def test_a_table_of_positions_has_one_size():
    config = get_config("cogvideox_5b_i2v_lora")
    config.data.size_hw = (240, 480)
    message = r"size_hw \(240, 480\): .* table of positions is for \(480, 720\), use that"
    with pytest.raises(ValueError, match=message):
        make_system(config).method("finetune")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            dict(path="blocks/attention/q"),
            "LoRA rule 'default': no projection matches 'blocks/attention/q'; there are .*attn/q",
        ),
        (dict(layers=[7]), "LoRA rule 'default': layer 7 of 2 does not exist; use 0 to 1"),
    ],
)
def test_rules_that_select_nothing_are_told_by_the_fit(rule: dict, message: str):
    config = tiny.config(lora=(RULE | rule,))
    with pytest.raises(ValueError, match=message):
        fit(config, make_system(config), "cpu:1", batch_per_chip=1)


def test_a_cache_that_no_stage_reads_is_refused():
    config = get_config("tiny_wan")
    config.cache = "encoded"
    with pytest.raises(ValueError, match="cache encoded would not be read: .* data 'train'; leave"):
        make_system(config).method("finetune")


def test_unknown_methods_are_named():
    config = tiny.config()
    config.stages.finetune.method = "tune"
    with pytest.raises(ValueError, match="stages.finetune.method 'tune': there is finetune, enc"):
        make_system(config).method("finetune")


@pytest.mark.parametrize("mode", ["train", "evaluate", "sample", "preview"])
def test_no_mode_begins_what_it_cannot_do(mode: str, tmp_path: Path):
    config = tiny.config()
    config.compile_cache = ""
    workdir = tmp_path / "run"
    with pytest.raises(ValueError, match="no clips to train on: give videos by --config"):
        run.run(config, workdir, mode)
    assert not workdir.exists()


def test_the_command_line_says_what_works(tmp_path: Path):
    command = [sys.executable, "-m", "tavid_jax.main"]
    command += ["--config=configs/finetune.py:cogvideox_5b_i2v_lora"]
    command += [f"--workdir={tmp_path / 'run'}", "--config.compile_cache="]
    variables = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=CHECKOUT, env=variables, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    message = [line for line in done.stderr.splitlines() if line.startswith("tavid_jax: ")]
    assert len(message) == 1
    assert "--config.train_clips=FOLDER" in message[0] and "--config.cache=FOLDER" in message[0]
    assert not (tmp_path / "run").exists()
