"""Names in lists, manifests and records that lead out of their folder are refused by all."""

import json

import numpy as np
import pytest

from tavid_jax.data.clip import ClipError
from tavid_jax.data.davis import sequence_names
from tavid_jax.data.egoexo import import_egoexo
from tavid_jax.data.flexbench import FlexBenchError, read_flexbench
from tavid_jax.data.forecast_files import ForecastFileError, write_forecasts
from tavid_jax.data.imported import ClipsWriter
from tavid_jax.data.movebench import MoveBenchError, read_movebench
from tavid_jax.data.records import RecordError, RecordWriter
from tavid_jax.data.shards import ShardedRecords
from tavid_jax.pipelines.card import Card, read_card
from tavid_jax.pipelines.latent_cache.reader import LatentCache, LatentCacheError
from tavid_jax.pipelines.settings import PUBLISHED
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.source import open_source

NAMES = ["../secret.npy", "/etc/passwd", "C:\\secret", "a/../../secret.npy", "out/secret.npy"]


@pytest.fixture
def folder(tmp_path):
    """A folder beside something secret, with a link to it."""
    (tmp_path / "secret.npy").write_bytes(b"secret")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "out").symlink_to(tmp_path)
    return tmp_path / "home"


@pytest.mark.parametrize("name", NAMES)
def test_manifest_of_latents(name, folder):
    (folder / "manifest_train.jsonl").write_text(json.dumps({"path": name}) + "\n")
    with pytest.raises(LatentCacheError, match="manifest_train.jsonl: the name"):
        LatentCache(folder)


@pytest.mark.parametrize("name", NAMES)
def test_flexbench(name, folder):
    entry = {"is_real_video": False, "tracking_map_path": name, "seg_map_path": "",
             "validation_prompt": "a", "input_image": "a.png"}  # fmt: skip
    path = folder / "list.json"
    path.write_text(json.dumps([{"prefix": "", "validations": [entry]}]))
    if name.startswith("/"):  # such paths are below the root
        (entry,) = read_flexbench(path, check_files=False)
        assert entry.tracks == (folder / name.lstrip("/"),)
    else:
        with pytest.raises(FlexBenchError, match="tracking_map_path.*leads out of the root"):
            read_flexbench(path, check_files=False)
    entry = {"is_real_video": False, "tracking_map_path": "a", "seg_map_path": "", "name": name,
             "validation_prompt": "a", "input_image": "a.png"}  # fmt: skip
    path.write_text(json.dumps([{"prefix": "", "validations": [entry]}]))
    with pytest.raises(FlexBenchError, match="'name' cannot name a file"):
        read_flexbench(path, check_files=False)


@pytest.mark.parametrize("name", [name for name in NAMES if "\\" not in name])
def test_movebench(name, folder):
    (folder / "en").mkdir()
    (folder / "en" / "single_track.txt").write_text(f"{name},a cat\n")
    stem = name.rpartition("/")[2].partition(".")[0]
    for needed in (f"first_frame/{stem}.jpg", f"track/single/{stem}_tracks.npy"):
        (folder / needed).parent.mkdir(parents=True, exist_ok=True)
        (folder / needed).touch()
    with pytest.raises(MoveBenchError, match="single_track.txt, line 1: the name"):
        read_movebench(folder)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_sequences(name, folder):
    (folder / "ImageSets" / "2017").mkdir(parents=True)
    (folder / "ImageSets" / "2017" / "val.txt").write_text(f"bear\n{name}\n")
    with pytest.raises(ClipError, match="val.txt: the list of sequences cannot be read"):
        sequence_names(folder)


@pytest.mark.parametrize("name", NAMES)
def test_clips_are_written_below_their_folder(name, folder, tmp_path):
    with pytest.raises(ClipError, match="the name"):
        with ClipsWriter(tmp_path / "clips") as writer:
            writer.add(name, np.ones((2, 2), bool))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "secret.npy"]


def test_takes_and_cameras_of_egoexo(folder, tmp_path):
    (folder / "annotations").mkdir()
    (folder / "takes").mkdir()
    mask = {"size": [1, 1], "counts": [0, 1]}
    objects = {"cup": {"../../../x": {"annotation": {"0": mask}}}}
    relations = {"annotations": {"u": {"object_masks": objects}}}
    (folder / "annotations" / "relations_val.json").write_text(json.dumps(relations))
    (folder / "takes.json").write_text(json.dumps([{"take_uid": "u", "take_name": "../.."}]))
    with pytest.raises(ClipError, match="leads out of its folder"):
        import_egoexo(folder, tmp_path / "clips")


@pytest.mark.parametrize("name", NAMES)
def test_forecasts_and_indices(name, folder):
    with pytest.raises(ForecastFileError, match="the name"):
        write_forecasts(folder / "pred" if not name.startswith("out") else folder, name, [])
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(WeightsError, match="shards outside the folder"):
        open_source(index)


@pytest.mark.parametrize("name", NAMES)
def test_index_of_shards(name, folder):
    plan = {"facts": {}, "clips": [{"id": "a", "caption": "a"}], "shard_size": 1}
    (folder / "plan.json").write_text(json.dumps(plan))
    with RecordWriter(folder / "00000-of-00001") as writer:
        writer.write({"id": "a"})
    (folder / "index.json").write_text(json.dumps({"count": 1, "bytes": {name: 6}}))
    with pytest.raises(RecordError, match="index.json: the name"):
        ShardedRecords(folder)


@pytest.mark.parametrize("name", NAMES)
def test_files_of_a_card(name, folder):
    backbone, published = next(iter(PUBLISHED.items()))
    card = Card("tiny", backbone, published.sampling, published.autoencoder, files={name: "0"})
    (folder / "base.json").write_text(json.dumps(card.to_json()))
    with pytest.raises(WeightsError, match="base.json: the name"):
        read_card(folder)
