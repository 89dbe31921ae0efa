"""TrajLoom: tracks of a video's past -> dense tracks of its future.

    python -m tavid_jax.main --config=configs/trajloom.py             # the demo
    python -m tavid_jax.main --config=configs/trajloom.py:ablations   # the paper's ablations, small
    python -m tavid_jax.main --config=configs/trajloom.py:small       # full size, few layers, a GPU

The published size is in trajloom_presets.py.

Numbers marked "ours" were chosen here, by measurement at this scale; the others are the paper's.
"""

from __future__ import annotations

import functools

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
from configs.trajloom_presets import LARGE
from configs.trajloom_released import released

PUBLISHED = LARGE | {"released": released}


def get_config(preset: str | None = None) -> ConfigDict:
    """`demo` (default): minutes on a laptop. `tiny`: seconds, for a first look and for tests.

    `ablations`: the paper's tables, small. `small`, `paper`: the published size. `released`: the
    authors' checkpoints.
    """
    presets = {"demo": demo, "tiny": tiny, "ablations": ablations}
    large = {name: functools.partial(published, name) for name in PUBLISHED}
    return choose(presets | large, preset)


def published(preset: str) -> ConfigDict:
    """A preset of trajloom_presets.py or trajloom_released.py."""
    config = common(preset)
    PUBLISHED[preset](config)
    return config


def demo() -> ConfigDict:
    """17 + 17 frames of 64x64 synthetic scenes, 8x8 tracks: at most 20 minutes on 2 CPU cores."""
    config = common("demo")
    config.stages = dict(
        vae=vae_stage(steps=320),
        latents=latents_stage(init_from=("vae",)),
        flow=flow_stage(steps=1400),
        on_policy=on_policy_stage(steps=110),
        visibility=visibility_stage(steps=400),
    )
    config.order = ("vae", "latents", "flow", "on_policy", "visibility")
    config.variants = dict(trajloom=("vae", "latents", "on_policy", "visibility"))
    config.main_variant = "trajloom"
    return config


def tiny() -> ConfigDict:
    """The demo's stages, each for a few steps: everything runs, next to nothing is learned."""
    config = demo()
    config.preset = "tiny"
    few_steps(config)
    config.evaluate.update(batch_size=8, samples=2)
    config.stages.latents.min_examples = 0
    config.report.scenes = 2
    return config


def ablations() -> ConfigDict:
    """The paper's Tables 3, 4 and 5 at toy scale: shared stages are trained once."""
    config = common("ablations")
    short = dict(steps=450, checkpoint_every=450)
    no_offsets = dict(model=dict(vae=dict(use_offsets=False)))
    no_smoothness = dict(learn=dict(vae=dict(velocity=0.0, neighbour=0.0)))
    no_anchor = dict(learn=dict(flow=dict(source="noise")))
    no_fusion = dict(model=dict(flow=dict(track_fusion="none")))
    config.stages = dict(
        vae=vae_stage(steps=320),
        vae_no_offsets=vae_stage(steps=320, options=no_offsets),
        vae_no_smoothness=vae_stage(steps=320, options=no_smoothness),
        latents=latents_stage(init_from=("vae",)),
        flow=flow_stage(**short, snapshots=(225,)),
        flow_no_anchor=flow_stage(**short, options=no_anchor),
        flow_no_fusion=flow_stage(**short, options=no_fusion),
        on_policy=on_policy_stage(steps=60),
        # Plain steps in the time that the on-policy steps take: they cost about a third.
        continued=on_policy_stage(steps=175, options=dict(learn=dict(flow=dict(on_policy=0.0)))),
    )
    config.order = (
        "vae",
        "vae_no_offsets",
        "vae_no_smoothness",
        "latents",
        "flow",
        "flow_no_anchor",
        "flow_no_fusion",
        "on_policy",
        "continued",
    )
    config.variants = dict(
        full=("vae", "latents", "on_policy"),
        flow=("vae", "latents", "flow"),
        continued=("vae", "latents", "continued"),
        early=("vae", "latents", "flow@225"),
        no_anchor=("vae", "latents", "flow_no_anchor"),
        no_fusion=("vae", "latents", "flow_no_fusion"),
    )
    config.main_variant = "full"
    # Rows of the tables; the first of each is the full recipe.
    config.ablations = dict(
        vae=(
            ("full", "vae"),
            ("absolute coordinates", "vae_no_offsets"),
            ("no smoothness terms", "vae_no_smoothness"),
        ),
        boundary=(
            ("full", "flow"),
            ("no anchored source", "no_anchor"),
            ("no fusion", "no_fusion"),
        ),
        on_policy=(
            ("with on-policy steps", "full"),
            ("plain steps, equal time", "continued"),
            ("without", "flow"),
            ("early checkpoint", "early"),
        ),
    )
    return config


