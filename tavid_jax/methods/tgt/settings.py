"""From a config to what TGT adds to fine-tuning: trajectories, neighbourhoods, cross-attention."""

from __future__ import annotations

import dataclasses
from typing import Any

from tavid_jax.methods.finetune.settings import build
from tavid_jax.methods.tgt.draw import Draw
from tavid_jax.models.layers.located import Laca
from tavid_jax.pipelines.backbones import Backbone
from tavid_jax.pipelines.keeping import Keep
from tavid_jax.pipelines.located import LocatedWan, locate
from tavid_jax.tracks.neighbourhoods import Rule

# Fields of `config.trajectories` that are not of `Draw`.
_ROOM = ("points", "text_positions")
_DROPS = ("local_dropout", "null", "strength")


def read_located(config: Any, stage: Any, backbone: Backbone) -> LocatedWan:
    """The backbone with what `config.laca`, `config.rule` and `config.trajectories` describe.

    Raises:
      ValueError: an unknown field, or see `Laca`, `Rule` and `LocatedWan`.
    """
    # What stays as it is is stored as it is used.
    model = backbone.model.clone(param_dtype=backbone.model.dtype)
    backbone = dataclasses.replace(backbone, model=model)
    rule = build(Rule, "rule", _of_stage(config, stage, "rule"))
    laca = build(Laca, "laca", {**_of_stage(config, stage, "laca"), "overlap": rule.overlap})
    room = _of_stage(config, stage, "trajectories")
    return locate(backbone, laca, rule, **{name: room[name] for name in _ROOM})


def read_draw(config: Any, stage: Any) -> Draw:
    """Which trajectories examples get, `config.trajectories` with the stage's own changes.

    Raises:
      ValueError: an unknown field, or see `Draw`.
    """
    fields = _of_stage(config, stage, "trajectories")
    return build(Draw, "trajectories", {k: v for k, v in fields.items() if k not in _ROOM + _DROPS})


def read_keep(config: Any, stage: Any) -> Keep:
    """What examples of an encode stage keep of trajectories, and a training from them reads.

    Raises:
      ValueError: see `Keep`, and a stage that reads examples that keep something else.
    """
    fields = _of_stage(config, stage, "trajectories")
    keep = Keep(fields["source"], fields["text_positions"])
    if stage.data in stage.cached_by:
        there = read_keep(config, config.stages[stage.data])
        for name, value in vars(keep).items():
            if value != vars(there)[name]:
                raise ValueError(
                    f"trajectories.{name} {value!r} of a stage that reads the examples of "
                    f"{stage.data!r}, which keep {vars(there)[name]!r}: give both the same"
                )
    return keep


def read_drops(config: Any, stage: Any) -> dict[str, Any]:
    """Arguments of `Tgt` about what is left out, and its lambda."""
    fields = _of_stage(config, stage, "trajectories")
    drops = {name: fields[name] for name in _DROPS}
    strength = drops["strength"]
    if isinstance(strength, int | float):
        strength = (strength, strength)
    return drops | {"strength": tuple(strength)}


def _of_stage(config: Any, stage: Any, node: str) -> dict[str, Any]:
    given = stage.options.get(node, {})
    given = given.to_dict() if hasattr(given, "to_dict") else dict(given)
    return {**config[node].to_dict(), **given}
