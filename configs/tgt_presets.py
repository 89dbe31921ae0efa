"""TGT on published models, at their published sizes: what differs from the common config.

Sources of the numbers: "paper" is arXiv:2510.15104, as far as its summary tells; there is no public
code. It says nothing about lambda in training, batch, warm-up, decay, noise levels and the length
of the dense stage: those are "ours".
"""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from configs.common import encode_stage, optimizer, train_stage

# paper: about 40 trajectories, no Gaussian.
DENSE = dict(laca=dict(gaussian="none"), trajectories=dict(points=40, least=20, most=40))
# paper: at most 5, sigma 1, radius 2 (the common config's).
SPARSE: dict[str, dict] = dict(trajectories=dict(points=5, least=1, most=5))


def wan2_1_14b(config: ConfigDict) -> None:
    """Wan2.1-T2V-14B, 81x480x832 (paper)."""
    published_size(config)
    two_stages(config, batch_size=64)  # ours: one per chip of a v5p:4x4x4


def wan2_1_14b_v5e(config: ConfigDict) -> None:
    """The same on chips of 16 GB: the tokens of a video over eight of them."""
    wan2_1_14b(config)
    config.mesh.context = 8
    for name in ("dense", "sparse"):
        config.stages[name].batch_size = 32  # of a v5e:16x16: one for eight chips


def wan2_1_1_3b(config: ConfigDict) -> None:
    """Wan2.1-T2V-1.3B, 81x480x832: 283 million trained parameters, the affordable one."""
    published_size(config)
    two_stages(config, batch_size=8)  # ours: one per chip of a v5e:2x4


def wan2_2_5b(config: ConfigDict) -> None:
    """Wan2.2-TI2V-5B, 81x480x832, from text alone; a token is 32 pixels wide.

    `--config.model.first_frame=True` trains with a given first frame.
    """
    published_size(config)
    two_stages(config, batch_size=8)  # ours: one per chip of a v5e:2x4


def published_size(config: ConfigDict) -> None:
    """Size, noise levels and sampling."""
    config.data.update(size_hw=(480, 832), frames=81)  # paper: 832x480; about 80 frames
    config.model.shift = 3.0  # ours: Wan's for 480p
    # paper: scales of the dual guidance; Wan's solver.
    config.sampling.options = dict(
        sampler="unipc", steps=50, guidance=5.0, local_guidance=4.0, shift=5.0
    )


def two_stages(config: ConfigDict, batch_size: int) -> None:
    """Dense, then sparse trajectories, drawn from the clips that one stage has encoded."""
    rates = optimizer(lr=1e-5, b2=0.95, weight_decay=0.01, clip=1.0, warmup=500)  # paper: lr
    config.stages, before = dict(encode=encode_stage(stored="float16")), ()
    for name, steps, changes in (("dense", 50_000, DENSE), ("sparse", 200_000, SPARSE)):
        config.stages[name] = train_stage(
            "tgt",
            data="encode",
            cached_by=("encode",),
            init_from=before,
            steps=steps,  # paper: 200k sparse; ours: dense
            batch_size=batch_size,
            optimizer=rates,
            checkpoint_every=500,
            options=changes,
        )
        before = (name,)
    config.order = ("encode", "dense", "sparse")
    config.main = "sparse"


#: preset -> (published backbone, what it changes)
LARGE: dict[str, tuple[str, Callable[[ConfigDict], None]]] = {
    "paper": ("wan2.1-t2v-14b", wan2_1_14b),
    "paper_v5e": ("wan2.1-t2v-14b", wan2_1_14b_v5e),
    "wan2_1_1_3b": ("wan2.1-t2v-1.3b", wan2_1_1_3b),
    "wan2_2_5b": ("wan2.2-ti2v-5b", wan2_2_5b),
}
