"""FlexTraj on published models, at their published sizes: what differs from the common config.

Sources of the numbers: "trainer" is the released trainer of each backbone, "paper" is
arXiv:2510.08527. The trainers draw the tasks of a run by flags; the lengths of its stages, the
weights of their tasks and the rate of the last one are published nowhere: those are "ours".
"""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from configs.common import optimizer, train_stage

# Adapters that act on condition tokens alone (trainer).
COGVIDEOX_RULE = dict(path="blocks/attn/(q|k|v|o)", rank=64, alpha=64, stream="condition")
# Keys and values of the text are the same for both streams.
WAN_RULE = dict(path="blocks/(attn/(q|k|v|o)|cross/(q|o))", rank=128, alpha=128, stream="condition")


def paper(config: ConfigDict) -> None:
    """CogVideoX-5B-I2V, 49x480x720."""
    config.data.update(size_hw=(480, 720), frames=49)
    config.model.lora = (COGVIDEOX_RULE,)
    # Ours: two streams of 17,550 tokens and the encoders need the room, for a fifth more work.
    config.model.remat = "groups=6"
    # trainer: latents drawn from posteriors, a blurred first frame that is left out at times.
    config.learn.update(posterior="sample", image_noise=True, image_dropout=0.05)
    # trainer: its Adam adds the decay to the gradient (1e-4); ours takes it off the weights.
    curriculum(config, optimizer(lr=1e-4, b2=0.95, weight_decay=1e-4, clip=1.0))
    config.sampling.options = dict(sampler="dpm", steps=50, guidance=6.0, dynamic="timestep")


def wan2_2_5b(config: ConfigDict) -> None:
    """Wan2.2-TI2V-5B, 49x480x832, the first frame given as a clean latent frame."""
    config.data.update(size_hw=(480, 832), frames=49)
    config.model.lora = (WAN_RULE,)
    config.model.update(first_frame=True, weighting="bell")  # trainer; the given frame has no loss
    curriculum(config, optimizer(lr=1e-4, b2=0.95, weight_decay=0.01, clip=1.0))
    config.sampling.options = dict(sampler="euler", steps=50, guidance=5.0, shift=5.0)


def curriculum(config: ConfigDict, opt: ConfigDict) -> None:
    """The paper's four stages: dense with colours, without, sparse, unaligned."""
    lower = ConfigDict(opt.to_dict())
    lower.lr = 2e-5  # paper: lower; ours: how much
    stages = {  # steps and weights: ours
        "dense": (2000, opt, dict(colour=1.0)),
        "colourless": (2000, opt, dict(colour=0.5)),
        "sparse": (6000, opt, dict(dense=0.2, spatial=0.4, temporal=0.4)),
        "unaligned": (
            2000,
            lower,
            dict(dense=0.15, spatial=0.25, temporal=0.25, unaligned=0.35),
        ),
    }
    config.autoencoder.dtype = "bfloat16"  # trainer; encoders run in every step
    config.stages, before = dict(), ()
    for name, (steps, rates, control) in stages.items():
        config.stages[name] = train_stage(
            "flextraj",
            data="train",  # condition videos are drawn anew, so encoders run in every step
            init_from=before,
            steps=steps,
            batch_size=8,  # ours: one per chip of a v5e:2x4; trainer: 4 per GPU (CogVideoX), 8
            optimizer=rates,
            checkpoint_every=500,
            options=dict(control=control),
        )
        before = (name,)
    config.order = tuple(stages)


#: preset -> (published backbone, what it changes)
LARGE: dict[str, tuple[str, Callable[[ConfigDict], None]]] = {
    "paper": ("cogvideox-5b-i2v", paper),
    "wan2_2_5b": ("wan2.2-ti2v-5b", wan2_2_5b),
}
