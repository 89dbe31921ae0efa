"""A finished run as the folder of a pipeline: what was trained, and where the rest of it lies."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from tavid_jax import __version__, places
from tavid_jax.engine.method import Params, Results
from tavid_jax.methods.finetune import settings
from tavid_jax.methods.finetune.method import BACKBONE, EMBEDDING, TEXT, Finetune
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.space_to_depth import SpaceToDepthConfig
from tavid_jax.models.layers.streams import CONDITION
from tavid_jax.models.text.tokenizer import CAPTIONS
from tavid_jax.pipelines.bases import resolve_checkpoint
from tavid_jax.pipelines.card import Card, has_card, read_card, told_steps
from tavid_jax.pipelines.folder import TEXT as TEXT_PART
from tavid_jax.pipelines.folder import TOKENIZER, TRANSFORMER, VAE
from tavid_jax.pipelines.located import NODE, Locate
from tavid_jax.pipelines.pretrained import locate
from tavid_jax.pipelines.saving import Adapters, Control, Located, Model, save_pipeline
from tavid_jax.pipelines.settings import Sampling
from tavid_jax.places import Place

# In the folder of a run.
FOLDER = "model"
# Nodes of a backbone: its patch projection, and that of further channels; the fusion of two
# condition videos.
PATCHES = "patch_embed", "patch_embed_extra"
FUSE = "fuse"


def save_run(config: Any, stage: str, method: Finetune, results: Results, folder: Place) -> Path:
    """Writes what a stage has trained; nothing where the same lies there already.

    Returns the folder, or the local copy of one in a bucket.

    Args:
      config: of the run.
      stage: the last one that trains.
      method: its method.
      results: of the run.
      folder: of the pipeline.

    Raises:
      ValueError: a model of which parts lie nowhere, weights that cannot be stored as
        `config.sampling.stored` says, or a folder of something else.
    """
    card = card_of(config, stage, method, results)
    local = places.pull(folder, missing_ok=True)
    if not _is_there(local, card):
        _save(config, stage, method, results, local, card)
        places.push(folder)
    return places.pull(folder)


def _save(
    config: Any, stage: str, method: Finetune, results: Results, folder: Path, card: Card
) -> None:
    params = results.params(*config.stages[stage].init_from, stage)
    tokenizer = _tokenizer(config) if method.trains_text else None
    model = settings.model_of(config, config.stages[stage])
    parts, additions = _trained(method, params, model.get("expert", ""))
    save_pipeline(folder, card, parts, **additions, tokenizer=tokenizer)
    logging.info("the trained model is in %s", folder)


def _is_there(folder: Path, card: Card) -> bool:
    """Whether the folder holds the model of this card; when it was written does not count."""
    if not has_card(folder):
        return False
    try:
        there = read_card(folder)
    except ValueError as error:
        logging.warning("%s is written again: %s", folder, error)
        return False
    keep = {"files": there.files, "quality": there.quality}
    trained = {**card.trained, "devices": there.trained.get("devices")}
    return there.to_json() == dataclasses.replace(card, trained=trained, **keep).to_json()


def _trained(
    method: Finetune, params: Params, expert: str
) -> tuple[dict[str, Model], dict[str, Any]]:
    """The parts that were trained, and what is saved beside them: arguments of `save_pipeline`."""
    model, additions, parts = method.backbone.model, {}, {}
    weights = dict(params[BACKBONE])
    lora = weights.pop("lora", None)
    if _keeps_patch(method):
        patch = {name: weights[name] for name in PATCHES if name in weights}
        additions["patch"] = Model(model.config, patch)
    fuse = {name: weights.pop(name) for name in (FUSE,) if name in weights}
    rules, steering = _separate(model)
    # Adapters of an earlier stage with other rules are no part of what was trained.
    if model.config.condition_videos:
        mine = {"lora": {rule.name: lora[rule.name] for rule in steering}, **fuse}
        additions["control"] = Control(model.config, mine, steering)
    if rules:
        mine = {rule.name: lora[rule.name] for rule in rules}
        additions["adapters"] = Adapters(model.config, mine, rules, expert)
    located = weights.pop(NODE, None)
    if method.locate():
        how = Locate.of(method.locate())
        additions["located"] = Located(model.config, located, how)
    if not (model.lora or (method.locate() and not weights)):
        # No published file has further channels or a fusion: they are in files of their own.
        weights.pop(PATCHES[1], None)
        config = dataclasses.replace(model.config, extra_channels=0, condition_videos=0)
        parts[TRANSFORMER] = Model(config, weights)
    if method.trains_text:
        parts[TEXT_PART] = Model(method.words.module.config, params[TEXT])
    if isinstance(method.autoencoder.config, SpaceToDepthConfig):
        parts[VAE] = Model(method.autoencoder.config, {})
    if EMBEDDING in params:
        additions["embedding"] = np.asarray(params[EMBEDDING])
    return parts, additions


def _separate(model: Any) -> tuple[tuple[LoraRule, ...], tuple[LoraRule, ...]]:
    """Rules of adapters, and those of the tokens of condition videos alone."""
    if not model.config.condition_videos:
        return tuple(model.lora), ()
    steering = tuple(rule for rule in model.lora if rule.stream == CONDITION)
    return tuple(rule for rule in model.lora if rule not in steering), steering


def _keeps_patch(method: Finetune) -> bool:
    """Whether the patch projection is saved on its own: where it was trained beside adapters, or
    has further channels."""
    model, path = method.backbone.model, f"{BACKBONE}/{PATCHES[0]}/kernel"
    trained = any(re.fullmatch(pattern, path) for pattern in method.trainable_paths)
    return bool(model.config.extra_channels) or (bool(model.lora) and trained)


def _tokenizer(config: Any) -> Path:
    """That of the checkpoint, whose text encoder goes on learning, or this package's."""
    if not config.checkpoint:
        return CAPTIONS
    return Path(locate(config.checkpoint, [TOKENIZER])[TOKENIZER])


