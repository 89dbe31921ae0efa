"""Model FLOPs in closed form against the operations of the traced gradient, unrolled, no remat."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from configs import finetune, flextraj, tavid, tgt, trajloom, whn
from tavid_jax.engine.fit import NO_CHIP
from tavid_jax.engine.method import Method
from tavid_jax.engine.placement import split_trainable
from tavid_jax.engine.state import accumulate
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.tavid.flops import attention_flops
from tavid_jax.parallel.flops import count
from tavid_jax.parallel.sharding import compiling_for
from tavid_jax.pipelines.backbones import CogVideoXBackbone
from tests.methods.finetune import tiny
from tests.methods.finetune.tiny import Variant
from tests.methods.trajloom import micro
from tests.methods.whn import small as small_whn

BATCH = 4


def counted(method: Method, batch_size: int, *, encode: bool) -> int:
    """Operations of the gradient of a step."""
    params = jax.eval_shape(lambda: method.init(jax.random.key(0)))
    trainable, frozen = split_trainable(method, params)
    spec = method.raw_spec() if encode else method.encoded_spec()
    batch = {n: jax.ShapeDtypeStruct((batch_size, *s.shape), s.dtype) for n, s in spec.items()}
    options = dict(encode=encode, micro_batches=1)

    def gradient(trainable: Any, frozen: Any, batch: Any) -> Any:
        rng, step = jax.random.key(0), jnp.zeros((), jnp.int32)
        return accumulate(method, trainable, frozen, batch, rng, step, **options)[0]

    with compiling_for(NO_CHIP):
        found = count(gradient, trainable, frozen, batch)
    assert not found.unknown
    return found.flops


def method_of(config: ConfigDict, stage: str) -> Method:
    """Unrolled, without remat, with the plain attention."""
    with config.unlocked():
        config.model.update(scan=False, remat="none")
        if "attention" in config.model:
            config.model.attention = "xla"
    method = make_system(config).method(stage)
    if getattr(method, "words", None) is not None:
        module = method.words.module.clone(attention="xla")
        method.words = dataclasses.replace(method.words, module=module)
    return method


DEMOS = {
    "trajloom vae": (trajloom.demo, "vae"),
    "trajloom flow": (trajloom.demo, "flow"),
    "trajloom on-policy": (trajloom.demo, "on_policy"),
    "trajloom visibility": (trajloom.demo, "visibility"),
    "whn vae": (whn.demo, "vae"),
    "whn flow": (whn.demo, "flow"),
    "whn raw": (whn.raw, "flow"),
    "finetune": (finetune.demo, "finetune"),
    "from nothing": (finetune.tiny_wan, "finetune"),
    "from nothing, cogvideox": (finetune.tiny_cogvideox, "finetune"),
    "flextraj": (flextraj.demo, "sparse"),
    "flextraj, residuals": (flextraj.ablations, "residuals_dense"),
    "tavid": (tavid.demo, "tavid"),
    "tavid, text alone": (tavid.demo, "text_only"),
    "tgt dense": (tgt.demo, "dense"),
    "tgt sparse": (tgt.demo, "sparse"),
}


# Other proportions, so that no coefficient can hide behind another: short and long, wide and
# narrow, and every branch that the demos leave out.
ADAPTERS = (dict(path="blocks/.*|text_embed.*|patch_embed", rank=3, alpha=3),)
STREAM = (dict(path="blocks/(attn/(q|v)|mlp/fc1)", rank=5, alpha=5, stream="condition"),)


def small(module: Any, preset: str, size: Variant | None = None, **changes: Any) -> ConfigDict:
    """A preset with fields of it replaced ("model.lora" and the like), of a tiny size."""
    config = module.get_config(preset)
    with config.unlocked():
        if size is not None:
            config.model.changes.update(size.changes)
            config.data.update(size_hw=size.size_hw, frames=9)
            config.model.dtype = "float32"
            config.model.update(size.model)
            config.text.changes.update(dict(dim=size.changes["text_dim"], num_layers=1))
        for name, value in changes.items():
            *nodes, field = name.replace("__", ".").split(".")
            node = config
            for each in nodes:
                node = node[each]
            node[field] = value
    return config


def published(module: Any, preset: str, name: str, **changes: Any) -> ConfigDict:
    return small(module, preset, tiny.VARIANTS[name], **changes)


def toy(module: Any, preset: str, **changes: Any) -> ConfigDict:
    """Of 16x32 px, with longer texts and another text encoder; encoders run in the step."""
    sizes = dict(num_layers=3, ffn_dim=96, num_heads=3, head_dim=16)
    config = small(module, preset, None, checkpoint="", **changes)
    config.data.update(size_hw=(16, 32), frames=9)
    config.evaluate.update(judge="none", goals=ConfigDict())
    with config.unlocked():
        config.model.changes.text_length = 23
        config.text.changes.update(sizes)
        if "sample_hw" in config.model.changes:
            config.model.changes.update(sample_hw=(8, 16), num_heads=2, num_layers=3)
        else:
            config.model.changes.update(num_heads=3, head_dim=24, num_layers=3, ffn_dim=100)
    return config


OTHERS: dict[str, Callable[[], tuple[ConfigDict, str]]] = {
    **{
        f"finetune {name}": lambda name=name: (tiny.config(name, lora=ADAPTERS), "finetune")
        for name in tiny.VARIANTS
    },
    "all weights, ti2v": lambda: (tiny.config("wan ti2v", lora=()), "finetune"),
    "all weights, i2v": lambda: (tiny.config("wan i2v", lora=()), "finetune"),
    "all weights, cogvideox 1.5": lambda: (tiny.config("cogvideox 1.5", lora=()), "finetune"),
    "toy": lambda: (toy(finetune, "tiny_wan"), "finetune"),
    "toy, frozen text": lambda: (toy(finetune, "tiny_cogvideox", text__train=False), "finetune"),
    "flextraj": lambda: (toy(flextraj, "demo", model__lora=STREAM, control__draws=3), "sparse"),
    "flextraj, published": lambda: (published(flextraj, "paper", "cogvideox i2v"), "sparse"),
    "flextraj, wan": lambda: (
        published(flextraj, "wan2_2_5b", "wan ti2v", control__draws=2),
        "dense",
    ),
    "flextraj, residuals": lambda: (toy(flextraj, "ablations"), "residuals_dense"),
    "tavid": lambda: (toy(tavid, "demo", attention__direction="both"), "tavid"),
    "tavid, words": lambda: (
        toy(tavid, "demo", targets__embedding=True, attention__norm="text"),
        "tavid",
    ),
    "tgt": lambda: (toy(tgt, "demo", trajectories__null="empty"), "sparse"),
    "tgt, skip": lambda: (
        toy(tgt, "demo", laca__outside="skip", rule__overlap="blend", trajectories__points=2),
        "sparse",
    ),
    "tgt, low rank": lambda: (toy(tgt, "demo", laca__rank=3), "sparse"),
    "tgt, segments": lambda: (toy(tgt, "demo", laca__formulation="segments"), "dense"),
    "tgt, published": lambda: (
        published(tgt, "wan2_1_1_3b", "wan t2v", trajectories__text_positions=4),
        "sparse",
    ),
    **{
        f"trajloom {stage}": lambda stage=stage: (micro.config(), stage)
        for stage in ("vae", "flow", "on_policy", "visibility")
    },
    "trajloom, everything": lambda: (
        small(
            trajloom,
            "demo",
            model__vae__use_offsets=False,
            model__flow__use_text_cond=True,
            model__flow__text_dim=7,
            model__flow__video_ctx_mode="sum",
            model__flow__spatial_ctx_mode="time_mean",
            model__flow__hidden=24,
            stages__flow__data="train",
            stages__flow__cached_by=(),
        ),
        "flow",
    ),
    **{
        f"whn {stage}": lambda stage=stage: (small_whn.config(), stage) for stage in ("vae", "flow")
    },
}


def looked_at_again(method: Any, batch_size: int) -> int:
    """A probe makes its logits twice more on the way back, and their sums once: no work of the
    model."""
    if not getattr(getattr(method, "attention", None), "weight", 0):
        return 0
    backbone = method.backbone
    c, spec = backbone.model.config, backbone.spec()
    logits, both = (
        attention_flops(
            method.attention,
            c.grid(spec["video"].shape[:3]),
            batch=batch_size,
            text=spec["text"].shape[0],
            targets=targets,
            width=c.dim,
            joint=isinstance(backbone, CogVideoXBackbone),
        )
        for targets in (0, method.reader.targets.count)
    )
    return 2 * logits // 3 + (both - logits) // 3


# One of every kind; all others are slow.
QUICK = (
    "finetune wan i2v",
    "all weights, cogvideox 1.5",
    "flextraj",
    "tavid",
    "tgt",
    "trajloom vae",
    "trajloom on_policy",
    "whn flow",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", DEMOS)
def test_demo_to_the_operation(name: str):
    make, stage = DEMOS[name]
    config = make()
    method = method_of(config, stage)
    encode = not config.stages[stage].cached_by
    expected = counted(method, BATCH, encode=encode)
    assert method.flops(BATCH, encode=encode) + looked_at_again(method, BATCH) == expected
    assert set(method.amounts()) == {"tokens", "frames"}


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in OTHERS]
)
def test_other_sizes_to_the_operation(name: str):
    config, stage = OTHERS[name]()
    method = method_of(config, stage)
    encode = not config.stages[stage].cached_by
    expected = counted(method, BATCH, encode=encode)
    found = method.flops(BATCH, encode=encode) + looked_at_again(method, BATCH)
    # To the operation, but that the count rounds the share of blocks that are looked at.
    assert found == pytest.approx(expected, rel=1e-7)


FULL_SIZE = {
    "finetune 1.3b": (finetune, "wan2_1_1_3b_lora", "finetune"),
    "finetune 1.3b, all": (finetune, "wan2_1_1_3b_full", "finetune"),
    "finetune 14b": (finetune, "wan2_1_14b_lora", "finetune"),
    "finetune 5b": (finetune, "wan2_2_5b_lora", "finetune"),
    "finetune cogvideox": (finetune, "cogvideox_5b_i2v_lora", "finetune"),
    "flextraj": (flextraj, "paper", "sparse"),
    "flextraj 5b": (flextraj, "wan2_2_5b", "sparse"),
    "tavid": (tavid, "paper", "tavid"),
    "tavid 14b": (tavid, "wan2_1_14b", "tavid"),
    "tgt dense": (tgt, "paper", "dense"),
    "tgt sparse": (tgt, "paper", "sparse"),
    "trajloom vae": (trajloom, "paper", "vae"),
    "trajloom flow": (trajloom, "paper", "flow"),
    "trajloom on-policy": (trajloom, "paper", "on_policy"),
    "whn vae": (whn, "paper", "vae"),
    "whn flow": (whn, "paper", "flow"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_published_presets_within_a_hundredth(name: str):
    module, preset, stage = FULL_SIZE[name]
    config = module.get_config(preset)
    method = method_of(config, stage)
    encode = not config.stages[stage].cached_by
    expected = counted(method, 1, encode=encode)
    found = method.flops(1, encode=encode) + looked_at_again(method, 1)
    assert found == pytest.approx(expected, rel=0.01)
