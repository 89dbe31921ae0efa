"""Trained models as a folder in the layout of diffusers, with a card of where they came from.

    transformer/  text_encoder/  vae/  tokenizer/   as diffusers and transformers open them
    pytorch_lora_weights.safetensors                where adapters of it were trained instead
    control.safetensors                             adapters of its condition stream, and the
                                                    fusion of two condition videos
    laca.safetensors                                its location-aware cross-attention
    patch_embed_conv2d.pth, patch_embedding.pth     its patch projection, with channels for masks
    target_embedding.safetensors                    learned vectors of the trigger words
    base.json                                       see `card`

Parts that were not trained stay where they are; the card names the checkpoint that holds them.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.space_to_depth import SpaceToDepthConfig
from tavid_jax.models.text.config import T5Config
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.models.wan.experts import LOW_NOISE
from tavid_jax.models.wan.vae.config import WanVAEConfig
from tavid_jax.pipelines.additions import write_embedding
from tavid_jax.pipelines.card import (
    ADAPTERS,
    LOCATED,
    STEERING,
    VECTORS,
    Card,
    has_card,
    write_card,
)
from tavid_jax.pipelines.folder import TEXT, TOKENIZER, TRANSFORMER, VAE
from tavid_jax.pipelines.laca_files import save_laca
from tavid_jax.pipelines.located import Locate
from tavid_jax.weights import save_flextraj, save_lora, save_patch_embed
from tavid_jax.weights.exported import save
from tavid_jax.weights.imported import whole_or_absent
from tavid_jax.weights.lazy import to_dtype
from tavid_jax.weights.model_json import config_to_json
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.table import walk

STORED = ("float32", "bfloat16", "float16")
_MODELS = (TRANSFORMER, TEXT, VAE)


class Model(NamedTuple):
    """A trained model: its config, and nested parameters (none for pixels as they are)."""

    config: Any
    params: Mapping[str, Any]


class Adapters(NamedTuple):
    """Low-rank adapters of a transformer of this config: the subtree `lora`, and its rules.

    `expert`: of two transformers, the one that they are of: "high_noise" or "low_noise".
    """

    config: Any
    params: Mapping[str, Any]
    rules: Sequence[LoraRule]
    expert: str = ""


class Control(NamedTuple):
    """What reads condition videos in a transformer of this config: the subtree `lora` of adapters
    of their stream alone, `fuse` where there are two videos; and the adapters' rules."""

    config: Any
    params: Mapping[str, Any]
    rules: Sequence[LoraRule]


class Located(NamedTuple):
    """Location-aware cross-attention of a transformer of this config: the node `laca`, and what it
    is."""

    config: Any
    params: Mapping[str, Any]
    how: Locate


