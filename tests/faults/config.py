"""The run that faults are done to: TrajLoom's tiny preset, with next to nothing to judge.

python -m tavid_jax.main --config=tests/faults/config.py          # synthetic scenes
python -m tavid_jax.main --config=tests/faults/config.py:clips --config.train_clips=FOLDER
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import trajloom
from configs.common import choose

STEPS = 6
SAVE_EVERY = 2


def get_config(preset: str | None = None) -> ConfigDict:
    """`scenes` (default), or `clips`: a folder of videos, of which nothing is held out."""
    return choose({"scenes": scenes, "clips": clips}, preset)


def scenes() -> ConfigDict:
    """Two stages of six steps, and between them a pass over the data that leaves a cache."""
    config = trajloom.tiny()
    config.preset = "faults"
    config.data.scenes = dict(train=48, test=4)
    config.order = ("vae", "latents", "flow")
    config.stages = {name: config.stages[name] for name in config.order}
    config.variants = dict(trajloom=config.order)
    config.model.vae.update(hidden=32, encoder_depth=2, decoder_depth=2)
    config.model.flow.update(hidden=24, heads=2, depth=2)
    for stage in config.stages.values():
        if stage.kind == "train":
            stage.steps, stage.checkpoint_every, stage.log_every = STEPS, SAVE_EVERY, 1
    config.evaluate.update(batch_size=4, samples=1, resamples=100)
    config.sampling.steps = 2
    config.report.scenes = 1
    return config


def clips() -> ConfigDict:
    """Small windows, so that a few short videos are a data set."""
    config = scenes()
    config.data.clips.update(holdout=0.0, train_hop=8)
    return config
