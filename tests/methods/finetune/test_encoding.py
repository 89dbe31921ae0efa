"""Clips, encoded by a stage, by the command or in the step: the same training."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from PIL import Image  # noqa: E402

from tavid_jax.data.inputs import ConfiguredInputs  # noqa: E402
from tavid_jax.data.records import RecordError  # noqa: E402
from tavid_jax.data.shards import ShardedRecords  # noqa: E402
from tavid_jax.engine import trees  # noqa: E402
from tavid_jax.engine.method import Results  # noqa: E402
from tavid_jax.engine.stages import run_stages  # noqa: E402
from tavid_jax.engine.workdir import Workdir  # noqa: E402
from tavid_jax.methods.registry import make_system  # noqa: E402
from tavid_jax.parallel.mesh import make_mesh  # noqa: E402
from tavid_jax.pipelines.encode import main  # noqa: E402
from tavid_jax.weights import open_parameters  # noqa: E402
from tests.methods.finetune.trained import config_of  # noqa: E402
from tests.pipelines import tiny  # noqa: E402
from tests.pipelines.reference import picture  # noqa: E402

SIZE_HW, FRAMES = (32, 48), 5
WORDS = {"a": "a red ball", "b": "a cat", "c": "a blue square"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders of images, with their captions beside them."""
    folder = tmp_path_factory.mktemp("clips")
    for i, (name, words) in enumerate(WORDS.items()):
        wide = picture((40, 70), i)
        (folder / name).mkdir()
        for t in range(6):
            Image.fromarray(wide[:, t : t + 60]).save(folder / name / f"{t}.png")
        (folder / f"{name}.txt").write_text(words)
    return folder


@dataclasses.dataclass(frozen=True)
class Kind:
    """A published model at a tiny size."""

    backbone: str
    write: Any

    def config(self, checkpoint: Path, clips: Path) -> ConfigDict:
        """Of a short training on the clips, in float32."""
        made = config_of(checkpoint, backbone=self.backbone)
        parts = dict(text="text_encoder", autoencoder="vae", image="image_encoder")
        for node, part in parts.items():
            if (checkpoint / part).is_dir():
                sizes = dataclasses.asdict(open_parameters(checkpoint / part).config)
                with made.unlocked():
                    made[node].changes.update(sizes)
        made.train_clips = str(clips)
        made.data.update(size_hw=SIZE_HW, frames=FRAMES)
        made.learn.update(posterior="mode", image_noise=False, image_dropout=0.5)
        made.stages.encode.shard_size = 2
        made.stages.finetune.update(steps=2, checkpoint_every=5)
        return made


def _wan(folder: Path) -> None:
    image = dict(in_channels=12, image_dim=20, added_kv_proj_dim=32)
    tiny.wan_folder(folder, 400, transformer=image, clip=True)


def _cogvideox(folder: Path) -> None:
    tiny.cogvideox_folder(folder, 410, transformer=dict(in_channels=8))


KINDS = {
    "wan": Kind("wan2.1-i2v-14b", _wan),
    "cogvideox": Kind("cogvideox-5b-i2v", _cogvideox),
}


both = pytest.mark.parametrize("kind", KINDS, indirect=True)
one = pytest.mark.parametrize("kind", ["cogvideox"], indirect=True)
# The other one among the slow tests.
one_by_one = pytest.mark.parametrize(
    "kind", [pytest.param("wan", marks=pytest.mark.slow), "cogvideox"], indirect=True
)