def save_pipeline(
    folder: str | Path,
    card: Card,
    parts: Mapping[str, Model],
    *,
    adapters: Adapters | None = None,
    control: Control | None = None,
    located: Located | None = None,
    patch: Model | None = None,
    embedding: Num[Any, "K D"] | None = None,
    tokenizer: str | Path | None = None,
) -> Card:
    """Writes trained models as a folder that `open_pipeline` opens; it is whole or not there.

    Args:
      folder: to be created; what stands there is replaced if it has a card itself.
      card: what it is, and the type to store weights in (adapters keep their own); its `files`, and
        `locate`, are filled in.
      parts: "transformer", "text_encoder" and "vae", those of them that were trained.
      adapters: of the transformer, where it was not trained itself.
      control: of the transformer, where it was trained to read condition videos.
      located: of the transformer, where it was trained to read texts of trajectories.
      patch: config and parameters `patch_embed` and `patch_embed_extra` of the transformer, where
        the projection was trained beside adapters or has further channels.
      embedding: vectors that are added to the features of the card's trigger words.
      tokenizer: file of the text encoder's vocabulary, or the folder that holds it.

    Returns:
      The card as written.

    Raises:
      WeightsError: weights that are not finite as they are stored, parts without which the folder
        is no model, or a folder that cannot be written.
    """
    folder = Path(folder).expanduser()
    if located is not None:
        card = dataclasses.replace(card, locate=located.how.to_json())
    _check(card, parts, adapters, tokenizer)
    total = sum(np.prod(x.shape) * 4 for m in parts.values() for _, x in walk(m.params))
    fresh = folder.with_name(f".{folder.name}.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    with whole_or_absent(fresh, int(total)) as part:
        for name, model in parts.items():
            _save_model(part / name, model, card.stored)
        if adapters is not None:
            component = f"{TRANSFORMER}_2" if adapters.expert == LOW_NOISE else TRANSFORMER
            how = dict(config=adapters.config, component=component)
            save_lora(adapters.params, adapters.rules, part / ADAPTERS, _family(adapters), **how)
        if control is not None:
            _check_range("control", control.params, np.dtype(np.float32))
            config, rules = control.config, control.rules
            save_flextraj(part / STEERING, control.params, _family(control), config, rules)
        if located is not None:
            save_laca(part / LOCATED, located.params, located.how, located.config)
        if patch is not None:
            _check_range("patch_embed", patch.params, np.dtype(np.float32))
            save_patch_embed(patch.params, part, patch.config)
        if embedding is not None:
            write_embedding(part / VECTORS, embedding)
        if tokenizer is not None:
            _copy_tokenizer(Path(tokenizer), part / TOKENIZER)
        card = write_card(part, card)
    _put(fresh, folder)
    return card


def copy_pipeline(source: Path, folder: Path, card: Card) -> Card:
    """A folder that `save_pipeline` wrote, elsewhere and with another card; whole or not there.

    Raises:
      WeightsError: a folder that cannot be written, or holds something else.
    """
    total = sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
    fresh = folder.with_name(f".{folder.name}.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    with whole_or_absent(fresh, total) as part:
        shutil.copytree(source, part, dirs_exist_ok=True)
        card = write_card(part, card)
    _put(fresh, folder)
    return card


def _check(
    card: Card,
    parts: Mapping[str, Model],
    adapters: Adapters | None,
    tokenizer: str | Path | None,
) -> None:
    if card.stored not in STORED:
        raise WeightsError(f"weights stored as {card.stored!r}: there are {', '.join(STORED)}")
    unknown = sorted(set(parts) - set(_MODELS))
    if unknown:
        raise WeightsError(f"{unknown[0]!r} cannot be saved; there are {', '.join(_MODELS)}")
    if adapters is not None and TRANSFORMER in parts:
        raise WeightsError("adapters beside a transformer that was trained itself: give one")
    missing = [name for name in _MODELS if name not in parts]
    missing += [TOKENIZER] if tokenizer is None else []
    missing += ["image_encoder"] if card.published().image_encoder else []
    if missing and not card.checkpoint:
        raise WeightsError(
            f"{card.name}: {', '.join(missing)} missing: give them, or the checkpoint that holds "
            "them"
        )


def _save_model(folder: Path, model: Model, dtype: str) -> None:
    if isinstance(model.config, SpaceToDepthConfig):
        folder.mkdir()
        text = json.dumps(config_to_json(model.config), indent=2)
        (folder / "config.json").write_text(f"{text}\n", encoding="utf-8")
        return
    _check_range(folder.name, model.params, to_dtype(dtype))
    save(_kind(model.config), model.params, model.config, folder, dtype=dtype)


def _family(of: Adapters | Control) -> str:
    return "cogvideox" if isinstance(of.config, CogVideoXConfig) else "wan"


def _kind(config: Any) -> str:
    """Key of `weights.CHECKPOINTS` under which diffusers and transformers know the model."""
    if isinstance(config, T5Config):
        return "t5" if config.shared_bias else "umt5_transformers"
    return {
        WanConfig: "wan_diffusers",
        CogVideoXConfig: "cogvideox",
        WanVAEConfig: "wan_vae_diffusers",
        CogVideoXVAEConfig: "cogvideox_vae",
    }[type(config)]


def _check_range(name: str, params: Mapping[str, Any], dtype: np.dtype) -> None:
    for path, leaf in walk(params):
        values = np.asarray(leaf, np.float32)
        with np.errstate(over="ignore"):
            stored = values.astype(dtype).astype(np.float32)
        if not np.isfinite(values).all():
            raise WeightsError(f"{name}: {path} holds values that are not finite")
        if not np.isfinite(stored).all():
            raise WeightsError(
                f"{name}: {path} reaches {np.abs(values).max():.3g}, more than {dtype} holds; "
                "store it in bfloat16 or float32"
            )


def _copy_tokenizer(source: Path, folder: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, folder)
        return
    folder.mkdir()
    name = "tokenizer.json" if source.suffix == ".json" else "spiece.model"
    shutil.copyfile(source, folder / name)


def _put(fresh: Path, folder: Path) -> None:
    """Moves a whole folder into its place, for an older one of its kind if there is one."""
    try:
        if folder.exists() and any(folder.iterdir()):
            if not has_card(folder):
                raise WeightsError(
                    f"{folder} exists already and is no folder of a trained model; remove it or "
                    "choose another place"
                )
            shutil.rmtree(folder)
        fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
