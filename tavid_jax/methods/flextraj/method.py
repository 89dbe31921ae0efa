"""FlexTraj as a method: adapters of the condition stream, and the fusion of its two videos; or,
to compare with, a side network in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Arrays, Params, Spec, Stored
from tavid_jax.methods.finetune import flops as counting
from tavid_jax.methods.finetune.method import BACKBONE, CODER, Finetune, folded
from tavid_jax.methods.flextraj.controlnet import NODE, copied, with_controlnet
from tavid_jax.methods.flextraj.controls import Controls
from tavid_jax.methods.flextraj.curriculum import Schedule
from tavid_jax.methods.flextraj.flops import injected_flops
from tavid_jax.methods.flextraj.injection import Injected
from tavid_jax.models.layers.flops import Work
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.streams import CONDITION
from tavid_jax.pipelines.control import CONTROLS

# Condition videos of an example, bytes.
VIDEOS = "control_videos"
# Fields of `Follow` that say how points look, whichever of them are given.
DRAWN = ("codes", "show_segment", "show_point", "order", "stamp", "native", "choose", "prefix")
# What a training step's keys are folded with, besides those of fine-tuning.
CONTROL_LATENTS, DRAWS = 7, 8


class Flextraj(Finetune):
    """Trains what acts on condition tokens alone, or the side network of an `Injected` backbone;
    the published model stays as it is.

    Args:
      controls: how tracks become condition videos.
      schedule: which control examples get.
      draws: noisy videos for each condition: it walks the blocks once for all of them (a side
        network, once for each).
      options: of `Finetune`; the backbone has two condition videos.

    Raises:
      ValueError: a backbone without condition videos, adapters of other streams, or no draw.
    """

    def __init__(self, controls: Controls, schedule: Schedule, draws: int = 1, **options: Any):
        super().__init__(**options)
        self.controls, self.schedule, self.draws = controls, schedule, draws
        model = self.backbone.model
        if draws < 1:
            raise ValueError(f"control.draws {draws} must be at least 1")
        if model.config.condition_videos != 2:
            raise ValueError("FlexTraj reads two condition videos: set model.condition_videos to 2")
        self.is_injected = isinstance(self.backbone, Injected)
        if self.is_injected:  # instead of all weights
            own = f"{BACKBONE}/{NODE}/.*"
            self.trainable_paths, self.frozen_paths = (own, *self.trainable_paths[1:]), ()
            # The side network walks beside the backbone's blocks, which are taken one by one there.
            self.host_paths = ()
        else:
            _check_rules(model.lora)
            self.trainable_paths += (f"{BACKBONE}/fuse/.*",)
        self.scheduled = schedule.changes

    # ---- examples ----------------------------------------------------------------------------

    def raw_spec(self) -> dict[str, Spec]:
        """Frames and ids, and two condition videos."""
        spec = super().raw_spec()
        video = spec["video"]
        control = Spec((2, *video.shape), np.uint8, (None, *video.axes))
        return spec | {VIDEOS: control}

    def prepare(self, clip: Clip, rng: np.random.Generator, step: int = 0) -> dict[str, Any]:
        """Frames and ids of a clip, and the condition videos that its tracks become.

        Raises:
          ClipError: see `Finetune.prepare`, and `Controls`.
        """
        made = self.controls(clip, self.schedule.at(step), rng)
        example = super().prepare(clip.replace(caption=made.caption), rng)
        return example | {VIDEOS: np.stack([made.ids, made.colours])}

    def encode(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """Latents of the clip and of its condition videos, by the frozen encoders."""
        encoded = super().encode(params, batch, rng)
        keys = folded(rng, CONTROL_LATENTS)
        return encoded | self.recipe.control(params.get(CODER, {}), batch[VIDEOS], keys)

    def ways(self) -> Mapping[str, Any]:
        """How points are drawn, which a sampled video's are like."""
        return {name: getattr(self.controls.follow, name) for name in DRAWN}

    # ---- training ----------------------------------------------------------------------------

    def initial(self, rng: jax.Array) -> Params:
        """The backbone, its fusion in float32 or its side network, and the encoders that the step
        runs."""
        params = super().initial(rng)
        base = dict(params[BACKBONE])
        if self.is_injected:
            base = with_controlnet(base, self.backbone.controlnet.blocks)
        else:
            base["fuse"] = jax.tree.map(lambda x: x.astype(jnp.float32), base["fuse"])
        return params | {BACKBONE: base}

    def published(self) -> Mapping[str, Stored]:
        """Weights of the checkpoint; a side network is a copy of its blocks."""
        leaves = super().published()
        if not self.is_injected:
            return leaves
        return {**leaves, **copied(leaves, BACKBONE, self.backbone.controlnet.blocks)}

    def encoding(self, work: Work, batch_size: int) -> None:
        """The clip, and its two condition videos."""
        super().encoding(work, batch_size)
        for _ in range(2):
            counting.videos(work, self, batch_size)

    def evaluating(self, work: Work, batch_size: int) -> None:
        """Two streams in lock-step, conditions once for all draws; or a side network."""
        draws, backbone = self.draws, self.backbone
        weights = counting.weights_of(self, BACKBONE)
        if self.is_injected:
            shape = counting.shape_of(backbone, draws * batch_size)
            injected_flops(work, backbone, weights, shape)
            return
        shape = counting.shape_of(
            backbone,
            draws * batch_size,
            conditions=batch_size,
            text_batch=batch_size,
            text_live=self.trains_text,
        )
        counting.evaluate(work, backbone, weights, shape)

    def drawings(self, batch: Arrays, rng: jax.Array) -> tuple[Arrays, jax.Array]:
        """Every example as often as noise is drawn for it, neighbours; its condition once, but for
        a side network, which sees it with every noise."""
        if self.draws == 1:
            return batch, rng
        once = () if self.is_injected else CONTROLS
        if once and not self.backbone.shares_control:  # condition tokens that look at the text
            once += ("text", "clip")
        batch = {
            name: x if name in once else jnp.repeat(x, self.draws, axis=0)
            for name, x in batch.items()
        }
        keys = jnp.stack([folded(rng, DRAWS + i) for i in range(self.draws)], axis=1)
        return batch, keys.reshape(-1)


def _check_rules(rules: Sequence[LoraRule]) -> None:
    others = [rule.name for rule in rules if rule.stream != CONDITION]
    if others or not rules:
        raise ValueError(
            "FlexTraj's adapters act on condition tokens: set stream='condition' in "
            f"{', '.join(others) or 'at least one rule of model.lora'}"
        )
