"""Published models to fine-tune, at their published sizes: what differs from the common config.

Sources of the numbers: "script" is the public low-rank fine-tuning script for CogVideoX
image-to-video that TAViD builds on, "FlexTraj" the released trainer of FlexTraj-Wan (a Wan 2.2
5B). "Ours" marks what was chosen here. Sizes are those that the models are sampled at (Wan 2.2 5B:
by FlexTraj); batches are one video per chip. launch/README.md tells which of them were compiled for
which chips.
"""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

# Joint attention of text and video.
COGVIDEOX_ATTENTION = "blocks/attn/(q|k|v|o)"
# Self- and cross-attention.
WAN_ATTENTION = "blocks/(attn|cross)/(q|k|v|o)"


def wan2_1_1_3b_lora(config: ConfigDict) -> None:
    """Wan2.1-T2V-1.3B, 81x480x832, rank 128 on self- and cross-attention of all 30 blocks."""
    wan(config, size_hw=(480, 832), frames=81)
    adapters(config, WAN_ATTENTION)


def wan2_1_14b_lora(config: ConfigDict) -> None:
    """Wan2.1-T2V-14B, 81x480x832, rank 128 on self- and cross-attention of all 40 blocks."""
    wan(config, size_hw=(480, 832), frames=81)
    adapters(config, WAN_ATTENTION)
    config.stages.finetune.batch_size = 64  # ours: one per chip of a v5p:4x4x4


def wan2_2_5b_lora(config: ConfigDict) -> None:
    """Wan2.2-TI2V-5B, 49x480x832 (FlexTraj), rank 128, from the first frame.

    `--config.model.first_frame=False` trains from text alone.
    """
    wan(config, size_hw=(480, 832), frames=49)
    adapters(config, WAN_ATTENTION)
    config.model.first_frame = True  # FlexTraj; ours: the given frame has no share in the loss


def cogvideox_5b_lora(config: ConfigDict) -> None:
    """CogVideoX-5B text-to-video, 49x480x720, rank 128 on the attention of all 42 blocks."""
    cogvideox(config)
    adapters(config, COGVIDEOX_ATTENTION)


def cogvideox_5b_i2v_lora(config: ConfigDict) -> None:
    """CogVideoX-5B image-to-video, 49x480x720, rank 128 on the attention of all 42 blocks."""
    cogvideox(config)
    adapters(config, COGVIDEOX_ATTENTION)
    config.learn.update(image_noise=True, image_dropout=0.05)  # script


def wan2_1_1_3b_full(config: ConfigDict) -> None:
    """Wan2.1-T2V-1.3B, 81x480x832, all weights."""
    wan(config, size_hw=(480, 832), frames=81)
    everything(config, batch_size=8)


def wan2_2_5b_full(config: ConfigDict) -> None:
    """Wan2.2-TI2V-5B, 49x480x832, all weights, from the first frame."""
    wan2_2_5b_lora(config)
    everything(config, batch_size=16)


def cogvideox_5b_full(config: ConfigDict) -> None:
    """CogVideoX-5B text-to-video, 49x480x720, all weights."""
    cogvideox(config)
    everything(config, batch_size=16)


def cogvideox(config: ConfigDict) -> None:
    """What all trainings of CogVideoX share; all of it from the script."""
    config.data.update(size_hw=(480, 720), frames=49)
    config.learn.posterior = "sample"
    stage = config.stages.finetune
    stage.steps = 3000
    stage.optimizer.update(
        lr=1e-4, b2=0.95, weight_decay=1e-3, schedule="cosine", warmup=400, clip=1.0
    )


def wan(config: ConfigDict, size_hw: tuple[int, int], frames: int) -> None:
    """What all trainings of Wan share."""
    config.data.update(size_hw=size_hw, frames=frames)
    config.model.shift = 5.0  # FlexTraj
    stage = config.stages.finetune
    stage.steps = 3000  # ours
    stage.optimizer.update(lr=1e-4, b2=0.95, weight_decay=1e-2, clip=1.0)  # FlexTraj


def adapters(config: ConfigDict, path: str) -> None:
    """Rank 128 at scale one, as in both sources; TAViD itself trained at alpha 64."""
    config.model.lora = (dict(path=path, rank=128, alpha=128),)
    config.stages.finetune.batch_size = 8  # FlexTraj; ours: one per chip of a v5e:2x4


def everything(config: ConfigDict, batch_size: int) -> None:
    """All weights are trained; ours throughout: neither source does it."""
    config.model.lora = ()
    config.stages.finetune.batch_size = batch_size
    config.stages.finetune.optimizer.lr = 1e-5


#: preset -> (published backbone, what it changes)
LARGE: dict[str, tuple[str, Callable[[ConfigDict], None]]] = {
    "cogvideox_5b_i2v_lora": ("cogvideox-5b-i2v", cogvideox_5b_i2v_lora),
    "wan2_1_1_3b_lora": ("wan2.1-t2v-1.3b", wan2_1_1_3b_lora),
    "wan2_1_14b_lora": ("wan2.1-t2v-14b", wan2_1_14b_lora),
    "wan2_2_5b_lora": ("wan2.2-ti2v-5b", wan2_2_5b_lora),
    "cogvideox_5b_lora": ("cogvideox-5b", cogvideox_5b_lora),
    "wan2_1_1_3b_full": ("wan2.1-t2v-1.3b", wan2_1_1_3b_full),
    "wan2_2_5b_full": ("wan2.2-ti2v-5b", wan2_2_5b_full),
    "cogvideox_5b_full": ("cogvideox-5b", cogvideox_5b_full),
}
