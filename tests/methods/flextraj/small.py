"""The demo's config with a judge, runs of it that are smaller still, and the smallest method."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from configs.flextraj import get_config
from tavid_jax.methods.finetune.objectives import VPrediction
from tavid_jax.methods.finetune.words import Words
from tavid_jax.methods.flextraj.controls import Controls
from tavid_jax.methods.flextraj.curriculum import Mixture, Schedule
from tavid_jax.methods.flextraj.method import Flextraj
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.space_to_depth import SpaceToDepth, SpaceToDepthConfig
from tavid_jax.models.text.t5 import T5Encoder
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.pipelines.backbones import CogVideoXBackbone, Geometry, make_backbone
from tavid_jax.pipelines.follow import Follow
from tests.pipelines import trained

# Name -> title, over pictures, how it is judged, what differs from `config.follow`.
GRANULARITIES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "dense": ("Dense", "dense", "trajerr", dict(colour="none")),
    "coloured": ("Dense, with colours", "dense, colours", "trajerr", dict(colour="frame")),
    "points_10": (
        "10 % of the points", "10 % points", "trajerr", dict(keep_points=0.1, colour="none"),
    ),
    "points_3": (
        "3 % of the points", "3 % points", "trajerr", dict(keep_points=0.03, colour="none"),
    ),
    "frames_3": (
        "3 of 9 frames", "3 frames", "trajerr", dict(keep_frames=(0, 4, 8), colour="none"),
    ),
    "frames_2": (
        "First and last frame", "2 frames", "trajerr", dict(keep_frames=0.0, colour="none"),
    ),
    "unaligned": (
        "Unaligned: another actor", "unaligned", "trajsim", dict(unaligned="scale", colour="none"),
    ),
}  # fmt: skip


def judged(config: ConfigDict) -> None:
    """What the report needs of a config."""
    config.evaluate.granularities = {
        name: dict(title=title, short=short, measure=measure, follow=follow)
        for name, (title, short, measure, follow) in GRANULARITIES.items()
    }
    config.evaluate.columns = tuple(GRANULARITIES)  # which of them, in order
    config.evaluate.variants = dict(
        flextraj=dict(stage="s4", title="FlexTraj", short="FlexTraj"),
        none=dict(stage="", title="no control", short="no control"),
    )
    config.evaluate.order = ("flextraj", "none")  # of the variants; () = nothing is judged
    config.evaluate.main = "flextraj"  # which the others are compared with
    config.evaluate.curve = ("s1", "s2", "s3", "s4")  # stages of the learning curve
    config.evaluate.curve_scenes = 50  # of the test scenes, for the curve
    config.report.update(scenes=4, failures=6)
    config.main = "s4"  # the stage that is sampled and saved; "" = the last that trains


def small(folder: Path, steps: int = 2, scenes: int = 2) -> ConfigDict:
    """A few training steps and scenes, two sampling steps."""
    config = get_config("trial")
    judged(config)
    config.data_dir = str(folder / "data")
    config.data.scenes.update(train=8, test=scenes)
    for stage in config.stages.values():
        stage.update(steps=steps, batch_size=2)
        stage.optimizer.warmup = 0
    config.evaluate.update(resamples=50, curve_scenes=scenes)
    config.sampling.options.steps = 2
    config.report.update(scenes=1, failures=1)
    return config


RULES = (LoraRule("blocks/attn/(q|v)", rank=2, stream="condition"),)
FOLLOW = Follow(native=True, stamp=(1.0, 1.0))
COLOURED = Follow(native=True, stamp=(1.0, 1.0), colour="frame")


def backbone(rules: tuple[LoraRule, ...] = RULES, videos: int = 2) -> CogVideoXBackbone:
    """Two blocks on pixels as latents, of 16x16 px and 9 frames."""
    return make_backbone(
        "cogvideox-5b-i2v",
        Geometry(9, (16, 16)),
        dataclasses.asdict(trained.CONFIGS["cogvideox"]) | {"condition_videos": videos},
        False,
        stride=SpaceToDepthConfig().stride_hw,
        predicts="data",
        scan=False,
        remat="none",
        lora=rules,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
    )


def method(
    *,
    draws: int = 1,
    schedule: Schedule = Schedule((Mixture(),)),  # noqa: B008 (frozen)
    follow: Follow = FOLLOW,
    rules: tuple[LoraRule, ...] = RULES,
    videos: int = 2,
    from_clips: bool = False,
) -> Flextraj:
    """The smallest one, built without a config."""
    tokenizer, length = Tokenizer.captions(), trained.CONFIGS["cogvideox"].text_length
    encoder = T5Encoder(
        trained.text_config("cogvideox"), dtype=jnp.float32, param_dtype=jnp.float32
    )
    return Flextraj(
        Controls(follow),
        schedule,
        draws,
        backbone=backbone(rules, videos),
        objective=VPrediction(predicts="data"),
        autoencoder=SpaceToDepth(SpaceToDepthConfig()),
        words=Words(encoder, tokenizer, length, wan=False) if from_clips else None,
    )
