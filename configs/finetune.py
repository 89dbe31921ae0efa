"""Fine-tuning of text- and image-to-video models, and two tiny models trained from nothing.

    python -m tavid_jax.main --config=configs/finetune.py                     # the demo, in minutes
    python -m tavid_jax.main --config=configs/finetune.py:tiny_wan            # a base from nothing
    python launch/fit.py --config=configs/finetune.py:wan2_1_14b_lora --topology=v5p:4x4x4

The presets of published models, and the sources of their numbers, stand in finetune_presets.py.
"""

from __future__ import annotations

import dataclasses
import functools

from ml_collections import ConfigDict

from configs.common import base, choose, encode_stage, optimizer, train_stage
from configs.finetune_presets import LARGE
from tavid_jax.data.synthetic import toy
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.models.layers.space_to_depth import SpaceToDepthConfig

# Of the tiny models' latents.
CHANNELS = SpaceToDepthConfig().latent_channels
# Text positions for five objects, "a red disc and a pink hoop and ...", and padding.
CROWD_LENGTH = 22


def get_config(preset: str | None = None) -> ConfigDict:
    """A preset: tiny ones here, those of published models in finetune_presets.py."""
    presets = {
        "demo": demo,
        **{name: functools.partial(large, name) for name in LARGE},
        "tiny_wan": tiny_wan,
        "tiny_cogvideox": tiny_cogvideox,
        "tiny_wan_crowd": tiny_wan_crowd,
    }
    return choose(presets, preset)


def demo() -> ConfigDict:
    """A colour that the packaged base never saw, learned by adapters: minutes on 2 CPU cores."""
    config = tiny_wan()
    config.preset = "demo"
    config.title = f"Low-rank adapters teach a tiny Wan the colour {toy.NEW_COLOUR}"
    config.checkpoint = "tiny-wan"
    config.text.train = False
    path = "blocks/((attn|cross)/(q|k|v|o)|mlp/fc[12])"
    config.model.lora = (dict(path=path, rank=16, alpha=16),)
    # Old colours keep what the base knows.
    new, mixed = (toy.NEW_COLOUR,), (toy.NEW_COLOUR, *toy.COLOURS[:3])
    alone = dict(colours=new, counts=(1.0,), max_objects=1)
    config.data.splits = dict(
        train=fields_of(toy.moving_objects("seen", colours=mixed)),
        test=fields_of(toy.moving_objects("unseen", **alone)),
    )
    config.data.scenes = dict(train=6400, test=200)
    config.evaluate.title = "Unseen captions of the new colour"
    old = fields_of(toy.moving_objects("unseen"))
    config.evaluate.beside = dict(old=dict(title="Captions of old colours", scenes=200, scene=old))
    config.evaluate.goals = dict(one=dict(colour=0.95))
    config.stages = dict(
        finetune=train_stage(
            "finetune",
            steps=400,
            batch_size=16,
            optimizer=optimizer(lr=2e-3, b2=0.99, schedule="cosine", warmup=20, final=0.05),
            checkpoint_every=100,
        )
    )
    return config


def tiny_wan() -> ConfigDict:
    """Text-to-video from nothing on 24x24 scenes of one or two moving objects.

    1.7 million parameters, pixels folded into channels, the clean video predicted. Ours throughout.
    """
    config = common("tiny_wan", "wan2.1-t2v-1.3b")
    config.title = "A tiny text-to-video Wan, trained from nothing"
    config.data.splits = dict(
        train=fields_of(toy.moving_objects("seen")), test=fields_of(toy.moving_objects("unseen"))
    )
    config.data.scenes = dict(train=30000, test=200)
    judged_objects(config)
    small_model(config)
    config.model.changes.update(
        num_heads=4,
        head_dim=32,
        ffn_dim=512,
        num_layers=4,
        freq_dim=64,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
    )
    config.model.shift = 4.0
    config.sampling.options = dict(sampler="euler", steps=12, guidance=3.5)
    return config


def tiny_wan_crowd() -> ConfigDict:
    """The tiny Wan, trained on to draw up to five small objects at once; of their ways no caption
    tells. TGT's ablations begin with it. Ours throughout."""
    config = tiny_wan()
    config.preset = "tiny_wan_crowd"
    config.title = "A tiny text-to-video Wan learns to draw up to five objects"
    config.checkpoint = "tiny-wan"
    config.model.changes.text_length = CROWD_LENGTH
    counts = (0.1, 0.15, 0.25, 0.25, 0.25)
    scene = fields_of(toy.crowd(size_hw=(toy.SIZE, toy.SIZE), counts=counts))
    config.data.splits = dict(train=scene, test=scene)
    # Many objects take many steps to get their own colours each; what else there is, is known.
    config.evaluate.title = "Unseen scenes"
    config.evaluate.beside, config.evaluate.goals = ConfigDict(), ConfigDict()
    config.stages = dict(finetune=small_stage(steps=5000))
    return config


