"""TGT: trajectories with texts of their own become a video (arXiv:2510.15104).

    python -m tavid_jax.main --config=configs/tgt.py                     # the demo, in minutes
    python -m tavid_jax.main --config=configs/tgt.py:ablations           # the paper's tables
    python -m tavid_jax.main --config=configs/tgt.py --mode=preview      # owners and weights first
    python launch/fit.py --config=configs/tgt.py:paper --topology=v5p:4x4x4

The presets of published models, and the sources of their numbers, stand in tgt_presets.py.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import finetune
from configs.common import choose, optimizer, train_stage
from configs.finetune import fields_of
from configs.tgt_presets import LARGE
from tavid_jax.data.synthetic import toy
from tavid_jax.models.layers.located import Laca
from tavid_jax.tracks.neighbourhoods import Rule


def get_config(preset: str | None = None) -> ConfigDict:
    """A preset: small ones here, those of published models in tgt_presets.py."""
    presets = {
        "demo": demo,
        "ablations": ablations,
        **{name: functools.partial(large, name) for name in LARGE},
    }
    return choose(presets, preset)


def demo() -> ConfigDict:
    """The packaged base learns which object goes where: minutes on 2 CPU cores."""
    config = small("demo")
    config.title = "TGT: the right object on the right path"
    config.data.scene = fields_of(toy.grounded())
    dense, sparse = stage(300, 0, **DENSE), stage(700, 0, before=("dense",), **SPARSE)
    sparse.snapshots = (100, 300)
    config.stages = dict(dense=dense, sparse=sparse)
    config.order, config.main = ("dense", "sparse"), "sparse"
    config.evaluate.title = "Two objects on bent paths"
    config.evaluate.variants = dict(
        tgt=variant("sparse", "TGT, dual guidance", "TGT"),
        early=variant("sparse@100", "TGT, 100 steps of the sparse stage", "100 steps"),
        dense=variant("dense", "TGT, the dense stage alone", "dense alone"),
        text=variant("", "text alone: the base", "text alone", guidance=3.5),
    )
    config.evaluate.tables = dict(
        headline=dict(
            title="Two objects on bent paths",
            order=("tgt", "early", "dense", "text"),
            main="tgt",
            against="text",
        )
    )
    return config


def ablations() -> ConfigDict:
    """The paper's tables on crowded scenes, three seeds each.

    Three to five objects that cross, hide each other and leave the frame, from a base that can draw
    as many. Every row has trained for as many steps.
    """
    config = small("ablations")
    config.title = "TGT: what stages, Gaussian, guidance and lambda do"
    config.checkpoint = "tiny-wan-crowd"
    config.model.changes.text_length = finetune.CROWD_LENGTH
    config.data.scene = fields_of(toy.crowd(size_hw=(toy.SIZE, toy.SIZE)))
    hard = {**SPARSE, "laca": dict(gaussian="none")}
    config.stages, order = dict(), []
    named: dict[str, tuple[str, ...]] = {"dense": (), "sparse": (), "gaussian": ()}
    for seed in range(3):
        end = f"_seed{seed}" if seed else ""
        stages = {
            "first": stage(250, seed, **DENSE),
            "dense": stage(350, seed, before=(f"first{end}",), **DENSE),
            "sparse": stage(350, seed, before=(f"first{end}",), **hard),
            "gaussian": stage(350, seed, before=(f"first{end}",), **SPARSE),
        }
        for name, one in stages.items():
            config.stages[f"{name}{end}"] = one
            order.append(f"{name}{end}")
            if name in named:
                named[name] += (f"{name}{end}",)
    config.order, config.main = tuple(order), "gaussian"
    best = named["gaussian"]
    config.evaluate.variants = dict(
        dense=variant(named["dense"], "dense alone", "dense"),
        sparse=variant(named["sparse"], "+ sparse", "+ sparse"),
        gaussian=variant(best, "+ Gaussian", "+ Gaussian"),
        text=variant("", "text alone: the base", "text alone", guidance=3.5),
        **{
            f"cfg_{name}": variant(best, title, title, **options)
            for name, (title, options) in GUIDANCE.items()
        },
        **{
            f"lambda_{percent}": variant(
                best,
                f"lambda {percent / 100:g}",
                f"lambda {percent / 100:g}",
                strength=percent / 100,
            )
            for percent in LAMBDAS
        },
    )
    guided = tuple(f"cfg_{name}" for name in GUIDANCE)
    swept = tuple(f"lambda_{percent}" for percent in LAMBDAS)
    config.evaluate.title = "Three to five objects that cross"
    config.evaluate.order = ("stages", "guidance", "strength")
    config.evaluate.tables = dict(
        stages=dict(
            title="Stages and Gaussian",
            order=("dense", "sparse", "gaussian", "text"),
            main="gaussian",
            against="text",
        ),
        guidance=dict(title="Guidance", order=guided, main="cfg_literal"),
        strength=dict(
            title="Lambda in sampling",
            order=swept,
            main="lambda_50",
            over="strength",
            over_label="lambda (0.5 in training)",
        ),
    )
    return config


# ---- pieces --------------------------------------------------------------------------------------

# What a stage changes. Dense: many points, each with the text of its object, no Gaussian.
DENSE: dict[str, dict[str, Any]] = dict(
    laca=dict(gaussian="none"),
    trajectories=dict(source="points", points=40, least=20, most=40, each=False),
)
SPARSE: dict[str, dict[str, Any]] = dict(
    trajectories=dict(source="objects", points=5, least=1, most=5)
)
# The scales of the dual guidance are ours: a toy needs less than the paper's 5 and 4.
DUAL = dict(dual="literal", guidance=2.0, local_guidance=2.0)
# The paper's four. With equal scales both readings of its formula are one.
GUIDANCE: dict[str, tuple[str, dict[str, Any]]] = dict(
    literal=("dual, as printed", {}),
    combined=("combined", dict(dual="combined", guidance=3.0)),
    local=("local texts alone", dict(dual="local_given", local_guidance=3.0)),
    prompt=("prompt alone", dict(dual="global_given", guidance=3.0)),
)
LAMBDAS = (25, 50, 75, 100)  # per cent, of sampling


def small(preset: str) -> ConfigDict:
    """A packaged base with trajectories that have words."""
    config = finetune.tiny_wan()
    config.update(system="tgt", preset=preset, checkpoint="tiny-wan")
    with_trajectories(config)
    config.text.train = False
    config.data.splits = dict(train=ConfigDict(), test=ConfigDict())
    config.data.scenes = dict(train=12000, test=200)
    # Tokens are few and an object is as large as one: its own place between them counts.
    config.rule.update(radius=1.5, centre="continuous", time="mean")
    config.trajectories.text_positions = 8
    config.sampling.options = dict(sampler="euler", steps=12, **DUAL)
    config.evaluate.judge = "none"  # tables are judged, see below
    config.evaluate.beside, config.evaluate.goals = ConfigDict(), ConfigDict()
    config.report.update(scenes=6, failures=4)
    return config


def stage(
    steps: int, seed: int, before: tuple[str, ...] = (), **changes: Mapping[str, Any]
) -> ConfigDict:
    """One training of the cross-attention alone."""
    return train_stage(
        "tgt",
        init_from=before,
        seed=seed,
        steps=steps,
        batch_size=16,
        optimizer=optimizer(lr=1e-3, b2=0.99, schedule="cosine", warmup=20, final=0.1),
        checkpoint_every=100,
        options=changes,
    )


def variant(stages: str | tuple[str, ...], title: str, short: str, **options: Any) -> ConfigDict:
    """What is judged: a trained stage, or one for each seed ("" is the checkpoint as it is), its
    names in tables and over pictures, and how it is sampled."""
    return ConfigDict(dict(stage=stages, title=title, short=short, options=options))


def with_trajectories(config: ConfigDict) -> None:
    """The nodes that TGT adds to fine-tuning's config, with the paper's values."""
    config.laca = dataclasses.asdict(Laca())  # the cross-attention, see models.layers.located.Laca
    del config.laca["overlap"]  # that of the rule
    config.rule = dataclasses.asdict(Rule())  # which tokens, see tracks.neighbourhoods.Rule
    config.trajectories = dict(
        points=5,  # room for so many
        text_positions=32,  # of each text, one of them padding
        source="points",  # points: the clips' tracks | objects: one for each object, its middle
        least=1,  # how many an example gets
        most=5,
        each=True,  # every object one before any gets a second
        local_dropout=0.1,  # paper: share of examples without local texts
        null="drop",  # what they get: drop, no trajectory | empty, trajectories with the text ""
        strength=0.5,  # lambda, or (least, most); ours: the paper does not say
    )
    config.learn.text_dropout = 0.8  # paper: share without the prompt, independent
    config.data.clips.update(points=True, masks="beside")  # of clips; neither is needed
    config.main = ""  # the stage that is sampled and saved; "" = the last one that trains
    # Name -> stage (or one for each seed), title, short, options of sampling.
    config.evaluate.variants = ConfigDict()
    # Name -> title, order of variants, main; against: the variant that more is claimed of; over:
    # the option of sampling that the variants sweep
    config.evaluate.tables = ConfigDict()
    config.evaluate.order = ()  # of the tables; () is that of their names


def large(preset: str) -> ConfigDict:
    """A published model at its published size, see configs/tgt_presets.py."""
    published, change = LARGE[preset]
    config = finetune.common(preset, published)
    config.update(system="tgt", title=f"TGT on {published}")
    with_trajectories(config)
    change(config)
    return config
