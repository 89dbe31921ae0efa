"""TAViD on published models, at their published sizes: what differs from the common config.

Sources of the numbers: "paper" is arXiv:2503.18950 (2,000 steps, AdamW 1e-4, batch 4, rank 128,
alpha 64, lambda 0.1, blocks 5, 8, ..., 23), "release" the released inference code, "script" the
public low-rank fine-tuning script for CogVideoX image-to-video that the release builds on. "Ours"
marks what was chosen here: the authors never trained on Wan.
"""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from configs.common import optimizer
from configs.finetune_presets import COGVIDEOX_ATTENTION, WAN_ATTENTION


def paper(config: ConfigDict) -> None:
    """CogVideoX-5B-I2V, 49x480x720, as published."""
    published_recipe(config, COGVIDEOX_ATTENTION)
    config.data.update(size_hw=(480, 720), frames=49)
    config.learn.update(posterior="sample", image_noise=True, image_dropout=0.05)  # script
    # release: the DPM sampler in 50 steps, guidance 6 that varies with the timestep.
    config.sampling.options = dict(sampler="dpm", steps=50, guidance=6.0, dynamic="timestep")


def wan2_1_14b(config: ConfigDict) -> None:
    """Wan2.1-I2V-14B, 81x480x832: the map is a row of cross-attention, over the text alone."""
    published_recipe(config, WAN_ATTENTION)
    config.data.update(size_hw=(480, 832), frames=81)
    # Of 40 blocks, at about the depth that 5 to 23 have of 42.
    config.attention.blocks.chosen = (5, 8, 11, 14, 17, 20, 22)
    config.stages.tavid.batch_size = 64  # ours: one per chip of a v5p:4x4x4


def wan2_2_5b(config: ConfigDict) -> None:
    """Wan2.2-TI2V-5B, 49x480x832, the first frame given as a clean latent frame."""
    published_recipe(config, WAN_ATTENTION)
    config.data.update(size_hw=(480, 832), frames=49)
    config.model.first_frame = True
    config.attention.blocks.chosen = (4, 6, 8, 10, 12, 14, 16)  # of 30, likewise
    config.stages.tavid.batch_size = 8  # ours: one per chip of a v5e:2x4


def no_mask(config: ConfigDict) -> None:
    """Baseline: CogVideoX-5B-I2V fine-tuned on the same clips, without masks or their loss."""
    paper(config)
    config.masks.update(given=False, patch=False)
    config.attention.weight = 0.0


def backbone(config: ConfigDict) -> None:
    """Baseline: CogVideoX-5B-I2V as it is; the text alone names the target. Nothing is trained."""
    no_mask(config)
    config.order = ()


def modulation(config: ConfigDict) -> None:
    """Baseline: CogVideoX-5B-I2V with its attention led to the mask, without any training."""
    backbone(config)
    config.sampling.modulation = 4.0  # ours: e^4 times the weight, before the softmax is normalised


def published_recipe(config: ConfigDict, projections: str) -> None:
    """What the paper trains: adapters of rank 128 at half strength, and the patch projection."""
    config.model.lora = (dict(path=projections, rank=128, alpha=64),)
    config.stages.tavid.update(
        steps=2000,
        batch_size=4,
        # script: betas, weight decay, clipping, and the schedule of its launch file.
        optimizer=optimizer(
            lr=1e-4, b1=0.9, b2=0.95, weight_decay=1e-3, clip=1.0, schedule="cosine", warmup=400
        ),
    )


LARGE: dict[str, tuple[str, Callable[[ConfigDict], None]]] = {
    "paper": ("cogvideox-5b-i2v", paper),
    "no_mask": ("cogvideox-5b-i2v", no_mask),
    "backbone": ("cogvideox-5b-i2v", backbone),
    "modulation": ("cogvideox-5b-i2v", modulation),
    "wan2_1_14b": ("wan2.1-i2v-14b", wan2_1_14b),
    "wan2_2_5b": ("wan2.2-ti2v-5b", wan2_2_5b),
}