def tiny_cogvideox() -> ConfigDict:
    """Image-to-video from nothing: an actor goes to one of two look-alikes. Ours throughout."""
    config = common("tiny_cogvideox", "cogvideox-5b-i2v")
    config.title = "A tiny image-to-video CogVideoX, trained from nothing"
    config.data.scene = fields_of(toy.reaching())
    config.data.scenes = dict(train=20000, test=200)
    # Neither image nor caption tells the two boxes apart; 8/255 is a PSNR of 30 dB.
    goals = dict(touched=0.8, balance=(0.4, 0.6), first_frame=(0.0, 8.0))
    config.evaluate.update(judge="contact", goals=dict(all=goals))
    small_model(config)
    config.model.changes.update(
        num_heads=3,
        head_dim=32,
        num_layers=4,
        time_embed_dim=96,
        in_channels=2 * CHANNELS,
        out_channels=CHANNELS,
        sample_hw=(12, 12),
        sample_frames=9,
    )
    config.sampling.options = dict(sampler="ddim", steps=12, guidance=3.5, posterior="mode")
    return config


def judged_objects(config: ConfigDict) -> None:
    """Captions that never occur in training, and beside them as many of those that do."""
    seen = fields_of(toy.moving_objects("seen", unsaid=0.0))
    config.evaluate.update(
        judge="objects",
        title="Unseen captions",
        beside=dict(seen=dict(title="Seen captions", scenes=200, scene=seen)),
        # Two objects learn colours first; their motion and silhouettes are measured beside.
        goals=dict(one=dict(colour=0.95, motion=0.8, shape=0.8), two=dict(colour=0.9)),
    )


def fields_of(scene: SceneConfig) -> ConfigDict:
    """What a distribution of scenes has of its own."""
    plain = dataclasses.asdict(SceneConfig())
    own = dataclasses.asdict(scene)
    return ConfigDict({name: own[name] for name in own if own[name] != plain[name]})


def small_model(config: ConfigDict) -> None:
    """What the tiny models share: pixels as latents, a text encoder that learns too, one stage."""
    config.data.update(size_hw=(toy.SIZE, toy.SIZE), frames=toy.NUM_FRAMES)
    config.model.update(predicts="data", stratified=True, dtype="float32")
    config.model.update(scan=False, remat="none")
    config.model.changes.update(text_dim=128, text_length=12)
    config.autoencoder.name = "space-to-depth"
    config.text.train = True
    config.text.changes.update(
        vocab_size=256, dim=128, num_heads=4, head_dim=32, ffn_dim=256, num_layers=2
    )
    config.learn.text_dropout = 0.1
    config.sampling.stored = "float16"
    config.stages = dict(finetune=small_stage(steps=8000))
    config.order = ("finetune",)


def small_stage(steps: int) -> ConfigDict:
    return train_stage(
        "finetune",
        steps=steps,
        batch_size=16,
        optimizer=optimizer(
            name="muon",
            lr=3e-3,
            schedule="trapezoid",
            warmup=100,
            final=0.02,
            b2=0.95,
            weight_decay=0.01,
            consistent_rms=0.2,
            muon_steps=4,
        ),
        log_every=20,
        checkpoint_every=1000,
    )


def large(preset: str) -> ConfigDict:
    """A published model at its published size, see configs/finetune_presets.py."""
    backbone, change = LARGE[preset]
    config = common(preset, backbone)
    change(config)
    return config


