"""FlexTraj: an image and point trajectories become a video that follows them (arXiv:2510.08527).

    python -m tavid_jax.main --config=configs/flextraj.py                  # the demo, in minutes
    python -m tavid_jax.main --config=configs/flextraj.py:ablations        # the paper's tables
    python -m tavid_jax.main --config=configs/flextraj.py --mode=preview   # condition videos first
    python launch/fit.py --config=configs/flextraj.py:paper --topology=v5e:2x4

The presets of published models, and the sources of their numbers, stand in flextraj_presets.py.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import finetune
from configs.common import choose, optimizer, train_stage
from configs.finetune import fields_of
from configs.flextraj_presets import LARGE
from tavid_jax.data.synthetic import toy
from tavid_jax.methods.flextraj.curriculum import Mixture
from tavid_jax.pipelines.follow import Follow


def get_config(preset: str | None = None) -> ConfigDict:
    """A preset: small ones here, those of published models in flextraj_presets.py."""
    presets = {
        "demo": demo,
        "ablations": ablations,
        **{name: functools.partial(large, name) for name in LARGE},
    }
    return choose(presets, preset)


def demo() -> ConfigDict:
    """The packaged base learns to follow points: the paper's curriculum, minutes on 2 CPU cores."""
    config = small("demo")
    config.title = "FlexTraj: objects go where points tell them"
    config.order = add_stages(config, "", CURRICULUM, (200, 500, 600, 400))
    config.main = "unaligned"
    config.evaluate.variants = dict(flextraj=variant("unaligned", "FlexTraj", "FlexTraj"), **BASE)
    config.evaluate.order, config.evaluate.main = ("flextraj", "base"), "flextraj"
    config.evaluate.curve = CURRICULUM
    return config


def ablations() -> ConfigDict:
    """The paper's ablations at toy scale: every row trains for as many steps in all."""
    config = small("ablations")
    config.title = "FlexTraj: what order, injection and codes are good for"
    steps = (120, 200, 240, 160)
    variants: dict[str, tuple[str, Sequence[str], dict[str, Any]]] = {
        "curriculum": ("dense to sparse, as published", CURRICULUM, {}),
        "mixed": ("all tasks from the start", ("mixed",), {}),
        "reversed": ("sparse to dense", CURRICULUM[::-1], {}),
        "residuals": (
            "ControlNet-style injection",
            CURRICULUM,
            dict(control=dict(injection="residuals"), model=dict(lora=())),
        ),
        "no_point": ("without TrajID", CURRICULUM, dict(follow=dict(show_point=False))),
        "no_segment": ("without SegID", CURRICULUM, dict(follow=dict(show_segment=False))),
        "no_colour": ("without colour", CURRICULUM, dict(follow=dict(colour="none"))),
    }
    order: list[str] = []
    config.stages, config.evaluate.variants = dict(), ConfigDict()
    for name, (title, tasks, changes) in variants.items():
        spent = steps if len(tasks) > 1 else (sum(steps),)
        spent = spent[::-1] if tasks == CURRICULUM[::-1] else spent
        order += (mine := add_stages(config, f"{name}_", tasks, spent, changes))
        config.evaluate.variants[name] = variant(mine[-1], title, name.replace("_", " "))
    config.evaluate.variants.update(BASE)
    config.order, config.main = tuple(order), "curriculum_unaligned"
    config.evaluate.order, config.evaluate.main = (*variants, "base"), "curriculum"
    return config


# ---- pieces --------------------------------------------------------------------------------------

# What is given of the tracks of a scene -> its name in tables and over pictures, what is measured,
# and how they are followed.
GRANULARITIES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "dense": ("Dense", "dense", "trajerr", {}),
    "coloured": ("Dense, with colours", "dense, colours", "trajerr", dict(colour="frame")),
    "points_20": ("20 % of the points", "20 % points", "trajerr", dict(keep_points=0.2)),
    "points_5": ("5 % of the points", "5 % points", "trajerr", dict(keep_points=0.05)),
    "frames_3": ("3 of 9 frames", "3 frames", "trajerr", dict(keep_frames=(0, 4, 8))),
    "frames_2": ("First and last frame", "2 frames", "trajerr", dict(keep_frames=0.0)),
    "unaligned": ("Unaligned: another actor", "unaligned", "trajsim", dict(unaligned="scale")),
}
# The four stages of the paper's curriculum, and everything at once.
CURRICULUM = ("dense", "colourless", "sparse", "unaligned")
TASKS = dict(
    dense=dict(colour=1.0),
    colourless=dict(colour=0.3),
    sparse=dict(dense=0.2, spatial=0.4, temporal=0.4, colour=0.2),
    unaligned=dict(dense=0.2, spatial=0.25, temporal=0.25, unaligned=0.3, colour=0.2),
    mixed=dict(dense=0.25, spatial=0.25, temporal=0.25, unaligned=0.25, colour=0.4),
)


# What every table is about, beside what was trained.
BASE = dict(base=dict(stage="", title="the base, without control", short="no control"))


