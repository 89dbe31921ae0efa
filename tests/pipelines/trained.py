"""The smallest models of the kind that is trained here: pixels as latents, random weights."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.lora import LoraRule, init_lora
from tavid_jax.models.layers.space_to_depth import SpaceToDepth, SpaceToDepthConfig
from tavid_jax.models.text.config import T5Config
from tavid_jax.models.text.t5 import T5Encoder
from tavid_jax.models.text.tokenizer import CAPTIONS, Tokenizer
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.models.wan.transformer import Wan
from tavid_jax.pipelines.card import Card
from tavid_jax.pipelines.part import Part
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.saving import Adapters, Model, save_pipeline
from tavid_jax.pipelines.settings import Sampling
from tavid_jax.pipelines.targets import Targets
from tavid_jax.weights import CHECKPOINTS
from tavid_jax.weights.lazy import as_lazy
from tavid_jax.weights.opened import Opened
from tavid_jax.weights.table import nest, walk

CHANNELS = 48  # of 4 frames, 2 x 2 pixels and 3 colours
CONFIGS = {
    "wan": WanConfig(
        num_heads=2, head_dim=12, ffn_dim=32, num_layers=2, in_channels=CHANNELS,
        out_channels=CHANNELS, freq_dim=16, text_dim=16, text_length=12,
    ),
    "cogvideox": CogVideoXConfig(
        num_heads=2, head_dim=16, num_layers=2, in_channels=2 * CHANNELS, out_channels=CHANNELS,
        time_embed_dim=10, text_dim=16, text_length=12, learned_positions=True, sample_frames=9,
        sample_hw=(8, 8),
    ),
}  # fmt: skip
KINDS = {"wan": "wan_diffusers", "cogvideox": "cogvideox"}
_SIZE = dict(size_hw=(16, 16), frames=9, fps=8, steps=4, guidance=3.5)
CARDS = {
    "wan": Card(
        "smallest-wan", "wan2.1-t2v-1.3b", Sampling(sampler="euler", shift=4.0, **_SIZE),
        "space-to-depth", predicts="data",
    ),
    "cogvideox": Card(
        "smallest-cogvideox", "cogvideox-5b-i2v",
        Sampling(sampler="ddim", posterior="mode", **_SIZE), "space-to-depth", predicts="data",
    ),
}  # fmt: skip
PROMPT = "a red disc moves left"


def text_config(family: str) -> T5Config:
    """Of the text encoder: umT5 has a table of positions in every block."""
    return T5Config(
        vocab_size=Tokenizer.captions().vocab_size, dim=16, num_heads=2, head_dim=8, ffn_dim=24,
        num_layers=2, shared_bias=family == "cogvideox",
    )  # fmt: skip


def random_params(shapes: Any, seed: int) -> dict[str, Any]:
    """Noise in the shapes of a parameter tree: scales around one, kernels by fan-in."""
    rng = np.random.default_rng(seed)
    filled = {}
    for path, leaf in walk(shapes):
        noise = rng.standard_normal(leaf.shape).astype(np.float32)
        fan_in = leaf.shape[-2] if len(leaf.shape) > 1 else 10
        filled[path] = 1 + 0.3 * noise if path.endswith("scale") else fan_in**-0.5 * noise
    return nest(filled)


@functools.cache
def parts_of(family: str, seed: int = 0) -> dict[str, Model]:
    """What was trained."""
    config, text = CONFIGS[family], text_config(family)
    shapes = CHECKPOINTS[KINDS[family]].shapes(config)
    return {
        "transformer": Model(config, random_params(shapes, seed)),
        "text_encoder": Model(text, random_params(CHECKPOINTS["t5"].shapes(text), seed + 1)),
        "vae": Model(SpaceToDepthConfig(), {}),
    }


def save(family: str, folder: Path, **changes: Any) -> Card:
    """Writes the folder of a model; `changes` are of `save_pipeline`'s arguments."""
    given = dict(card=CARDS[family], parts=parts_of(family), tokenizer=CAPTIONS) | changes
    return save_pipeline(folder, **given)


def in_memory(family: str, **module: Any) -> Pipeline:
    """The same model without any file: its trees as they were trained."""
    running = dict(dtype=jnp.float32, param_dtype=jnp.float32)
    transformer = Wan if family == "wan" else CogVideoX
    modules = {
        "transformer": functools.partial(transformer, **running, **module),
        "text_encoder": functools.partial(T5Encoder, **running),
        "vae": SpaceToDepth,
    }
    parts = {}
    for name, model in parts_of(family).items():
        leaves = {path: as_lazy(leaf) for path, leaf in walk(model.params)}
        opened = Opened("memory", name, model.config, None, leaves)
        parts[name] = Part(name, opened, modules[name](model.config), jnp.float32)
    return Pipeline(CARDS[family].published(), parts, Tokenizer.captions())


def sample(pipeline: Pipeline, **fields: Any) -> np.ndarray:
    """Latents of a video, (F, h, w, C)."""
    if pipeline.published.needs_image:
        rng = np.random.default_rng(7)
        fields.setdefault("image", rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    return np.asarray(pipeline.sample(PROMPT, seed=3, **fields).latents)


# ---- with targets ---------------------------------------------------------------------------

RULES = (LoraRule("blocks/attn/(q|k|v|o)", rank=2, alpha=4),)
TARGET_PROMPT = "the red touches the target blue"


class Targeted(NamedTuple):
    """What was trained upon a base: adapters, a patch projection with mask channels, vectors."""

    config: Any
    lora: dict[str, Any]
    patch: dict[str, Any]
    embedding: np.ndarray | None
    targets: Targets


def targeted(
    family: str = "cogvideox",
    targets: Targets = Targets(sentence=""),  # noqa: B008 (frozen)
    seed: int = 5,
) -> Targeted:
    """Random ones."""
    config = dataclasses.replace(CONFIGS[family], extra_channels=targets.count)
    base = parts_of(family)["transformer"].params
    lora = jax.eval_shape(lambda: init_lora(jax.random.key(0), base, RULES))
    shapes = CHECKPOINTS[KINDS[family]].shapes(config)
    patch = {name: shapes[name] for name in ("patch_embed", "patch_embed_extra") if name in shapes}
    further = jax.ShapeDtypeStruct((config.patch_elements * targets.count, config.dim), "float32")
    patch["patch_embed_extra"] = {"kernel": further}
    embedding = None
    if targets.embedding:
        embedding = np.random.default_rng(seed).standard_normal((targets.count, config.text_dim))
        embedding = embedding.astype(np.float32)
    return Targeted(
        config, random_params(lora, seed), random_params(patch, seed + 1), embedding, targets
    )


def save_targeted(family: str, base: Path, folder: Path, made: Targeted) -> Card:
    """Writes the folder of what was trained upon the base of another folder."""
    card = dataclasses.replace(
        CARDS[family], checkpoint=str(base), targets=dataclasses.asdict(made.targets)
    )
    return save_pipeline(
        folder,
        card,
        {},
        adapters=Adapters(made.config, made.lora, RULES),
        patch=Model(made.config, made.patch),
        embedding=made.embedding,
    )


def targeted_in_memory(family: str, made: Targeted) -> Pipeline:
    """The same without any file."""
    pipeline = in_memory(family, lora=RULES)
    part = pipeline.parts["transformer"]
    part.module = part.module.clone(config=made.config)
    part.added = {"lora": made.lora, **made.patch}
    return dataclasses.replace(pipeline, targets=made.targets, embedding=made.embedding)
