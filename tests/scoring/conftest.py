"""Tiny checkpoints of the towers, and clips in which an actor touches a target."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tokenizers import pre_tokenizers

from tavid_jax import weights
from tavid_jax.data.synthetic import SceneConfig, sample_scene, scene_clip
from tavid_jax.data.video import write_video
from tavid_jax.models.vision import clip, owlvit, vit
from tavid_jax.models.vision.config import (
    CLIPConfig,
    CLIPTextConfig,
    CLIPVisionConfig,
    OwlViTConfig,
    ViTConfig,
)
from tavid_jax.weights.clip import clip_shapes

sys.path.insert(0, str(Path(__file__).parent))

from scoring_files import write_mask  # noqa: E402

VIT = ViTConfig(width=24, num_heads=3, num_layers=1, mlp_dim=40, image_size=32, patch_size=8)
VISION = CLIPVisionConfig(
    width=32, num_heads=4, num_layers=1, mlp_dim=44, image_size=32, patch_size=8, feature_dim=24
)
VOCABULARY = 600
TEXT = CLIPTextConfig(
    width=24, num_heads=3, num_layers=1, mlp_dim=36, text_length=16, feature_dim=24,
    vocab_size=VOCABULARY,
)  # fmt: skip
OWLVIT = OwlViTConfig(dataclasses.replace(VISION, image_size=48), TEXT)
FLAT = dict(textures=("flat",), backgrounds=("grey",), camera=0.0)


@pytest.fixture(scope="session")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _random(shapes, seed: int):
    """Every parameter is noise."""
    noise = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (0.3 * noise.standard_normal(leaf.shape)).astype(np.float32), shapes
    )


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folders as transformers writes them: dino, clip (its image tower), pair (both towers of a
    CLIP, + tokenizer), owlvit (+ tokenizer).
    """
    root = tmp_path_factory.mktemp("checkpoints")
    models = {
        "dino": ("vit", VIT, vit),
        "clip": ("clip_vision", VISION, clip),
        "owlvit": ("owlvit", OWLVIT, owlvit),
    }
    for seed, (folder, (kind, config, module)) in enumerate(models.items()):
        weights.save(kind, _random(module.param_shapes(config), seed), config, root / folder)
    pair = _random(clip_shapes(CLIPConfig(VISION, TEXT)), 3)
    weights.save("clip", pair, CLIPConfig(VISION, TEXT), root / "pair")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [f"{letter}</w>" for letter in letters]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(tokens)}
    # The end must be the largest id, as in the published vocabulary.
    numbers["<|startoftext|>"], numbers["<|endoftext|>"] = VOCABULARY - 2, VOCABULARY - 1
    for folder in ("owlvit", "pair"):
        (root / folder / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
        (root / folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def touching():
    """An interaction of flat colours at 128x128, the camera still: (clip, others' ids)."""
    config = SceneConfig(interaction=True, size_hw=(128, 128), deeds=("touches",), gait=0.0, **FLAT)
    clip_ = scene_clip(sample_scene(config, 3))
    others = [k for k in range(1, len(clip_.masks) + 1) if k not in (clip_.actor, clip_.target)]
    return clip_, others


@pytest.fixture(scope="session")
def video_folder(touching, tmp_path_factory):
    """That clip and a still one as files, with masks beside them."""
    folder = tmp_path_factory.mktemp("videos")
    clip_, others = touching
    still = np.repeat(clip_.video[:1], len(clip_.video), axis=0)
    for name, frames in (("moves", clip_.video), ("still", still)):
        write_video(folder / f"{name}.mp4", frames, clip_.fps)
        write_mask(folder / f"{name}.target.png", clip_.masks[clip_.target - 1])
        for number, other in enumerate(others):
            ending = f"_{number + 1}" if number else ""
            write_mask(folder / f"{name}.other{ending}.png", clip_.masks[other - 1])
    return folder
