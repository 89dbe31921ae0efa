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
        "trial": trial,
        **{name: functools.partial(large, name) for name in LARGE},
    }
    return choose(presets, preset)


def trial() -> ConfigDict:
    config = small("trial")
    config.stages = dict(
        s1=steered_stage(200, control=dict(dense=1.0, colour=1.0)),
        s2=steered_stage(400, control=dict(dense=1.0, colour=0.3), init_from=("s1",)),
        s3=steered_stage(
            400, control=dict(dense=0.2, spatial=0.4, temporal=0.4, colour=0.2), init_from=("s2",)
        ),
        s4=steered_stage(
            300,
            control=dict(dense=0.2, spatial=0.25, temporal=0.25, unaligned=0.3, colour=0.2),
            init_from=("s3",),
        ),
    )
    config.order = ("s1", "s2", "s3", "s4")
    return config


def demo() -> ConfigDict:
    return trial()


def small(preset: str) -> ConfigDict:
    """The packaged base with condition videos, on scenes whose objects roam freely."""
    config = finetune.tiny_cogvideox()
    config.update(system="flextraj", preset=preset, checkpoint="tiny-cogvideox")
    with_control(config)
    config.text.train = False
    config.learn.text_dropout = 0.0
    config.data.scene = fields_of(toy.steered(twins=True))
    config.data.scenes = dict(train=6000, test=200)
    config.model.lora = (dict(path="blocks/attn/(q|k|v|o)", rank=16, alpha=16, stream="condition"),)
    config.follow.update(
        codes="spread", order="array", stamp=(1.0, 1.0), native=True, colour="frame", prefix=""
    )
    config.control.update(points=(0.03, 0.3))
    config.model.update(timesteps="logit_normal", logit_mean=1.0)
    config.evaluate.update(judge="none", goals=ConfigDict())
    return config


def steered_stage(
    steps: int, data: str = "train", seed: int = 0, init_from=(), **changes
) -> ConfigDict:
    return train_stage(
        "flextraj",
        data=data,
        init_from=init_from,
        seed=seed,
        steps=steps,
        batch_size=16,
        optimizer=optimizer(
            name="muon",
            lr=1e-2,
            consistent_rms=0.2,
            muon_also=(".*/lora/.*/(a|b)",),
            muon_steps=4,
            b2=0.95,
            schedule="cosine",
            warmup=20,
            final=0.1,
        ),
        checkpoint_every=100,
        options=changes,
    )


def with_control(config: ConfigDict) -> None:
    """The nodes that FlexTraj adds to fine-tuning's config, with the released code's values."""
    config.model.changes.condition_videos = 2
    config.follow = dataclasses.asdict(Follow())
    config.control = dataclasses.asdict(Mixture())
    config.control.draws = 1
    config.control.schedule = ()


def large(preset: str) -> ConfigDict:
    """A published model at its published size, see configs/flextraj_presets.py."""
    published, change = LARGE[preset]
    config = finetune.common(preset, published)
    config.update(system="flextraj", title=f"FlexTraj on {published}")
    with_control(config)
    config.follow.colour = "frame"
    change(config)
    return config
