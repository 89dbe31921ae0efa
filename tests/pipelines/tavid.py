"""TAViD's release at tiny sizes: a base, and the two files that are opened upon it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from diffusers import CogVideoXImageToVideoPipeline, WanImageToVideoPipeline

from tavid_jax.pipelines import Pipeline, open_pipeline
from tavid_jax.weights.patch_embed import COGVIDEOX_FILE, WAN_FILE
from tests.models.random_weights import randomise
from tests.pipelines import tiny
from tests.pipelines.reference import picture
from tests.weights.adapters import noisy

SIZE_HW, FRAMES, RANK = (32, 48), 9, 3
COGVIDEOX, WAN = "cogvideox-5b-i2v", "wan2.2-ti2v-5b"
TRANSFORMER = dict(in_channels=8, use_learned_positional_embeddings=True)
# Of few pieces in the vocabulary of these tests; the second is a trigger word for actors.
PROMPT, ACTOR = "rests on the target blue", "the red on the target"
IMAGE = picture(SIZE_HW, 5)


def mask_of(*box: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """0..255, white within rows top ... bottom and columns left ... right."""
    top, bottom, left, right = box
    mask = np.zeros(size_hw, np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


MASK, OTHER = mask_of(8, 20, 8, 32), mask_of(16, 32, 32, 48)


def cogvideox_release(
    folder: Path, seed: int = 90, channels: int = 1
) -> dict[str, torch.nn.Module]:
    """Writes folder/base and, in `folder`, adapters and a convolution of so many mask channels.

    Returns the models of torch, with both plugged into the transformer.
    """
    models = tiny.cogvideox_folder(folder / "base", seed, transformer=TRANSFORMER)
    transformer = models["transformer"]
    conv = torch.nn.Conv2d(8 + channels, transformer.patch_embed.proj.out_channels, 2, 2)
    transformer.patch_embed.proj = randomise(conv, seed + 5)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    transformer.add_adapter(peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
    noisy(transformer)
    CogVideoXImageToVideoPipeline.save_lora_weights(
        folder, transformer_lora_layers=peft.get_peft_model_state_dict(transformer)
    )
    torch.save(conv.state_dict(), folder / COGVIDEOX_FILE)
    return models


def wan_release(folder: Path, seed: int = 40) -> dict[str, torch.nn.Module]:
    """The same of Wan 2.2 TI2V, with one mask channel."""
    sizes = dict(in_channels=6, out_channels=6)
    models = tiny.wan_folder(folder / "base", seed, transformer=sizes, vae=tiny.WAN_VAE_2)
    transformer = models["transformer"]
    own = transformer.patch_embedding
    conv = torch.nn.Conv3d(7, own.out_channels, own.kernel_size, own.stride)
    transformer.patch_embedding = randomise(conv, seed + 5)
    targets = ["attn1.to_q", "attn2.to_k", "attn2.to_v"]
    transformer.add_adapter(peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
    noisy(transformer)
    WanImageToVideoPipeline.save_lora_weights(
        folder, transformer_lora_layers=peft.get_peft_model_state_dict(transformer)
    )
    torch.save(conv.state_dict(), folder / WAN_FILE)
    return models


def opened(folder: Path, name: str = COGVIDEOX, **options: Any) -> Pipeline:
    """The base with both files."""
    files = dict(lora=folder, patch_embed=folder)
    return open_pipeline(name, folder / "base", strict=False, **files | options)


@contextlib.contextmanager
def reading(
    transformer: torch.nn.Module, masks: Sequence[np.ndarray], stride: int, axis: int
) -> Iterator[None]:
    """diffusers' own pipeline has no mask: its transformer then reads these behind what it is given
    by it, in both branches of guidance, in the first frame alone."""
    first = np.stack([mask[::stride, ::stride] for mask in masks]).astype(np.float32) / 255.0
    forward = transformer.forward

    def with_masks(hidden_states: torch.Tensor, *given: Any, **more: Any) -> Any:
        shape = list(hidden_states.shape)
        shape[axis] = len(masks)
        channels = torch.zeros(shape)
        channels.select(3 - axis, 0)[:] = torch.from_numpy(first)
        return forward(torch.cat([hidden_states, channels], axis), *given, **more)

    transformer.forward = with_masks
    try:
        yield
    finally:
        del transformer.forward
