"""The demo's config, made smaller still, and the smallest method."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs.tgt import get_config
from tavid_jax.data.clip import Clip
from tavid_jax.data.synthetic import sample_scene, scene_clip, toy
from tavid_jax.methods.finetune.method import BACKBONE, Conditioning
from tavid_jax.methods.finetune.objectives import FlowMatching
from tavid_jax.methods.finetune.words import Words
from tavid_jax.methods.tgt.draw import Draw
from tavid_jax.methods.tgt.method import Tgt
from tavid_jax.models.layers.located import Laca, init_laca
from tavid_jax.models.layers.space_to_depth import SpaceToDepth, SpaceToDepthConfig
from tavid_jax.models.text.t5 import T5Encoder
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.pipelines.backbones import Geometry, WanBackbone, make_backbone
from tavid_jax.pipelines.located import LOCAL_LENGTH, LOCAL_TEXT, NEAR, NODE, LocatedWan, locate
from tavid_jax.pipelines.locating import pairs_of
from tavid_jax.tracks.neighbourhoods import Rule
from tests.methods.finetune import tiny
from tests.pipelines import trained

POINTS, POSITIONS = 3, 6  # room for trajectories, and for each one's text
OBJECTS = Draw("objects")


def small(folder: Path, steps: int = 2, scenes: int = 2) -> ConfigDict:
    """Two stages of a few steps, a few scenes, two sampling steps."""
    config = get_config("demo")
    config.data_dir = str(folder / "data")
    config.data.scenes.update(train=4, test=scenes)
    for stage in config.stages.values():
        stage.update(steps=steps, batch_size=2, checkpoint_every=1, snapshots=())
        stage.optimizer.warmup = 0
    config.stages.sparse.snapshots = (1,)
    config.evaluate.variants.early.stage = "sparse@1"
    config.evaluate.tables.headline.order = ("tgt", "early", "text")
    config.evaluate.resamples = 50
    config.sampling.options.steps = 2
    config.report.update(scenes=1, failures=1)
    return config


def scene(number: int = 0, **fields: Any) -> Clip:
    """Two objects on bent paths, 24x24 px and 9 frames."""
    return scene_clip(sample_scene(toy.grounded(**fields), 5_000_000 + number))


def plain(attention: str = "auto") -> WanBackbone:
    """Two blocks on pixels as latents: 3x6x6 tokens."""
    return make_backbone(
        "wan2.1-t2v-1.3b",
        Geometry(toy.NUM_FRAMES, (toy.SIZE, toy.SIZE)),
        dataclasses.asdict(trained.CONFIGS["wan"]),
        False,
        stride=SpaceToDepthConfig().stride_hw,
        predicts="data",
        attention=attention,
        scan=True,
        remat="none",
        dtype=jnp.float32,
        param_dtype=jnp.float32,
    )


def backbone(**laca: Any) -> LocatedWan:
    """With a location-aware cross-attention."""
    rule = Rule(radius=1.5, centre="continuous", time="mean")
    return locate(plain(), Laca(**laca), rule, points=POINTS, text_positions=POSITIONS)


def parts(from_clips: bool = False, text_dropout: float = 0.0) -> dict[str, Any]:
    """Arguments of `Finetune` besides the backbone."""
    tokenizer, running = Tokenizer.captions(), dict(dtype=jnp.float32, param_dtype=jnp.float32)
    encoder = T5Encoder(trained.text_config("wan"), **running)
    length = trained.CONFIGS["wan"].text_length
    return dict(
        objective=FlowMatching(shift=4.0, predicts="data"),
        autoencoder=SpaceToDepth(SpaceToDepthConfig()),
        words=Words(encoder, tokenizer, length, wan=True) if from_clips else None,
        conditioning=Conditioning(text_dropout=text_dropout),
    )


def method(
    *,
    draw: Draw = Draw(most=POINTS),  # noqa: B008 (frozen)
    laca: dict[str, Any] | None = None,
    local_dropout: float = 0.0,
    null: str = "drop",
    strength: tuple[float, float] = (0.5, 0.5),
    text_dropout: float = 0.0,
    from_clips: bool = False,
    **options: Any,
) -> Tgt:
    """The smallest one, built without a config."""
    given = dict(backbone=backbone(**laca or {}), **parts(from_clips, text_dropout)) | options
    return Tgt(draw, local_dropout, null, strength, **given)


def copied(params: dict[str, Any], of: Tgt) -> dict[str, Any]:
    """Parameters whose location-aware cross-attention is still the copy that it begins as."""
    base = params[BACKBONE]
    node = init_laca(base["blocks"]["cross"], of.backbone.laca, jax.random.key(5))
    return params | {BACKBONE: {**base, NODE: node}}


def batch_of(of: Tgt, size: int = 2) -> dict[str, jax.Array]:
    """Random examples, encoded, with the neighbourhoods of two objects each."""
    batch = tiny.batch_of(of.backbone.spec(), size)
    pairs = [pairs_of(of.backbone, OBJECTS.known(scene(i))) for i in range(size)]
    for name, *values in zip(NEAR, *pairs, strict=True):
        batch[name] = jnp.asarray(np.stack(values))
    batch[LOCAL_LENGTH] = jnp.tile(jnp.array([4, 3, 0], jnp.int32), (size, 1))
    real = jnp.arange(POSITIONS) < batch[LOCAL_LENGTH][..., None]
    batch[LOCAL_TEXT] = jnp.where(real[..., None], batch[LOCAL_TEXT], 0.0)
    return batch


def keys(count: int = 2, seed: int = 3) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)
