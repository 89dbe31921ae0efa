"""TAViD: an actor interacts with the object that a mask marks (arXiv:2503.18950).

    python -m tavid_jax.main --config=configs/tavid.py                     # the demo, in minutes
    python -m tavid_jax.main --config=configs/tavid.py:ablations           # the paper's tables
    python -m tavid_jax.main --config=configs/tavid.py --mode=preview      # masks and words first
    python launch/fit.py --config=configs/tavid.py:paper --topology=v5e:2x4

The presets of published models, and the sources of their numbers, stand in tavid_presets.py.
"""

from __future__ import annotations

import dataclasses
import functools

from ml_collections import ConfigDict

from configs import finetune
from configs.common import choose, optimizer, train_stage
from configs.finetune import fields_of
from configs.tavid_presets import LARGE
from tavid_jax.data.synthetic import toy
from tavid_jax.methods.tavid.attention import Blocks
from tavid_jax.pipelines.targets import Targets


def get_config(preset: str | None = None) -> ConfigDict:
    """A preset: small ones here, those of published models in tavid_presets.py."""
    presets = {
        "demo": demo,
        "ablations": ablations,
        **{name: functools.partial(large, name) for name in LARGE},
    }
    return choose(presets, preset)


def demo() -> ConfigDict:
    """A mask tells the packaged base which of two look-alikes to touch: minutes on 2 CPU cores.

    Three trainings of the same length: the recipe, the recipe without its loss on attention, and
    fine-tuning on the same clips without mask or loss.
    """
    config = small("demo")
    config.title = "TAViD: a mask tells which of two look-alikes is touched"
    config.stages = dict(
        tavid=target_stage(),
        no_loss=target_stage(attention=dict(weight=0.0)),
        text_only=target_stage(**TEXT_ONLY),
    )
    config.order = ("tavid", "no_loss", "text_only")
    config.evaluate.order = ("plain",)
    config.evaluate.sets = dict(
        plain=dict(
            title="Two look-alikes",
            data="test",
            order=("tavid", "no_loss", "text_only", "modulation", "base"),
            variants=dict(
                tavid=variant("tavid", "TAViD, lambda 0.1", "TAViD"),
                no_loss=variant("no_loss", "without the loss on attention", "no loss"),
                text_only=variant("text_only", "text alone, the same clips", "text alone"),
                modulation=variant(
                    "", "attention modulation, no training", "modulated", modulation=4.0
                ),
                base=variant("", "the base alone", "base"),
            ),
        )
    )
    return config


def ablations() -> ConfigDict:
    """The paper's ablation at toy scale, three seeds each, on plain scenes and on harder ones.

    The harder ones are those in which a loss on attention could matter: targets thinner than a
    patch, more look-alikes, masks that are wrong in a part of their positions, and few clips.
    """
    config = small("ablations")
    config.title = "TAViD: what the loss on attention does"
    sets = {
        "plain": ("Two look-alikes", {}, {}, 4000),
        "thin": ("Targets thinner than a patch", dict(targets=("pillar",)), {}, 4000),
        "crowd": ("Three look-alikes, smaller", dict(lookalikes=(2, 2)), {}, 4000),
        "noisy": ("Masks wrong in 15 % of positions in training", {}, dict(noise=0.15), 4000),
        "few": ("One hundred clips", {}, {}, 100),
    }
    every = {name: {} for name in sets}
    lambdas = {
        "tavid": ("lambda 0.1", {}),
        "no_loss": ("lambda 0", dict(attention=dict(weight=0.0))),
    }
    plain = {
        "lambda_001": ("lambda 0.01", dict(attention=dict(weight=0.01))),
        "lambda_1": ("lambda 1", dict(attention=dict(weight=1.0))),
        "t2v": ("T2V", dict(attention=dict(direction="text_to_video"))),
        "random": ("two random blocks in each step", with_blocks(mode="random", count=2)),
        "uniform": ("all four blocks", with_blocks(mode="uniform", count=4)),
        "text_only": ("text alone, the same clips", TEXT_ONLY),
    }
    every["plain"] = plain
    config.stages, order = dict(), []
    for name, (title, scene, masks, count) in sets.items():
        train, test = f"train_{name}", f"test_{name}"
        config.data.splits[train], config.data.splits[test] = ConfigDict(scene), ConfigDict(scene)
        config.data.scenes[train], config.data.scenes[test] = count, 200
        variants, rows = ConfigDict(), [*lambdas, *every[name]]
        for key, (label, changes) in {**lambdas, **every[name]}.items():
            stages = [f"{name}_{key}" + (f"_seed{seed}" if seed else "") for seed in range(3)]
            for seed, stage in enumerate(stages):
                changed = {**changes, "masks": {**masks, **changes.get("masks", {})}}
                config.stages[stage] = target_stage(160, data=train, seed=seed, **changed)
            order += stages
            variants[key] = variant(tuple(stages), label, label)
            if name == "plain" and key in lambdas:
                config.stages[stages[0]].snapshots = (40, 80, 120)
        for strength in (1.0, 4.0, 16.0) if name == "plain" else ():
            title_of = f"attention modulation of {strength:g}, no training"
            key, short = f"modulation_{strength:g}", f"modulated {strength:g}"
            variants[key] = variant("", title_of, short, modulation=strength)
            rows.append(key)
        config.evaluate.sets[name] = dict(
            title=title, data=test, order=tuple(rows), variants=variants
        )
    config.order, config.main = tuple(order), "plain_tavid"
    config.evaluate.order = tuple(sets)
    config.evaluate.maps = ()
    return config


