"""From a config to what FlexTraj adds to fine-tuning: how tracks are drawn, and the curriculum."""

from __future__ import annotations

from typing import Any

from tavid_jax.methods.finetune.settings import build
from tavid_jax.methods.flextraj.controls import Controls
from tavid_jax.methods.flextraj.curriculum import Mixture, Schedule
from tavid_jax.pipelines.follow import Follow


def read_controls(config: Any, stage: Any) -> Controls:
    """`config.follow` with the stage's own changes.

    Raises:
      ValueError: an unknown field, or see `Follow`.
    """
    fields = {**_plain(config.follow), **_plain(stage.options.get("follow", {}))}
    return Controls(Follow.of(fields))


def read_schedule(config: Any, stage: Any) -> Schedule:
    """`config.control` with the stage's own changes; its `schedule` maps steps to what differs.

    Raises:
      ValueError: an unknown field, or see `Mixture` and `Schedule`.
    """
    fields = {**_plain(config.control), **_plain(stage.options.get("control", {}))}
    points = fields.pop("schedule", ()) or ({},)
    for name in ("draws", "injection", "blocks"):  # of the method, not of a mixture
        fields.pop(name, None)
    mixtures, steps = [], []
    for number, point in enumerate(points):
        point = dict(point)
        steps.append(point.pop("step", 0 if not number else None))
        if steps[-1] is None:
            raise ValueError(f"control.schedule: point {number} has no step")
        mixtures.append(build(Mixture, "control", {**fields, **point}))
    return Schedule(tuple(mixtures), tuple(steps))


def read_draws(config: Any, stage: Any) -> int:
    """How many noisy videos share a condition, `config.control.draws`."""
    return int({**config.control, **stage.options.get("control", {})}["draws"])


def _plain(node: Any) -> dict[str, Any]:
    return node.to_dict() if hasattr(node, "to_dict") else dict(node)
