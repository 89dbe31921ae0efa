"""WHN ("What Happens Next?"): one picture -> how its points will move. TrajLoom's baseline.

    python -m tavid_jax.main --config=configs/whn.py          # the demo
    python -m tavid_jax.main --config=configs/whn.py:paper --config.train_clips=CLIPS \\
        --config.model.frame.checkpoint=dinov2-small

"published" is the public code and its notebooks, whose configs are not there; "ours" was chosen
here. Released weights are opened by `tavid_jax.methods.whn.released.open_whn`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import (
    base,
    choose,
    compute_stage,
    few_steps,
    optimizer,
    track_data,
    train_stage,
)


def get_config(preset: str | None = None) -> ConfigDict:
    """`demo` (default): minutes on a laptop. `tiny`: seconds. `paper`: Kubric, size L."""
    return choose({"demo": demo, "tiny": tiny, "raw": raw, "paper": paper}, preset)


def demo() -> ConfigDict:
    """1 + 17 frames of 64x64 synthetic scenes, 8x8 points: about three minutes on 2 CPU cores."""
    config = common("demo")
    cached = dict(data="latents", cached_by=("latents",), init_from=("latents",))
    config.stages = dict(
        vae=train_stage(
            "vae",
            steps=300,
            batch_size=8,
            optimizer=_rates(lr=2e-2, final=0.02),
            checkpoint_every=100,
        ),
        latents=compute_stage("latents", init_from=("vae",), batch_size=64, cache=True),
        flow=train_stage(
            "flow",
            **cached,
            steps=600,
            batch_size=8,
            optimizer=_rates(lr=1e-2, final=0.02),
            checkpoint_every=200,
        ),
    )
    config.order = ("vae", "latents", "flow")
    return config


def tiny() -> ConfigDict:
    """The demo's stages, each for a few steps: everything runs, next to nothing is learned."""
    config = demo()
    config.preset = "tiny"
    few_steps(config)
    config.evaluate.samples = 2
    config.report.scenes = 2
    return config


def raw() -> ConfigDict:
    """The demo on tracks themselves, without an autoencoder."""
    config = demo()
    config.preset = "raw"
    config.model.raw = True
    config.model.flow.update(patch=2)
    flow = config.stages.flow
    flow.update(data="train", cached_by=(), init_from=())
    config.stages = dict(flow=flow)
    config.order = ("flow",)
    return config


def paper() -> ConfigDict:
    """Kubric MOVi-A in latents, size L: 24 frames of 256x256, 32x32 points (published)."""
    config = common("paper")
    config.evaluate.history = 1
    config.data.update(size_hw=(256, 256), stride=8, origin="topleft", frames=24)
    config.data.splits = dict(train=ConfigDict(), test=ConfigDict())
    config.data.scenes = dict(train=0, test=0)
    # Clips of MOVi-A have no frame to hold out: give others to judge on (--config.clips).
    config.data.clips.update(fps=0.0, hop=24, train_hop=24, holdout=0.0)
    config.data.augment.update(flip=0.0, reverse=0.0, crop=0.0)
    config.model.update(dtype="bfloat16", scan=True, remat="full")  # published: bf16
    config.model.frame.update(kind="dinov2", model="dinov2-small", image_size=224)
    config.model.vae.update(
        patch=2, latent_channels=8, hidden=384, heads=6, mlp_ratio=4.0, encoder_depth=12,
        decoder_depth=12, fourier_dim=128,
    )  # fmt: skip
    config.model.flow.update(hidden=768, heads=12, depth=16, mlp_ratio=4.0, fourier_dim=128)
    # ours: published is a default of 1, with which latents of std 0.4 to 2.2 would cost more than
    # they are worth; the value behind the weights is not public.
    config.learn.vae.beta = 1e-4
    # published: AdamW of PyTorch, warm-up of 1440 to 2048 steps, then constant
    rates = optimizer(lr=6e-5, warmup=2048, weight_decay=0.01, clip=1.0)
    cached = dict(data="latents", cached_by=("latents",), init_from=("latents",))
    config.stages = dict(
        # ours: the trainer of the autoencoder is not public
        vae=train_stage("vae", steps=200_000, batch_size=32, optimizer=rates),
        latents=compute_stage("latents", init_from=("vae",), batch_size=32, cache=True),
        flow=train_stage("flow", **cached, steps=300_000, batch_size=64, optimizer=rates),  # ours
    )
    config.order = ("vae", "latents", "flow")
    return config


def common(preset: str) -> ConfigDict:
    """Data, models and losses of the toy scale."""
    config = base("whn", preset)
    config.title = "WHN: from one picture to tracks of what follows"
    config.data = track_data(
        frames=18,  # F, with the given picture
        windows=1,
        # The test scenes are those of TrajLoom's demo.
        splits=dict(train=dict(num_frames=18), test=dict(num_frames=34)),
        scenes=dict(train=2000),
    )
    config.model = dict(
        dtype="float32",
        scan=False,  # ours: a few blocks compile and run faster unrolled on a CPU
        remat="none",
        raw=False,  # denoise tracks themselves
        frame=dict(
            kind="cells",  # cells | dinov2 | function
            patch=8,  # of cells, px
            channels=24,  # of cells or of the function
            function="",  # module:function, (H, W, 3) uint8 -> (M, channels)
            tokens_hw=(8, 8),  # of the function
            model="dinov2-small",
            image_size=224,  # that DINOv2 sees; 0 = the picture as it is
            checkpoint="",  # of DINOv2
        ),
        vae=dict(
            patch=2,
            latent_channels=8,
            hidden=64,
            heads=2,
            mlp_ratio=2.0,
            encoder_depth=2,
            decoder_depth=2,
            fourier_dim=32,
        ),
        flow=dict(patch=1, hidden=64, heads=2, depth=4, mlp_ratio=4.0, fourier_dim=32),
    )
    config.learn = dict(
        vae=dict(beta=2e-6, limit=1.5, sample=True),  # ours: beta, as in TrajLoom's demo
        flow=dict(times="logit_normal", limit=1.5),
    )
    config.sampling = dict(
        solver="euler",
        times=10,  # published: 10 times are 9 steps
        samples=1,  # of every clip in --mode=sample
        horizon="extend",  # further than it was trained for: extend | interp | native24
    )
    config.evaluate = dict(
        # Unseen scenes are judged from their first frame, and, as TrajLoom is, from this one: the
        # last of a history. 1 leaves that out.
        history=17,
        samples=3,  # for best and mean of K
        seed=0,
        resamples=2000,  # of the paired bootstrap
    )
    config.report = dict(
        scenes=4,  # unseen scenes shown
        height=192,  # of a picture, px
        fps=8.0,
    )
    return config


def _rates(lr: float, final: float) -> ConfigDict:
    """ours: Muon, as Adam takes several times as long to learn absolute positions by heart."""
    return optimizer(name="muon", lr=lr, schedule="cosine", warmup=30, final=final, b2=0.99)
