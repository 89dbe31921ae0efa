"""Everything that reads a file from elsewhere: how it is called, and whole files to begin with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tavid_jax.data import (
    davis,
    edit_files,
    files,
    flexbench,
    forecast_files,
    foreign_tracks,
    latent_statistics,
    masks,
    movebench,
    official,
    records,
    rle,
    rle_masks,
    trajectory_files,
    verdicts,
    video,
)
from tavid_jax.data.drags import Drag
from tavid_jax.data.egoexo import import_egoexo
from tavid_jax.data.grounding.packing import unpack
from tavid_jax.data.grounding.texts import read_texts
from tavid_jax.data.plan import read_plan
from tavid_jax.models.text.clip_tokenizer import CLIPTokenizer
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.pipelines.card import read_card
from tavid_jax.pipelines.images import read_image
from tavid_jax.pipelines.jobs import read_jobs
from tavid_jax.pipelines.laca_files import read_locate
from tavid_jax.pipelines.latent_cache.reader import LatentCache, read_clip
from tavid_jax.scoring.located.cases import read_prompts
from tavid_jax.trajloombench.sources import Unusable, read_tapvid
from tavid_jax.trajloombench.tfrecords import read_examples
from tavid_jax.weights.files import read_file, read_torch
from tavid_jax.weights.imported import read_record, recorded_config
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.model_json import config_from_json
from tavid_jax.weights.peft import open_lora
from tavid_jax.weights.registry import checkpoint_kind
from tavid_jax.weights.source import open_source, read_json
from tests.fuzz import seeds
from tests.fuzz import seeds_weights as whole

SIZE = seeds.SIZE


@dataclasses.dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
      name: of it, for the table.
      file: name of the file that it reads; its folder holds whatever `seeds` put beside it.
      read: the file -> anything.
      seeds: (folder) -> whole files; may put others beside them.
      codec: what is inside, see `codecs`.
      pickled: whether arrays, bytes and tuples can stand in it.
      named: whether errors name the file; those of parts of files do not know it.
      weight: share of all inputs.
      seconds: that an input may take.
      folder: name of the folder that the file lies in.
    """

    name: str
    file: str
    read: Callable[[Path], Any]
    seeds: Callable[[Path], list[bytes]]
    codec: str
    pickled: bool = False
    named: bool = True
    weight: float = 1.0
    seconds: float = 2.0
    folder: str = "files"


def _trajectories(path: Path) -> Any:
    return trajectory_files.read_trajectories(path, size_hw=SIZE, rescale=True)


def _all(held: Any, depth: int = 0) -> Any:
    """Reads every tensor of a checkpoint."""
    if isinstance(held, LazyArray):
        return held.read() if held.nbytes < 2**28 else held
    if isinstance(held, dict | list | tuple) and depth < 20:
        for item in list(held.values() if isinstance(held, dict) else held):
            _all(item, depth + 1)
    return held


def _tapvid(path: Path) -> Any:
    for item in read_tapvid(path):
        if isinstance(item, Unusable):
            raise video.VideoError(f"{path.name}: {item.reason}")  # as the command tells it
        frames = item.frames(range(min(item.num_frames, 3)))
        for frame in frames:
            assert frame.shape[2] == 3


def _frames(path: Path) -> Any:
    info = video.probe(path)
    return video.read_video(path, range(min(info.num_frames, 4)), size_hw=(16, 16))


def _lora(path: Path) -> Any:
    lora = open_lora(path)
    if lora.settings:
        for module in list(lora.modules)[:3]:
            lora.settings.rank_of(module), lora.settings.alpha_of(module, 4)
    return lora


def _weights_json(path: Path) -> Any:
    return recorded_config(read_record(path.parent))


def _clip_tokenizer(path: Path) -> Any:
    return CLIPTokenizer.open(path.parent)("a cat on a mat")


def _egoexo(path: Path) -> Any:
    return import_egoexo(path.parent.parent, path.parent.parent / "never")


def _release_config(kind: str) -> Callable[[Path], Any]:
    return lambda path: checkpoint_kind(kind).described(read_json(path), str(path))


def _text(function: Callable[[str], Any]) -> Callable[[Path], Any]:
    """A reader of text that is no file."""
    return lambda path: function(path.read_bytes().decode("utf-8", "replace"))


def _record(path: Path) -> Any:
    return records.decode(path.read_bytes())


