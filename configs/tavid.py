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
    config.main = "tavid"
    config.evaluate.sets = dict(
        plain=dict(
            title="Two look-alikes",
            data="test",
            variants=dict(
                tavid=variant("tavid", "TAViD, lambda 0.1"),
                no_loss=variant("no_loss", "without the loss on attention"),
                text_only=variant("text_only", "text alone, the same clips"),
                modulation=variant("", "attention modulation, no training", modulation=4.0),
                base=variant("", "the base alone"),
            ),
        )
    )
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
    config.evaluate.update(judge="contact", goals=ConfigDict())
    config.report.update(scenes=6, failures=0)
    return config


def target_stage(steps: int = 400, **changes) -> ConfigDict:
    """One training from the base; `changes` are those of `config.attention`, `masks`, `model`."""
    return train_stage(
        "tavid",
        steps=steps,
        batch_size=16,
        optimizer=optimizer(lr=1e-3, b2=0.99, schedule="cosine", warmup=20, final=0.05),
        checkpoint_every=200,
        options=changes,
    )


def variant(stage: str, title: str, **changes) -> ConfigDict:
    """What is judged: a trained stage ("" is the checkpoint as it is), and how it is sampled."""
    return ConfigDict(dict(stage=stage, title=title, modulation=0.0) | changes)


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
    config.sampling.masks = ""  # folder of masks for `config.clips`; "" = data.clips.masks
    config.evaluate.mapped = 32  # scenes of a set whose attention is looked at
    config.evaluate.sets = ConfigDict()  # name -> title, data, variants: what is judged


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
