"""Parameters of a published model for a method: found, checked against the config, not read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tavid_jax.engine.method import Stored
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.pipelines.backbones import Backbone
from tavid_jax.pipelines.folder import IMAGE, TEXT, TRANSFORMER, VAE
from tavid_jax.pipelines.opening import UNREAD
from tavid_jax.pipelines.pretrained import (
    EXPERTS,
    differences,
    has_experts,
    kind_of,
    leaves_of,
    open_trained,
)

# Node of a method's parameter tree -> part of a published model, and what to change in the
# config where the two disagree.
NODES = {
    "backbone": (TRANSFORMER, "model.changes"),
    "autoencoder": (VAE, "autoencoder.changes"),
    "text_encoder": (TEXT, "text.changes"),
    "image_encoder": (IMAGE, "model.backbone"),
}
BACKBONE = "backbone"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What a method starts from.

    Attributes:
      leaves: path in the method's tree -> parameter, for `Method.pretrained`.
      sources: node -> fingerprint of its checkpoint, for `Method.sources`.
    """

    leaves: Mapping[str, Stored] = dataclasses.field(default_factory=dict)
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __or__(self, other: Pretrained) -> Pretrained:
        return Pretrained({**self.leaves, **other.leaves}, {**self.sources, **other.sources})


def pretrained_backbone(checkpoint: str, model: Any, backbone: Backbone) -> Pretrained:
    """The transformer of a checkpoint under "backbone/", one of its experts if it has two.

    Args:
      checkpoint: `config.checkpoint`; "" is nothing at all.
      model: `config.model`; its `expert` is read.
      backbone: what it has to fit.

    Raises:
      ValueError: no checkpoint there, one of another backbone or size, or an expert that it does
        not have.
    """
    if not checkpoint:
        return Pretrained()
    opened = open_trained(checkpoint, [TRANSFORMER])[TRANSFORMER]
    expert = _expert(checkpoint, model.get("expert", ""), has_experts(opened))
    _check_backbone(checkpoint, opened, model.backbone, backbone.model.config)
    leaves = leaves_of(opened, expert)
    mark = f"{opened.fingerprint()} {expert}".strip()
    return Pretrained({f"{BACKBONE}/{p}": leaf for p, leaf in leaves.items()}, {BACKBONE: mark})


def pretrained_parts(checkpoint: str, parts: Mapping[str, Any]) -> Pretrained:
    """The encoders of a checkpoint, for those who train from clips.

    Args:
      checkpoint: `config.checkpoint`; "" is nothing at all.
      parts: node ("autoencoder", "text_encoder", "image_encoder") -> the config it has to fit.

    Raises:
      ValueError: parts that the checkpoint lacks, or of another kind or size.
    """
    if not checkpoint or not parts:
        return Pretrained()
    where = {node: NODES[node][0] for node in parts}
    opened = open_trained(checkpoint, list(where.values()))
    made = Pretrained()
    for node, part in where.items():
        found, expected = opened[part], parts[node]
        _check_kind(checkpoint, f"{part}: ", found.config, expected)
        lines = differences(found.config, expected, UNREAD.get(part, ()))
        if lines:
            raise ValueError(
                f"config.checkpoint {checkpoint}: its {part} has other sizes than the config "
                f"({'; '.join(lines)}); set config.{NODES[node][1]}, or name another checkpoint"
            )
        leaves = {f"{node}/{path}": leaf for path, leaf in leaves_of(found).items()}
        made |= Pretrained(leaves, {node: found.fingerprint()})
    return made


def _expert(checkpoint: str, expert: str, two: bool) -> str:
    if expert and expert not in EXPERTS:
        raise ValueError(f"model.expert {expert!r} is none of {', '.join(EXPERTS)}")
    if two and not expert:
        raise ValueError(
            f"config.checkpoint {checkpoint} holds two experts: set model.expert to "
            f"{' or '.join(EXPERTS)}, and model.levels to its side of their boundary"
        )
    if expert and not two:
        raise ValueError(
            f"model.expert {expert}: config.checkpoint {checkpoint} holds one transformer; leave "
            "model.expert empty, or name the folder of both experts"
        )
    return expert


def _check_kind(checkpoint: str, part: str, found: Any, expected: Any) -> None:
    if not isinstance(found, type(expected)):
        raise ValueError(
            f"config.checkpoint {checkpoint}: {part}it holds a {kind_of(found)}, not a "
            f"{kind_of(expected)}; set model.backbone to the checkpoint's, or name another"
        )


def _check_backbone(checkpoint: str, opened: Any, name: str, expected: Any) -> None:
    found = opened.config
    # No file has the projections of further channels; they begin at zero.
    expected = dataclasses.replace(expected, extra_channels=0, condition_videos=0)
    if isinstance(found, WanConfig):  # whose text has no positions, so that no weight is of them
        found = dataclasses.replace(found, text_length=expected.text_length)
    if isinstance(found, type(expected)) and found == expected:
        return
    if opened.preset is not None and opened.preset != name:
        raise ValueError(
            f"config.checkpoint {checkpoint} is {opened.preset}, model.backbone is {name}: set "
            f"model.backbone to {opened.preset}, or name another checkpoint"
        )
    _check_kind(checkpoint, "", found, expected)
    raise ValueError(
        f"config.checkpoint {checkpoint} has other sizes than the config "
        f"({'; '.join(differences(found, expected))}); set config.{NODES[BACKBONE][1]}, or name "
        "another checkpoint"
    )