@pytest.fixture(scope="module")
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def checkpoint(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    kind.write(folder)
    return folder


def run(config: ConfigDict, workdir: Path) -> Results:
    """All stages, as a run does them."""
    system, inputs = make_system(config), ConfiguredInputs(config, workdir)
    folder = Workdir(workdir, config, tuple(config.volatile))
    try:
        return run_stages(config, system, inputs, folder, make_mesh(devices=jax.devices()[:1]))
    finally:
        folder.close()


def adapters(results: Results) -> dict[str, np.ndarray]:
    flat = trees.flatten(results.params("finetune"))
    assert all("lora" in path for path in flat) and flat
    return flat


@pytest.fixture(scope="module")
def staged(kind: Kind, checkpoint: Path, clips: Path, tmp_path_factory) -> tuple[Path, Results]:
    """A run that encodes its clips in a stage of its own."""
    workdir = tmp_path_factory.mktemp("staged") / "run"
    return workdir, run(kind.config(checkpoint, clips), workdir)


@both
def test_a_stage_encodes_what_the_next_one_reads(staged, kind, checkpoint, clips):
    workdir, results = staged
    source = ShardedRecords(workdir / "stages" / "encode" / "cache")
    assert [clip["id"] for clip in source.clips] == ["a@00000", "b@00000", "c@00000"]
    assert [clip["caption"] for clip in source.clips] == list(WORDS.values())
    null = results.params("encode")
    np.testing.assert_array_equal(np.asarray(null["null_text"]), source.null_text)
    method = make_system(kind.config(checkpoint, clips)).method("finetune")
    for name, one in method.encoded_spec().items():
        example = source[0][name]
        assert example.dtype == one.dtype
        assert name == "clip" or example.shape == one.shape, name
    adapters(results)


@one_by_one
def test_training_from_clips_equals_training_from_their_cache(
    staged, kind, checkpoint, clips, tmp_path
):
    config = kind.config(checkpoint, clips)
    config.stages.finetune.data = "train"
    method = make_system(config).method("finetune")
    encoders = {"autoencoder", "text_encoder", *(["image_encoder"] if method.tower else [])}
    assert method.sources().keys() == encoders | {"backbone"}
    got, want = adapters(run(config, tmp_path / "run")), adapters(staged[1])
    assert not (tmp_path / "run" / "stages" / "encode" / "cache").exists()
    assert got.keys() == want.keys()
    for path, value in want.items():
        np.testing.assert_allclose(got[path], value, atol=1e-4, err_msg=path)


@one_by_one
def test_a_cache_of_the_command_serves_the_same_run(
    staged, kind, checkpoint, clips, tmp_path, caplog
):
    small = ["--any-size", "--size-hw", "32x48", "--frames", "5", "--fps", "0"]
    how = ["--posterior", "mode", "--shard-size", "2"]
    how += ["--no-image-noise"] if "cog" in kind.backbone else []
    out = tmp_path / "cache"
    assert main([kind.backbone, str(checkpoint), str(clips), str(out), *small, *how]) == 0
    config = kind.config(checkpoint, clips)
    config.cache, config.train_clips = str(out), ""
    got = adapters(run(config, tmp_path / "run"))
    assert not (tmp_path / "run" / "stages" / "encode" / "cache").exists()
    for path, value in adapters(staged[1]).items():
        np.testing.assert_array_equal(got[path], value)


@one
def test_a_cache_of_other_clips_is_refused(staged, kind, checkpoint, clips, tmp_path):
    config = kind.config(checkpoint, clips)
    config.cache = str(staged[0] / "stages" / "encode" / "cache")
    config.data.frames = 9
    with pytest.raises(RecordError, match="frames: 5 there, 9 wanted"):
        run(config, tmp_path / "run")
    tiny.cogvideox_folder(tmp_path / "new", 7)
    config.data.frames, config.checkpoint = 5, str(tmp_path / "new")
    config.model.backbone = "cogvideox-5b"
    config.model.changes.in_channels = 4
    with pytest.raises(RecordError, match=r"encoders.vae: '\w+' there, '\w+' wanted"):
        run(config, tmp_path / "run2")


@one
def test_a_cache_needs_no_encoders(staged, kind, checkpoint, clips, tmp_path):
    """Who has it may have nothing but the transformer; what it holds is looked at all the same."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "transformer").symlink_to(checkpoint / "transformer")
    config = kind.config(checkpoint, clips)
    config.cache = str(staged[0] / "stages" / "encode" / "cache")
    config.checkpoint = str(tmp_path / "bare")
    method = make_system(config).method("encode")
    assert method.encoders is None
    assert len(ShardedRecords(config.cache, expect=method.requirements())) == 3
    config.learn.posterior = "moments"
    wanted = make_system(config).method("encode").requirements()
    with pytest.raises(
        RecordError, match="posterior: 'mode' there, 'moments' wanted; arrays.video"
    ):
        ShardedRecords(config.cache, expect=wanted)
    config.cache = ""
    with pytest.raises(ValueError, match="lacks parts of the model"):
        make_system(config).method("encode")


@one
def test_dropped_captions_come_with_the_cache(staged, kind, checkpoint, clips, tmp_path):
    config = kind.config(checkpoint, clips)
    config.cache = str(staged[0] / "stages" / "encode" / "cache")
    config.learn.text_dropout = 1.0
    got, plain = adapters(run(config, tmp_path / "run")), adapters(staged[1])
    assert any(not np.allclose(got[path], plain[path]) for path in plain)


@one
def test_moments_are_drawn_in_the_step(kind, checkpoint, clips, tmp_path, caplog):
    config = kind.config(checkpoint, clips)
    config.learn.posterior = "moments"
    caplog.set_level(logging.INFO)
    adapters(run(config, tmp_path / "run"))
    source = ShardedRecords(tmp_path / "run" / "stages" / "encode" / "cache")
    assert {"video", "video_std", "image", "image_std", "text", "id"} == source[0].keys()
    assert "encode 3/3" in caplog.text


@one
def test_clips_without_captions_are_told(kind, checkpoint, clips, tmp_path):
    _without_words(tmp_path / "silent")
    config = kind.config(checkpoint, tmp_path / "silent")
    with pytest.raises(ValueError, match="1 videos have no caption"):
        run(config, tmp_path / "run")


@one
def test_clips_need_a_checkpoint_or_a_cache(kind, checkpoint, clips):
    config = kind.config(checkpoint, clips)
    config.checkpoint = ""
    with pytest.raises(ValueError, match="encoders: give its folder by --config.checkpoint"):
        make_system(config).method("encode")
    config.train_clips = ""
    with pytest.raises(ValueError, match="there are no clips to train on: give videos by"):
        make_system(config).method("encode")


def _without_words(folder: Path) -> None:
    (folder / "a").mkdir(parents=True)
    for t in range(6):
        Image.fromarray(picture((40, 60), t)).save(folder / "a" / f"{t}.png")