READERS = [
    # --- data: tracks
    Reader("points .json", "t.json", _trajectories, seeds.points, "json", weight=2),
    Reader("coordinates .txt", "t.txt", _trajectories, seeds.coordinates, "either"),
    Reader("arrays .npz", "t.npz", _trajectories, seeds.arrays, "npz", pickled=True, weight=2),
    Reader("TrajLoom's .npz", "t.npz", official.read_tracks, seeds.official, "npz", pickled=True,
           weight=2),
    Reader("FlexTraj's .npy", "t.npy", _trajectories, seeds.flextraj, "npy", pickled=True),
    Reader("Wan-Move's .npy", "t_tracks.npy", _trajectories, seeds.wan_move, "npy", pickled=True),
    Reader("trackers' .pkl", "t.pkl", _trajectories, seeds.trackers, "pickle", pickled=True,
           weight=2),
    Reader("foreign tracks", "t.npz",
           lambda path: foreign_tracks.convert(path, foreign_tracks.Options(SIZE, 8)),
           seeds.foreign, "npz", pickled=True),
    Reader("drags", "t.txt", _text(Drag.parse), seeds.drags, "text", named=False, weight=0.5),
    Reader("edits", "e.json", lambda path: edit_files.read_edits(path, SIZE), seeds.edits, "json"),
    Reader("forecast meta.json", "meta.json",
           lambda path: forecast_files.read_forecast(path.parent), seeds.forecast_meta, "json"),
    Reader("forecast tracks", "gt_tracks.npy",
           lambda path: forecast_files.read_forecast(path.parent), seeds.forecast_tracks, "npy",
           pickled=True),
    Reader("forecast points", "query_xy.npy",
           lambda path: forecast_files.read_forecast(path.parent), seeds.forecast_points, "npy",
           pickled=True),
    Reader("statistics", "s.json", latent_statistics.read_statistics, seeds.statistics, "json"),
    # --- data: masks, pictures, videos
    Reader("masks .pkl", "m.pkl", rle_masks.all_masks, seeds.rle_masks, "pickle", pickled=True,
           weight=2),
    Reader("squeezed text", "m.txt", _text(rle.unsqueeze), seeds.squeezed, "text", named=False,
           weight=0.5),
    Reader("mask .png", "m.png", masks.read_mask, seeds.masks, "raw"),
    Reader("ids .png", "m.png", davis.read_ids, seeds.ids, "raw", weight=0.5),
    Reader("picture", "p.jpg", read_image, seeds.pictures, "raw"),
    Reader("folder of images", "00.png", lambda path: _frames(path.parent), seeds.pictures, "raw"),
    Reader("video", "v.mp4", _frames, seeds.videos, "raw", weight=0.5, seconds=10),
    # --- data: words and lists
    Reader("captions .csv", "c.csv", files.read_captions, seeds.captions, "csv"),
    Reader("texts .csv", "t.csv", read_texts, seeds.texts_csv, "csv"),
    Reader("texts .json", "t.json", read_texts, seeds.texts_json, "json"),
    Reader("verdicts .csv", "s.csv", verdicts.read_verdicts, seeds.verdicts, "csv"),
    Reader("DAVIS words .json", "w.json", davis.read_words, seeds.words_json, "json"),
    Reader("DAVIS words .csv", "w.csv", davis.read_words, seeds.words_csv, "csv"),
    Reader("FlexBench", "flexbench.json", flexbench.read_flexbench, seeds.flexbench, "json"),
    Reader("MoveBench", "single_track.txt",
           lambda path: movebench.read_movebench(path.parent.parent), seeds.movebench, "text",
           folder="en"),
    Reader("Ego-Exo4D", "relations_train.json", _egoexo, seeds.egoexo, "json", named=False,
           folder="annotations"),
    Reader("prompts .jsonl", "p.jsonl", read_prompts, seeds.prompts, "lines"),
    Reader("jobs .jsonl", "j.jsonl", read_jobs, seeds.jobs, "lines"),
    # --- data: records
    Reader("record", "r.bin", _record, seeds.records, "record", named=False, weight=2),
    Reader("grounded record", "r.bin", lambda path: unpack(_record(path)), seeds.grounded, "record",
           named=False),
    Reader("plan.json", "plan.json", lambda path: read_plan(path.parent), seeds.plan, "json"),
    Reader("records' meta.json", "meta.json", lambda path: records.RecordSource(path.parent)[0],
           seeds.records_meta, "json", weight=0.5),
    Reader("TAP-Vid .pkl", "v.pkl", _tapvid, seeds.tapvid, "pickle", pickled=True),
    Reader("tfrecord", "v.tfrecord", lambda path: list(read_examples(path)), seeds.tfrecords,
           "raw"),
    # --- weights
    Reader("safetensors", "w.safetensors", lambda path: _all(read_file(path)), whole.safetensors,
           "safetensors", weight=3),
    Reader(".pt", "w.pt", lambda path: _all(read_torch(path)), whole.torch_zips, "zip", weight=3),
    Reader(".pt of PyTorch < 1.6", "w.pt", lambda path: _all(read_torch(path)), whole.torch_old,
           "raw", weight=0.5),
    Reader("index of shards", "model.safetensors.index.json", open_source, whole.index, "json"),
    Reader("config.json", "config.json", config_from_json, whole.configs, "json", weight=3),
    Reader("TrajLoom's config", "c.json", _release_config("trajloom_vae"), whole.trajloom_configs,
           "json"),
    Reader("weights.json", "weights.json", _weights_json, whole.weights_json, "json"),
    Reader("adapters", "pytorch_lora_weights.safetensors", _lora, whole.adapters, "safetensors",
           weight=2),
    Reader("laca", "laca.safetensors", read_locate, whole.laca, "safetensors"),
    Reader("card", "base.json", lambda path: read_card(path.parent), whole.card, "json"),
    Reader("latents .pt", "c.pt", read_clip, whole.latents, "zip"),
    Reader("latents' manifest", "manifest_train.jsonl", lambda path: LatentCache(path.parent),
           whole.manifest, "lines"),
    Reader("spiece.model", "spiece.model", Tokenizer.open, whole.spieces, "raw", weight=0.5),
    Reader("tokenizer.json", "tokenizer.json", Tokenizer.open, whole.tokenizer, "json", weight=0.5),
    Reader("CLIP's tokenizer", "tokenizer.json", _clip_tokenizer, whole.clip_tokenizer, "json",
           weight=0.5),
]  # fmt: skip
