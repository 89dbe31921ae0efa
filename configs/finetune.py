"""Fine-tuning of a published video model with low-rank adapters.

    python launch/fit.py --config=configs/finetune.py --topology=v5e:2x4
    python launch/fit.py --config=configs/finetune.py:wan2_1_14b_lora --topology=v5p:4x4x4
    python launch/fit.py --config=configs/finetune.py:wan2_1_14b_lora --topology=v5e:8x8 \
        --config.mesh.context=4 --batch_per_chip=1

Numbers of CogVideoX are those of the public image-to-video fine-tuning script that TAViD builds
on; those of Wan are the released FlexTraj-Wan trainer's. "Ours" marks what was chosen here.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import base, choose, compute_stage, optimizer, train_stage

ATTENTION = "blocks/attn/(q|k|v|o)"


def get_config(preset: str | None = None) -> ConfigDict:
    """`cogvideox_5b_i2v_lora` (default): 49x480x720. `wan2_1_14b_lora`: 81x480x832."""
    presets = {
        "cogvideox_5b_i2v_lora": cogvideox_5b_i2v_lora,
        "wan2_1_14b_lora": wan2_1_14b_lora,
    }
    return choose(presets, preset)


def cogvideox_5b_i2v_lora() -> ConfigDict:
    """CogVideoX-5B image-to-video, rank 128 on the attention of all 42 blocks."""
    config = common("cogvideox_5b_i2v_lora", "cogvideox-5b-i2v")
    config.data = dict(size_hw=(480, 720), frames=49)
    config.model.lora = (dict(path=ATTENTION, rank=128, alpha=128),)
    config.stages.finetune.optimizer.update(b2=0.95, weight_decay=1e-3, warmup=400)
    config.stages.finetune.optimizer.schedule = "cosine"
    return config


def wan2_1_14b_lora() -> ConfigDict:
    """Wan2.1-T2V-14B, rank 128 on self- and cross-attention of all 40 blocks."""
    config = common("wan2_1_14b_lora", "wan2.1-t2v-14b")
    config.data = dict(size_hw=(480, 832), frames=81)
    config.model.lora = (dict(path="blocks/(attn|cross)/(q|k|v|o)", rank=128, alpha=128),)
    config.stages.finetune.batch_size = 64  # ours: one per chip of a v5p:4x4x4
    config.stages.finetune.optimizer.update(b2=0.95, weight_decay=1e-2)
    return config


def common(preset: str, backbone: str) -> ConfigDict:
    """Everything but the sizes."""
    config = base("finetune", preset)
    config.title = f"Fine-tuning of {backbone}"
    config.clips = ""
    config.train_clips = ""
    config.model = dict(
        backbone=backbone,
        changes=ConfigDict(),  # fields of the published config to replace
        lora=(),  # rules; none trains all weights
        shift=5.0,  # of Wan's noise levels
        levels=(0.0, 1.0),  # lowest and highest of them, after the shift: for one expert of two
        first_frame=False,  # Wan: whether the first latent frame is given, clean (2.2 TI2V)
        dtype="bfloat16",
        scan=True,
        remat="full",
        attention="auto",
    )
    config.autoencoder = dict(dtype="float32", tiles=False)
    config.stages = dict(
        encode=compute_stage("encode", cache=True),  # videos and captions -> latents and features
        finetune=train_stage(
            "finetune",
            data="encode",
            cached_by=("encode",),
            steps=3000,
            batch_size=8,  # ours: one per chip of a v5e:2x4
            optimizer=optimizer(lr=1e-4, b1=0.9),
            checkpoint_every=200,
        ),
    )
    config.order = ("encode", "finetune")
    return config
