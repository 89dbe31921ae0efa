"""The demo's config with a judge, and runs of it that are smaller still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs.flextraj import get_config

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