# ---- pieces --------------------------------------------------------------------------------------

# Changes of a stage that trains on the same clips without their masks.
TEXT_ONLY = dict(attention=dict(weight=0.0), masks=dict(given=False))


def small(preset: str) -> ConfigDict:
    """The packaged base with targets, on scenes whose caption holds the trigger word."""
    config = finetune.tiny_cogvideox()
    config.update(system="tavid", preset=preset, checkpoint="tiny-cogvideox")
    with_targets(config)
    config.targets.sentence = ""  # the captions hold the word
    config.text.train = False
    config.learn.text_dropout = 0.0
    config.data.scene = fields_of(toy.reaching(says_target=1.0))
    config.data.scenes = dict(train=4000, test=200)
    config.model.lora = (dict(path="blocks/attn/(q|k|v|o)", rank=16, alpha=16),)
    config.attention.blocks.chosen = (1, 2)  # of four
    # Ours: which object it will be is decided under much noise. Uniform steps, as published, learn
    # it more slowly.
    config.model.update(timesteps="logit_normal", logit_mean=1.0)
    config.evaluate.update(judge="none", goals=ConfigDict())  # sets are judged, see below
    config.report.update(scenes=6, failures=0)
    return config


def with_blocks(**fields) -> dict:
    return dict(attention=dict(blocks=fields))


def target_stage(steps: int = 300, data: str = "train", seed: int = 0, **changes) -> ConfigDict:
    """One training from the base; `changes` are those of `config.attention`, `masks`, `model`."""
    return train_stage(
        "tavid",
        data=data,
        seed=seed,
        steps=steps,
        batch_size=16,
        optimizer=optimizer(lr=2e-2, b2=0.99, schedule="cosine", warmup=20, final=0.05),
        checkpoint_every=100,
        options=changes,
    )


def variant(stage: str | tuple[str, ...], title: str, short: str, **changes) -> ConfigDict:
    """What is judged: a trained stage, or one for each seed ("" is the checkpoint as it is); its
    name in tables and over pictures; how it is sampled."""
    return ConfigDict(dict(stage=stage, title=title, short=short, modulation=0.0) | changes)


def with_targets(config: ConfigDict) -> None:
    """The nodes that TAViD adds to fine-tuning's config, with the paper's values."""
    targets, blocks = dataclasses.asdict(Targets()), dataclasses.asdict(Blocks())
    config.targets = targets  # which words and objects, see pipelines.Targets
    config.attention = dict(
        weight=0.1,  # lambda, of the loss on attention; 0 = none
        direction="video_to_text",  # video_to_text | text_to_video | both
        norm="none",  # the map: none, attention as it is | text, over the text's keys alone
        blocks=blocks,  # which are led, see methods.tavid.attention.Blocks
    )
    config.masks = dict(
        given=True,  # whether the model has a channel for every target's mask
        patch=True,  # whether the whole patch projection is trained
        dropout=0.0,  # share of examples whose mask is zero
        noise=0.0,  # share of the mask's latent positions that are turned over
    )
    config.main = "tavid"  # the stage that is sampled and saved
    config.data.clips.update(masks="beside", selected="")
    config.sampling.modulation = 0.0  # attention modulation, in logits
    config.evaluate.mapped = 32  # scenes of a set whose attention is looked at
    config.evaluate.maps = ("tavid", "no_loss")  # variants whose maps of attention are drawn
    config.evaluate.main = "tavid"  # the variant that the others are compared with
    config.evaluate.sets = ConfigDict()  # name -> title, data, variants and their order
    config.evaluate.order = ()  # of the sets


def large(preset: str) -> ConfigDict:
    """A published model at its published size, see configs/tavid_presets.py."""
    published, change = LARGE[preset]
    config = finetune.common(preset, published)
    config.update(system="tavid", title=f"TAViD on {published}")
    with_targets(config)
    stage = config.stages.finetune
    config.stages = dict(encode=config.stages.encode, tavid=stage)
    config.stages.tavid.method = "tavid"
    config.order = ("encode", "tavid")
    change(config)
    return config