def common(preset: str, backbone: str) -> ConfigDict:
    """Everything but the sizes."""
    config = base("finetune", preset)
    config.title = f"Fine-tuning of {backbone}"
    config.checkpoint = ""  # folder of the published model, "hf:owner/name", or a packaged base
    config.cache = ""  # folder that `python -m tavid_jax.pipelines.encode` made of them
    config.data = dict(
        size_hw=(0, 0),
        frames=0,
        windows=1,  # of so many frames in a clip
        scene=ConfigDict(),  # of synthetic scenes: fields of SceneConfig
        splits=dict(train=ConfigDict(), test=ConfigDict()),  # the same, of one split
        scenes=dict(train=0, test=0),
        clips=dict(
            fps=0.0,  # frame rate that clips are read at; 0 = their own
            hop=0,  # frames between windows of a clip; 0 = windows do not overlap
            train_hop=0,
            holdout=0.0,  # of every training clip's frames, for judging
            captions="",  # CSV with columns videoid, text
            spare_captions=False,  # whether captions may name videos that are not there
            tracks="",  # folder of track files; "" = beside the videos
            tracks_size_hw=(),  # frame size that they refer to, if they do not say it; () = usual
            points=False,  # whether tracks are any points, as their files have them: data/points.py
            masks="",  # "" = none | beside (the videos) | a folder
            selected="",  # list of the clips that are read; "" = all
            pairs="",  # what in names tells the action, for partners, e.g. ani_(\d+): data/pairs.py
        ),
        folders=ConfigDict(),  # name -> paths, and what differs from `clips`: sets of their own
        mixtures=ConfigDict(),  # name -> weights of several sets, which are one then
        augment=dict(flip=0.0, reverse=0.0, crop=0.0),  # captions may name directions
        threads=2,
        workers=0,
    )
    config.model = dict(
        backbone=backbone,
        changes=ConfigDict(),  # fields of the published config to replace
        lora=(),  # rules; none trains all weights
        predicts="velocity",  # what the network's output is: velocity | data (the clean latent)
        # Factor of the squared error by the noise level: none | low_noise (data prediction alone) |
        # sigma_sqrt | cosmap | bell, see diffusion/weighting.py; CogVideoX has the first three.
        weighting="none",
        # Which noise levels are trained, see diffusion/levels.py.
        timesteps="uniform",  # uniform | logit_normal | mode | cosmap
        logit_mean=0.0,  # of logit_normal: above 0 prefers noise
        logit_std=1.0,
        mode_scale=1.29,  # of mode: -1 (the ends) to 1.75 (the middle), 0 = uniform
        stratified=False,  # whether the levels of a (micro-)batch are spread evenly
        shift=5.0,  # of Wan's noise levels, after that: above 1 towards noise
        levels=(0.0, 1.0),  # lowest and highest of them, after the shift: for one expert of two
        expert="",  # of a checkpoint with two (A14B): high_noise | low_noise
        first_frame=False,  # Wan: whether the first latent frame is given, clean (2.2 TI2V)
        dtype="bfloat16",
        scan=True,
        remat="full",
        attention="auto",
    )
    config.text = dict(
        changes=ConfigDict(),  # fields of the text encoder's published config to replace
        train=False,  # whether it learns with the backbone
    )
    config.image = dict(changes=ConfigDict())  # the same of Wan 2.1 image-to-video's image tower
    config.autoencoder = dict(
        name="",  # "" = the backbone's; "space-to-depth" = pixels as they are
        changes=ConfigDict(),
        dtype="float32",
        tiles=False,
    )
    config.learn = dict(
        text_dropout=0.0,  # share of examples with the empty caption
        image_dropout=0.0,  # CogVideoX image-to-video: share without their image
        image_noise=False,  # and whether the image is blurred by noise of random strength
        posterior="mode",  # how clips become latents: mode | sample | moments (drawn every step)
    )
    config.sampling = dict(
        prompts="",  # texts with semicolons between, one video each; "" = see jobs
        jobs="",  # file of JSON lines, one video each; "" = the captions of clips or test scenes
        videos=8,  # at most, of the latter
        batch_size=8,  # videos made at once
        format="webp",  # of the files: webp | mp4 | gif
        options=ConfigDict(),  # fields of pipelines.Sampling that differ from the published ones
        stored="",  # type of the weights on disk: float32 | bfloat16 | float16; "" = model.dtype
    )
    config.evaluate = dict(
        judge="none",  # of synthetic scenes: objects | contact; none shows clips and judges nothing
        batch_size=50,  # videos made at once
        seed=0,  # of the first scene; the others count on from it
        resamples=2000,  # of the bootstrap
        title="Unseen scenes",  # what the report calls the test scenes
        beside=ConfigDict(),  # further scenes: name -> title, scenes, scene (fields of SceneConfig)
        goals=ConfigDict(),  # one | two | all (objects) -> name -> least share, or (least, most)
    )
    config.report = dict(
        scenes=8,  # shown side by side with their true clips
        sheet=48,  # shown together
        failures=8,
        height=144,  # px that pictures have at least; small ones grow by whole pixels
        fps=0.0,  # 0 = the clips'
    )
    config.stages = dict(
        encode=encode_stage(),  # videos and captions -> latents and features
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