def small(preset: str) -> ConfigDict:
    """The packaged base with condition videos, on scenes whose objects roam freely."""
    config = finetune.tiny_cogvideox()
    config.update(system="flextraj", preset=preset, checkpoint="tiny-cogvideox")
    with_control(config)
    config.text.train = False
    config.learn.text_dropout = 0.0
    # Half of the scenes of unaligned control are steered by another actor, see Clip.partner.
    config.data.scene = fields_of(toy.steered(twins=True))
    config.data.scenes = dict(train=6000, test=200)
    rule = dict(path="blocks/attn/(q|k|v|o)", rank=16, alpha=16, stream="condition")
    config.model.lora = (rule,)
    # Ours: where an object goes is decided under much noise.
    config.model.update(timesteps="logit_normal", logit_mean=1.0)
    # 144 points on 24x24 pixels: codes that differ, drawn without gaps.
    config.follow.update(codes="spread", order="array", stamp=(1.0, 1.0), native=True)
    config.follow.update(choose="each", colour="frame", prefix="")
    config.control.update(points=(0.05, 0.4), regions=0.0, frames=(0.34, 0.34, 0.0))
    config.sampling.options.guidance = 1.0
    config.evaluate.update(judge="none", goals=ConfigDict())  # variants are judged, see below
    config.evaluate.granularities = {
        name: dict(title=title, short=short, measure=measure, follow=dict(colour="none") | follow)
        for name, (title, short, measure, follow) in GRANULARITIES.items()
    }
    config.evaluate.columns = tuple(GRANULARITIES)
    config.report.update(scenes=4, failures=6)
    config.stages = dict()
    return config


def add_stages(
    config: ConfigDict,
    prefix: str,
    tasks: Sequence[str],
    steps: Sequence[int],
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[str, ...]:
    """Adds one stage for each of `tasks`, every one on the result of that before; their names."""
    before: tuple[str, ...] = ()
    changes, names = dict(changes or {}), []
    for task, count in zip(tasks, steps, strict=True):
        options = {**changes, "control": {**TASKS[task], **changes.get("control", {})}}
        config.stages[f"{prefix}{task}"] = train_stage(
            "flextraj",
            init_from=before,
            steps=count,
            batch_size=16,
            optimizer=small_optimizer("model" not in changes),
            checkpoint_every=100,
            options=options,
        )
        before = (f"{prefix}{task}",)
        names += before
    return tuple(names)


def small_optimizer(adapters: bool) -> ConfigDict:
    """Muon for adapters and fusion, which AdamW learns several times more slowly; or for the
    kernels of a side network, whose blocks begin trained."""
    return optimizer(
        name="muon",
        lr=1e-2 if adapters else 3e-3,
        consistent_rms=0.2,
        muon_also=(".*/lora/.*/(a|b)",) if adapters else (),
        muon_steps=4,
        b2=0.95,
        schedule="cosine",
        warmup=20,
        final=0.1,
    )


def variant(stage: str, title: str, short: str) -> ConfigDict:
    """What is judged: a trained stage ("" is the checkpoint as it is), and its names in tables and
    over pictures."""
    return ConfigDict(dict(stage=stage, title=title, short=short))


def with_control(config: ConfigDict) -> None:
    """The nodes that FlexTraj adds to fine-tuning's config, with the released code's values."""
    config.model.changes.condition_videos = 2
    config.follow = dataclasses.asdict(Follow())  # how tracks are drawn, see pipelines.Follow
    config.data.clips.update(points=True, masks="beside")  # of clips; neither is needed
    config.control = dataclasses.asdict(Mixture())  # what is drawn for each example, see Mixture
    config.control.draws = 1  # noisy videos per condition, which walks the blocks once for all
    config.control.schedule = ()  # mixtures by step: dict(step=..., what differs) one after another
    config.control.injection = "stream"  # stream | residuals: a ControlNet-like copy of blocks
    config.control.blocks = 2  # that the copy has
    config.control.spread = False  # its residuals over the whole depth, instead of the first blocks
    config.main = ""  # the stage that is sampled and saved; "" = the last one that trains
    config.evaluate.granularities = ConfigDict()  # name -> title, short, measure, follow
    config.evaluate.columns = ()  # which of them, in order
    config.evaluate.variants = ConfigDict()  # name -> stage (or one per seed), title, short
    config.evaluate.order = ()  # of the variants; () judges nothing
    config.evaluate.curve = ()  # stages of the learning curve
    config.evaluate.curve_scenes = 50  # of the test scenes, for it
    config.evaluate.main = ""  # the variant that the others are compared with


def large(preset: str) -> ConfigDict:
    """A published model at its published size, see configs/flextraj_presets.py."""
    published, change = LARGE[preset]
    config = finetune.common(preset, published)
    config.update(system="flextraj", title=f"FlexTraj on {published}")
    with_control(config)
    config.follow.colour = "frame"
    change(config)
    return config
