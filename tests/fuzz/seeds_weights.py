"""Whole checkpoints, tokenizers, caches and cards: (folder) -> the bytes of some, see `seeds`."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from tokenizers import models, pre_tokenizers, trainers

from tavid_jax.models.latte.vae import TrackVAEConfig
from tavid_jax.models.text.tokenizer import CAPTIONS
from tavid_jax.models.wan.config import PRESETS as WAN_PRESETS
from tavid_jax.pipelines.card import Card, write_card
from tavid_jax.pipelines.latent_cache import LatentCacheWriter
from tavid_jax.pipelines.located import Locate
from tavid_jax.pipelines.settings import PUBLISHED
from tavid_jax.weights.model_json import PRESETS, config_to_json, is_described
from tavid_jax.weights.safetensors import write_safetensors
from tavid_jax.weights.torch_zip import write_torch_zip
from tavid_jax.weights.trajloom_configs import section_of
from tests.fuzz.seeds import as_json, rng, written


def _tensors() -> dict[str, np.ndarray]:
    random = rng()
    return {"a.weight": random.normal(size=(3, 4)).astype(np.float32), "b": np.arange(5)}


def safetensors(folder: Path) -> list[bytes]:
    """Two tensors."""
    return [written(folder, "a.safetensors", lambda p: write_safetensors(p, _tensors()))]


def torch_zips(folder: Path) -> list[bytes]:
    """By our writer, and by PyTorch."""
    values = {**_tensors(), "name": "a", "step": 3, "none": None}
    own = written(folder, "a.pt", lambda path: write_torch_zip(path, values))
    tensors = {name: torch.from_numpy(value) for name, value in _tensors().items()}
    held = {"model": tensors, "step": 3, "list": [1.5, (True, None)], "half": torch.ones(2).half()}
    return [own, written(folder, "b.pt", lambda path: torch.save(held, path))]


def torch_old(folder: Path) -> list[bytes]:
    """Rows of pickles."""
    tensors = {name: torch.from_numpy(value) for name, value in _tensors().items()}
    save = functools.partial(torch.save, tensors, _use_new_zipfile_serialization=False)
    return [written(folder, "a.pt", save)]


def index(folder: Path) -> list[bytes]:
    """An index of two shards."""
    where = {}
    for number, (key, value) in enumerate(_tensors().items(), 1):
        where[key] = f"model-0000{number}-of-00002.safetensors"
        write_safetensors(folder / where[key], {key: value})
    return as_json({"metadata": {"total_size": 88}, "weight_map": where})


def configs(folder: Path) -> list[bytes]:
    """Of every published class."""
    found = {}
    for config in PRESETS.values():
        if is_described(config):
            for naming in ("diffusers", "original"):
                content = config_to_json(config, naming)
                found.setdefault(str(sorted(content)), content)
    return as_json(*found.values())


def trajloom_configs(folder: Path) -> list[bytes]:
    """Of the autoencoder of tracks."""
    section = section_of(TrackVAEConfig())
    return as_json({"trajloom_vae": {"config": section}}, {"trajloom_vae": section})


def weights_json(folder: Path) -> list[bytes]:
    """The record of an import."""
    config = dataclasses.asdict(next(iter(WAN_PRESETS.values())))
    return as_json({"kind": "wan", "config": config, "preset": None, "dtype": "float32"})


def adapters(folder: Path) -> list[bytes]:
    """Of diffusers, with settings in the metadata."""
    module = "transformer.transformer_blocks.0.attn1.to_q"
    tensors = {f"{module}.lora_A.weight": np.ones((2, 4), np.float32),
               f"{module}.lora_B.weight": np.ones((4, 2), np.float32)}  # fmt: skip
    settings = {"transformer.r": 2, "transformer.lora_alpha": 4,
                "transformer.rank_pattern": {"^transformer_blocks.0": 2}}  # fmt: skip
    rule = {"path": "blocks/attn/q", "rank": 2, "alpha": 4, "layers": [0], "stream": "all",
            "name": "default"}  # fmt: skip
    told = {"lora_adapter_metadata": json.dumps(settings),
            "tavid_jax": json.dumps({"rules": [rule], "baked": False})}  # fmt: skip
    plain = {f"{module}.alpha": np.array(2.0, np.float32), **tensors}
    return [
        written(folder, "a.safetensors", lambda p: write_safetensors(p, tensors, told)),
        written(folder, "a.safetensors", lambda p: write_safetensors(p, plain)),
    ]


def laca(folder: Path) -> list[bytes]:
    """The header of a location-aware attention."""
    told = {"locate": json.dumps(Locate().to_json()), "model": json.dumps({"num_layers": 2})}
    return [written(folder, "a.safetensors", lambda p: write_safetensors(p, _tensors(), told))]


def card(folder: Path) -> list[bytes]:
    """Of a model of this library."""
    name, published = next(iter(PUBLISHED.items()))
    (folder / "a.bin").write_bytes(b"weights")
    write_card(folder, Card("tiny", name, published.sampling, published.autoencoder))
    return [(folder / "base.json").read_bytes()]


def _latents() -> dict[str, Any]:
    random = rng()
    normal = lambda *shape: random.normal(size=shape).astype(np.float32)  # noqa: E731
    seen = np.ones((3, 4), np.float32)
    return {
        "id": "a", "history": normal(3, 4, 5), "future": normal(3, 4, 5),
        "history_visibility": seen, "future_visibility": seen, "video": normal(3, 4, 2),
        "text": normal(7),
    }  # fmt: skip


def _cache(folder: Path) -> None:

    with LatentCacheWriter(folder / "new", {"vae": "abc"}) as writer:
        writer.write(_latents(), "train", caption="a")
    for one in (folder / "new").iterdir():
        shutil.rmtree(folder / one.name, ignore_errors=True)
        one.rename(folder / one.name)


def latents(folder: Path) -> list[bytes]:
    """One clip of a cache."""
    _cache(folder)
    return [next((folder / "train").glob("*.pt")).read_bytes()]


def manifest(folder: Path) -> list[bytes]:
    """Of a cache, whose clip is there."""
    _cache(folder)
    return [(folder / "manifest_train.jsonl").read_bytes()]


def spieces(folder: Path) -> list[bytes]:
    """The tokenizer of this package."""
    return [CAPTIONS.read_bytes()]


def _trained(tokens: list[str], **options: Any) -> bytes:

    tokenizer = tokenizers.Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=tokens, show_progress=False)
    tokenizer.train_from_iterator(["a cat on a mat", "the dog runs"], trainer)
    return tokenizer.to_str().encode()


def tokenizer(folder: Path) -> list[bytes]:
    """A small one with T5's special tokens."""
    return [_trained(["<pad>", "</s>", "<unk>"], unk_token="<unk>")]


def clip_tokenizer(folder: Path) -> list[bytes]:
    """A small one with CLIP's special tokens."""
    return [_trained(["<|startoftext|>", "<|endoftext|>"], end_of_word_suffix="</w>")]
