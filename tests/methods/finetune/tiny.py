"""Fine-tuning of the smallest transformers of every published kind: configs, weights, batches."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs.finetune import get_config
from tavid_jax.engine.method import Spec
from tavid_jax.methods.finetune.method import Finetune
from tavid_jax.methods.registry import make_system

RULES = (dict(path="blocks/(attn|cross)/(q|k|v|o)", rank=2, alpha=4),)
_WAN = dict(num_heads=2, head_dim=12, ffn_dim=32, num_layers=2, freq_dim=16)
_WAN |= dict(text_dim=8, text_length=5)
_COGVIDEOX = dict(num_heads=2, head_dim=16, num_layers=2, time_embed_dim=10, text_dim=8)
_COGVIDEOX |= dict(text_length=5, sample_hw=(4, 6), sample_frames=9)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A published backbone, what makes it tiny, and other fields of config.model and config.data.

    Channels are the published ones, so that their order is too.
    """

    backbone: str
    changes: dict[str, Any]
    size_hw: tuple[int, int] = (32, 48)
    model: dict[str, Any] = dataclasses.field(default_factory=dict)


VARIANTS = {
    "cogvideox i2v": Variant("cogvideox-5b-i2v", _COGVIDEOX),
    "cogvideox 2b": Variant("cogvideox-2b", _COGVIDEOX),
    "cogvideox 1.5": Variant("cogvideox1.5-5b-i2v", _COGVIDEOX | dict(ofs_dim=6)),
    "wan t2v": Variant("wan2.1-t2v-1.3b", _WAN),
    "wan i2v": Variant("wan2.1-i2v-14b", _WAN | dict(image_dim=10)),
    "wan i2v a14b": Variant("wan2.2-i2v-a14b", _WAN, model=dict(levels=(0.9, 1.0))),
    "wan ti2v": Variant("wan2.2-ti2v-5b", _WAN, (64, 96), dict(first_frame=True)),
}


def config(name: str = "wan t2v", **model: Any) -> ConfigDict:
    """The config of a variant, in float32; `model` replaces fields of config.model."""
    variant = VARIANTS[name]
    made = get_config("cogvideox_5b_lora")
    with made.unlocked():
        made.model.changes.update(variant.changes)
    made.model.update(
        dict(backbone=variant.backbone, lora=RULES, dtype="float32") | variant.model | model
    )
    made.data.update(size_hw=variant.size_hw, frames=9)
    return made


def method(name: str = "wan t2v", **model: Any) -> Finetune:
    """What the engine trains."""
    return make_system(config(name, **model)).method("finetune")


def random_params(method: Finetune, seed: int = 0) -> dict[str, Any]:
    """Noise in place of every parameter, adapters too: published weights hide nothing."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        noise = rng.standard_normal(leaf.shape)
        if path[-1].key == "scale":
            values = 1 + 0.3 * noise
        else:
            values = noise * (leaf.shape[-2] ** -0.5 if leaf.ndim > 1 else 0.3)
        return jnp.asarray(values, leaf.dtype)

    shapes = jax.eval_shape(method.init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(fill, shapes)


def batch_of(spec: dict[str, Spec], size: int = 2, seed: int = 1) -> dict[str, jax.Array]:
    """Random examples in float32; the first latent frame is the one that is given."""
    rng = np.random.default_rng(seed)
    batch = {
        name: jnp.asarray(rng.standard_normal((size, *one.shape)), jnp.float32)
        for name, one in spec.items()
    }
    if "given" in batch:
        # Another pattern than the published one, so that every mask channel shows.
        batch["given"] = (batch["given"] > 0).astype(jnp.float32)
    return batch
