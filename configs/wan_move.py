"""Wan-Move: an image and tracks become a video whose image moves along them (arXiv:2512.08765).

    python -m tavid_jax.main --config=configs/wan_move.py:paper \\
        --config.checkpoint=Wan2.1-I2V-14B-480P --config.train_clips=FOLDER
    python launch/fit.py --config=configs/wan_move.py:paper --topology=v5p:4x4x4

The paper tells of the model that it starts from, of its objective, of 32 x 32 tracks of which a
random part is given, and of motion that is dropped for one example in twenty. All else that a
training needs is published nowhere: those numbers are marked "ours".
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import finetune
from configs.common import choose, optimizer, train_stage


def get_config(preset: str | None = None) -> ConfigDict:
    """`paper` (default): Wan2.1-I2V-14B at its published size."""
    return choose({"paper": paper}, preset)


def paper() -> ConfigDict:
    """All weights of Wan2.1-I2V-14B, 81x480x832."""
    config = finetune.common("paper", "wan2.1-i2v-14b")
    config.update(system="wan_move", title="Wan-Move on wan2.1-i2v-14b")
    config.data.update(size_hw=(480, 832), frames=81)
    config.data.clips.points = True
    config.motion = dict(
        dropout=0.05,
        points=(1, 1024),  # of 32 x 32; ours: from 1 on, evenly in the logarithm
        strategy="sample",
    )
    config.model.shift = 3.0  # ours: as it is sampled
    config.model.lora = ()
    config.autoencoder.dtype = "bfloat16"  # ours; encoders run in every step
    config.stages = dict(
        move=train_stage(
            "wan_move",
            data="train",  # tracks are drawn anew, so encoders run in every step
            steps=30000,  # ours: two million clips once
            batch_size=64,  # ours: one per chip of a v5p:4x4x4
            optimizer=optimizer(lr=1e-5, b2=0.95, weight_decay=1e-2, clip=1.0),  # ours
            checkpoint_every=500,
        )
    )
    config.order = ("move",)
    return config
