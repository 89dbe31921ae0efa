"""The published backbones steered by residuals of a side network instead of a condition stream.

For comparisons: such a model is trained, evaluated and sampled like the others of a run, but no
folder holds it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from jaxtyping import Array, Float

from tavid_jax.engine.method import Arrays, Params
from tavid_jax.methods.flextraj.controlnet import NODE, ControlNet, parted, residuals
from tavid_jax.models.layers.ports import Prediction, Probe
from tavid_jax.pipelines.backbones import (
    Backbone,
    CogVideoXBackbone,
    Conditions,
    WanBackbone,
    embed_control,
)
from tavid_jax.pipelines.control import CONTROL, CONTROLS

# Entry of a precomputed batch: what the side network reads in every step, and these of a batch.
SEEN = NODE
_READ = ("text", "clip", *CONTROLS)


class Injected:
    """What is different in a backbone with a side network; mixed into those of pipelines.

    The parameters hold it under "controlnet". A batch without condition videos is the published
    model's.
    """

    controlnet: ControlNet

    @property
    def shares_control(self) -> bool:
        """Whether condition videos are walked once for every prompt: they are in every step."""
        return False

    def precompute(self, params: Params, batch: Arrays) -> Conditions:
        """What the published model would keep over the steps, and all that is read anew."""
        made = super().precompute(parted(params)[0], _plain(batch))
        if CONTROL not in batch:
            return made
        return made | {SEEN: {name: batch[name] for name in _READ if name in batch}}

    def evaluate(
        self,
        params: Params,
        state: Float[Array, "B F H W C"],
        timestep: Array,
        batch: Conditions,
        probe: Probe | None = None,
    ) -> Prediction:
        """The network's output, its tokens moved by the side network; see `Backbone.evaluate`."""
        network, _ = parted(params)
        seen, side = batch.get(SEEN, batch), None
        if CONTROL in seen:
            condition = embed_control(self.model, network, seen)
            side = functools.partial(
                residuals, self.model, params, self.controlnet, condition, batch=seen
            )
        plain = {name: x for name, x in _plain(batch).items() if name != SEEN}
        return super().evaluate(network, state, timestep, plain, probe, side)


@dataclasses.dataclass(frozen=True)
class InjectedCogVideoX(Injected, CogVideoXBackbone):
    """CogVideoX with a side network."""

    controlnet: ControlNet = ControlNet()


@dataclasses.dataclass(frozen=True)
class InjectedWan(Injected, WanBackbone):
    """Wan with a side network."""

    controlnet: ControlNet = ControlNet()


def inject(backbone: Backbone, controlnet: ControlNet) -> InjectedCogVideoX | InjectedWan:
    """A backbone that a side network steers; the published weights are frozen, and kept in the
    type in which they are used.

    Args:
      backbone: one that reads condition videos.
      controlnet: how large, and where.

    Raises:
      ValueError: a backbone that reads none, that has adapters, or fewer blocks.
    """
    model = backbone.model
    if not model.config.condition_videos:
        raise ValueError("control.injection 'residuals': set model.changes.condition_videos to 2")
    if model.lora:
        raise ValueError(
            "control.injection 'residuals' trains a copy of blocks and no adapters: set model.lora "
            "to ()"
        )
    controlnet.layers(model.config.num_layers)
    kind = InjectedCogVideoX if isinstance(backbone, CogVideoXBackbone) else InjectedWan
    fields = {f.name: getattr(backbone, f.name) for f in dataclasses.fields(backbone)}
    fields["model"] = model.clone(param_dtype=model.dtype)
    return kind(**{**fields, "controlnet": controlnet})


def _plain(batch: Conditions) -> dict[str, Any]:
    """Without condition videos."""
    return {name: x for name, x in batch.items() if name not in CONTROLS}