def common(preset: str) -> ConfigDict:
    """Data, models and losses of the toy scale."""
    config = base("trajloom", preset)
    config.title = "TrajLoom: from past tracks to future tracks"
    config.features = "cells"  # beside tracks: of pixels, or "encoders": video latents and captions
    config.checkpoint = ""  # Wan 2.1, whose encoders make them
    config.any_size = False  # whether encoders of other sizes than the published ones will do
    config.latents = ""  # folder of latents, as TrajLoom publishes them, in the place of a stage
    config.latent_statistics = ""  # JSON of their statistics; "" = from the folder
    config.cache = ""  # examples of a stage of conditions that were made before the run
    config.data = track_data()
    config.model = dict(
        dtype="float32",
        scan=False,  # ours: a few blocks compile and run faster unrolled on a CPU
        remat="none",
        vae=dict(
            latent_channels=8,
            hidden=64,
            heads=2,
            mlp_ratio=2.0,
            encoder_depth=4,
            decoder_depth=4,
            pos_embed_dim=64,
            use_offsets=True,
        ),
        flow=dict(
            hidden=96,
            heads=3,
            depth=6,
            mlp_ratio=4.0,
            use_text_cond=False,
            use_video_cond=True,
            video_channels=8,
            track_fusion="add_last_plus_vel",
        ),
        visibility=dict(hidden=64, depth=3),
    )
    config.learn = dict(
        vae=dict(
            beta=2e-6,  # ours: at this scale the paper's 5e-5 would outweigh reconstruction
            velocity=0.1,
            neighbour=0.2,
            penalty="huber",  # ours
            field="cells",
            sample=True,
        ),
        flow=dict(
            tube_noise=0.05,
            times="mixture",
            small_prob=0.2,
            small_max=0.1,
            source="anchor_first",
            source_std=0.1,
            fix_first=False,
            invisible_weight=0.01,
            text_dropout=0.1,
            statistics="all",
            on_policy=0.0,
            endpoint=0.1,  # ours
            rollout_share=0.5,  # of a batch; the paper rolls out 8 of 32 clips per device
            rollout=dict(  # ours: lost in the paper
                steps=4, t_min=0.02, t_max=0.98, tau=0.05, data_weight=1.0, source_weight=0.25
            ),
        ),
        visibility=dict(segments=("history", "future"), pos_weight=0.0, statistics="all"),
    )
    config.sampling = dict(
        solver="euler",
        steps=10,
        samples=1,
        clamp=True,
        history_visibility="given",
        threshold=0.5,
    )
    config.evaluate = dict(
        batch_size=50,
        samples=5,  # for best and mean of K
        seed=0,
        resamples=2000,  # of the paired bootstrap
    )
    config.report = dict(
        scenes=4,  # unseen scenes shown
        windows=1,  # of every given clip shown
        height=192,  # of a picture, px
        fps=8.0,
    )
    return config


def vae_stage(**changes) -> ConfigDict:
    """8 clips are 16 windows: every clip's history and future."""
    settings = dict(
        steps=320,
        batch_size=8,
        optimizer=optimizer(
            name="adam", lr=2e-3, schedule="cosine", warmup=30, final=0.02, b2=0.99
        ),
        checkpoint_every=100,
    )
    return train_stage("vae", **settings | changes)


def latents_stage(**changes) -> ConfigDict:
    return compute_stage("latents", **dict(batch_size=64, cache=True, min_examples=4000) | changes)


def flow_stage(**changes) -> ConfigDict:
    """From the latents' cache; the cosine ends where the on-policy stage goes on."""
    settings = dict(
        steps=1400,
        batch_size=16,
        data="latents",
        cached_by=("latents",),
        init_from=("latents",),
        optimizer=optimizer(
            name="adam", lr=2e-3, schedule="cosine", warmup=30, final=0.05, b2=0.99
        ),
        checkpoint_every=200,
    )
    return train_stage("flow", **settings | changes)


def on_policy_stage(**changes) -> ConfigDict:
    """The tail of the flow's training, with the on-policy terms added."""
    settings = dict(
        steps=110,
        seed=1,  # other clips first than the flow's stage
        init_from=("latents", "flow"),
        optimizer=optimizer(name="adam", lr=2e-4, schedule="cosine", warmup=10, final=0.0, b2=0.99),
        options=dict(learn=dict(flow=dict(on_policy=0.1))),
    )
    return flow_stage(**settings | changes)


def visibility_stage(**changes) -> ConfigDict:
    settings = dict(
        steps=400,
        batch_size=16,
        data="latents",
        cached_by=("latents",),
        init_from=("latents",),
        optimizer=optimizer(lr=3e-3, schedule="cosine", warmup=20, final=0.1, weight_decay=0.01),
        checkpoint_every=200,
    )
    return train_stage("visibility", **settings | changes)
