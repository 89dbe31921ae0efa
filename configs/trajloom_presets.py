"""TrajLoom at its published size: what differs from the common config, each number with its source.

"released" is the JSON configs of the public code, "paper" arXiv:2603.22606; "ours" stands where
neither tells: the trainer is not public.

    python -m tavid_jax.data magicdata MagicData lists                    # filters, 90/10 split
    python -m tavid_jax.data camera MagicData/videos --captions lists/captions.csv \\
        --out captions.csv
    python -m tavid_jax.main --config=configs/trajloom.py:paper \\
        --config.checkpoint=Wan2.1-T2V-1.3B --config.train_clips=MagicData/videos \\
        --config.data.clips.captions=captions.csv --config.data.clips.selected=lists/train.csv \\
        --config.clips=some_videos                                        # to judge on
"""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from configs.common import compute_stage, encode_stage, optimizer, train_stage

ORDER = ("conditions", "vae", "latents", "flow", "on_policy", "visibility")
# Larger than any video: one clip of each, from its first frame on.
ONLY_THE_FIRST = 1_000_000


def published_size(config: ConfigDict) -> None:
    """81 + 81 frames of 480x832, a track per 32x32 cell (released)."""
    config.data.update(size_hw=(480, 832), stride=32, origin="topleft", frames=81)
    config.model.update(dtype="bfloat16", scan=True, remat="full")  # released: bf16, checkpointing
    config.model.vae.update(
        latent_channels=16, hidden=512, heads=8, mlp_ratio=4.0, pos_embed_dim=64,
        encoder_depth=16, decoder_depth=16,
    )  # fmt: skip
    config.model.flow.update(
        hidden=768, heads=12, depth=16, mlp_ratio=4.0, video_channels=16,
        use_video_cond=True, use_text_cond=True,
    )  # fmt: skip
    config.model.flow.text_dim = 4096  # umT5-XXL
    config.learn.vae.update(beta=5e-5, field="dense")  # released


def paper(config: ConfigDict) -> None:
    """All stages on MagicData, with the encoders of a Wan 2.1 checkpoint."""
    published_size(config)
    config.features = "encoders"
    # paper: the first 162 frames of a clip, at its own rate; the split is made beforehand.
    config.data.clips.update(fps=0.0, hop=ONLY_THE_FIRST, train_hop=ONLY_THE_FIRST, holdout=0.0)
    config.data.clips.regrid = False
    config.data.augment.update(flip=0.0, reverse=0.0, crop=0.0)  # released: none
    config.data.scenes = dict(train=0, test=0)
    config.learn.flow.rollout_share = 0.25  # paper: 8 of 32 clips of a device
    encoded = dict(data="conditions", cached_by=("conditions",), init_from=("conditions",))
    cached = dict(data="latents", cached_by=("latents",), init_from=("latents",))
    rates = dict(weight_decay=0.0, clip=1.0)  # released
    config.stages = dict(
        conditions=encode_stage("conditions", stored="float16"),
        vae=train_stage(
            "vae",
            **encoded,
            steps=200_000,  # ours; released: 4000 epochs, nominally
            batch_size=32,  # released: 4 a process; ours: on 8 chips
            micro_batches=2,  # released: accumulation over 2
            optimizer=optimizer(lr=2e-5, **rates),  # released
            checkpoint_every=1000,
        ),
        latents=compute_stage(
            "latents",
            **encoded | dict(init_from=("conditions", "vae")),
            batch_size=16,
            cache=True,
        ),
        flow=train_stage(
            "flow",
            **cached,
            steps=100_000,  # paper
            batch_size=128,  # paper: 32 on each of 4 GPUs
            micro_batches=2,  # ours: 16 clips are more than a chip of 16 GB holds at once
            optimizer=optimizer(lr=6e-5, **rates),  # released
            checkpoint_every=1000,
        ),
        on_policy=train_stage(
            "flow",
            **cached | dict(init_from=("latents", "flow")),
            seed=1,  # other clips first than the flow's stage
            steps=5000,  # ours
            batch_size=128,
            micro_batches=4,  # ours: the roll-out's states come on top
            optimizer=optimizer(lr=1e-5, **rates),  # ours
            checkpoint_every=500,
            options=dict(learn=dict(flow=dict(on_policy=0.1))),  # paper: small; ours: the number
        ),
        visibility=train_stage(
            "visibility",
            **cached,
            steps=20_000,  # released
            batch_size=32,  # released: 4; ours: on 8 chips
            # released: warm-up 500, cosine to 3e-5
            optimizer=optimizer(
                lr=3e-4, schedule="cosine", warmup=500, final=0.1, weight_decay=0.01, clip=1.0
            ),
            checkpoint_every=1000,
        ),
    )
    config.order = ORDER
    config.variants = dict(
        trajloom=("vae", "latents", "on_policy", "visibility"),
        without_on_policy=("vae", "latents", "flow", "visibility"),
    )
    config.main_variant = "trajloom"


def small(config: ConfigDict) -> None:
    """The same shapes with a quarter of the layers, on synthetic scenes: a first look on one GPU.

    At most 13 GiB by `launch/fit.py --topology=h100:1`; 87 PFLOP in all stages, which a GPU of
    989 TFLOP/s would do in six minutes at a quarter of its peak. Estimates: no GPU has run it yet.

    The scenes are tracks alone, at this size their videos would fill a disk: no video or caption
    is read.
    """
    published_size(config)
    config.model.vae.update(encoder_depth=4, decoder_depth=4)
    config.model.flow.update(depth=4, use_video_cond=False, use_text_cond=False)
    config.learn.vae.update(beta=2e-6, field="cells")  # as in the demo
    # As much motion in a clip as in the demo's 34 frames.
    config.data.scene = dict(render=False, tempo=34 / 162)
    config.data.scenes = dict(train=4000, test=100)
    config.evaluate.update(batch_size=10, samples=2)

    def rates(lr: float, final: float) -> ConfigDict:
        return optimizer(name="adam", lr=lr, schedule="cosine", warmup=30, final=final, b2=0.99)

    cached = dict(data="latents", cached_by=("latents",), init_from=("latents",))
    config.stages = dict(
        vae=train_stage(
            "vae", steps=400, batch_size=8, micro_batches=4, optimizer=rates(5e-4, 0.02)
        ),
        latents=compute_stage("latents", init_from=("vae",), batch_size=16, cache=True),
        flow=train_stage(
            "flow",
            **cached,
            steps=1200,
            batch_size=16,
            micro_batches=4,
            optimizer=rates(5e-4, 0.05),
        ),
        on_policy=train_stage(
            "flow",
            **cached | dict(init_from=("latents", "flow")),
            seed=1,
            steps=100,
            batch_size=16,
            micro_batches=4,
            optimizer=rates(5e-5, 0.0),
            options=dict(learn=dict(flow=dict(on_policy=0.1))),
        ),
        visibility=train_stage(
            "visibility", **cached, steps=400, batch_size=16, optimizer=rates(3e-3, 0.1)
        ),
    )
    config.order = ORDER[1:]
    config.variants = dict(
        trajloom=("vae", "latents", "on_policy", "visibility"),
        without_on_policy=("vae", "latents", "flow", "visibility"),
    )
    config.main_variant = "trajloom"


#: preset -> what it changes
LARGE: dict[str, Callable[[ConfigDict], None]] = {"paper": paper, "small": small}