# ---- the card --------------------------------------------------------------------------------


def card_of(config: Any, stage: str, method: Finetune, results: Results) -> Card:
    """What the model is, how it is sampled, and where it came from."""
    model, options = settings.model_of(config, config.stages[stage]), config.stages[stage]
    published = settings.published_of(model)
    told = told_steps(options.steps)
    curve = [(int(r["step"]), r["loss"]) for r in results.curves[stage] if r["step"] <= told]
    return Card(
        config.preset.replace("_", "-"),
        model.backbone,
        sampling_of(config, model),
        config.autoencoder.name or published.autoencoder,
        model.predicts,
        model.dtype,
        _asked(config, "stored", "") or model.dtype,
        "" if _is_whole(method) else config.checkpoint,
        _origin(config, stage, results),
        loss_curve=tuple(curve),
        targets=_targets(method),
        follow=method.ways(),
        locate=Locate.of(method.locate()).to_json() if method.locate() else {},
        move=method.moves(),
    )


def _is_whole(method: Finetune) -> bool:
    """Whether all parts are in the folder: nothing of the checkpoint is read again."""
    coder = method.autoencoder.config
    adapts = bool(method.backbone.model.lora or method.locate())
    return method.trains_text and isinstance(coder, SpaceToDepthConfig) and not adapts


def _targets(method: Finetune) -> Mapping[str, Any]:
    """What the model reads of targets; nothing where it has neither channels nor vectors."""
    reader = method.reader
    if reader is None:
        return {}
    reads = method.backbone.model.config.extra_channels or reader.targets.embedding
    return dataclasses.asdict(reader.targets) if reads else {}


def sampling_of(config: Any, model: Any) -> Sampling:
    """At the size that was trained; otherwise the checkpoint's, and what the config changes."""
    published, data = settings.published_of(model), config.data
    source = resolve_checkpoint(config.checkpoint)
    start = read_card(source).sampling if source and has_card(source) else published.sampling
    changes: dict[str, Any] = {"size_hw": tuple(data.size_hw), "frames": data.frames}
    fps = data.clips.fps or data.scene.get("fps") or data.splits.train.get("fps")
    if fps:
        changes["fps"] = fps
    if published.family == "wan" and not config.checkpoint:
        changes["shift"] = model.shift  # as it was trained
    return start.changed(changes | dict(_asked(config, "options", {})))


def _origin(config: Any, stage: str, results: Results) -> Mapping[str, Any]:
    marks = {k: v for k, v in results.provenance.items() if "/" in k}
    device = jax.devices()[0]
    return {
        "config": results.provenance["config"],
        "seed": int(config.seed),
        "command": f"python -m tavid_jax.main --config=configs/{config.system}.py:{config.preset}",
        "steps": int(config.stages[stage].steps),
        "seconds": round(sum(results.seconds.values()), 1),
        "devices": f"{len(jax.devices())} {device.device_kind}",
        "version": __version__,
        **marks,
    }


def _asked(config: Any, name: str, default: Any) -> Any:
    """A field of `config.sampling`, which older runs do not have."""
    return config.get("sampling", {}).get(name, default)
