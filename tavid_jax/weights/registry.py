"""The checkpoints that can be read and written, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig
from tavid_jax.models.latte.flow_config import TrackFlowConfig
from tavid_jax.models.latte.vae import TrackVAEConfig
from tavid_jax.models.latte.visibility import VisibilityConfig
from tavid_jax.models.text.config import T5Config
from tavid_jax.models.vision.config import (
    CLIPConfig,
    CLIPVisionConfig,
    I3DConfig,
    OwlViTConfig,
    ViTConfig,
)
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.models.wan.vae.config import WanVAEConfig
from tavid_jax.models.whn.config import WhnConfig, WhnVAEConfig
from tavid_jax.weights import (
    clip,
    cogvideox,
    cogvideox_vae,
    i3d,
    owlvit,
    t5,
    trajloom,
    trajloom_configs,
    vit,
    wan,
    wan_vae,
    whn,
)
from tavid_jax.weights.lazy import as_lazy
from tavid_jax.weights.problems import WeightsError, raise_all
from tavid_jax.weights.streaming import Place, export_table, port_table
from tavid_jax.weights.table import Table


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to port one kind of checkpoint.

    Attributes:
      table: config -> Table.
      shapes: config -> the parameters' nested dict of shapes.
      config: class of the config.
      sign: a key that only checkpoints of this kind have.
      containers: keys under which a saved file may hold the tensors, in order of preference.
      stem: of the names of the files that are written.
      folders: expert -> folder, where the tensors of a pair lie in folders of their own.
      told: (key -> shape, config) -> the fields of the config that the shapes decide.
      described: (content of a config file, its name) -> config, for configs that are no
        config.json and may lie inside of a checkpoint, under `cfg`; None if it has none.
    """

    table: Callable[[Any], Table]
    shapes: Callable[[Any], dict]
    config: type
    sign: str
    containers: tuple[str, ...] = ()
    stem: str = "diffusion_pytorch_model"
    folders: Mapping[str, str] | None = None
    told: trajloom_configs.Told | None = None
    described: Callable[[Mapping[str, Any], str], Any] | None = None

    def differences(self, tensors: Mapping[str, Any], config: Any) -> list[str]:
        """Lines "field: theirs in the file, ours in the config", as far as shapes tell."""
        if self.told is None:
            return []
        shapes = {key: tuple(as_lazy(tensor).shape) for key, tensor in tensors.items()}
        return trajloom_configs.config_differences(self.told(shapes, config), config)

    def check_config(self, tensors: Mapping[str, Any], config: Any) -> None:
        """Raises a WeightsError that names the fields of another config than the checkpoint's."""
        what = "a checkpoint of another config"
        lines = self.differences(tensors, config)
        raise_all({"fields that differ": lines}, what, "give the checkpoint's own")


_CONTAINERS = ("state_dict", "model")
_TRANSFORMERS = "model"
_ORIGINAL_WAN = "text_embedding.0.weight"
_DIFFUSERS_WAN = "condition_embedder.text_embedder.linear_1.weight"

CHECKPOINTS: dict[str, Checkpoint] = {
    "cogvideox": Checkpoint(
        cogvideox.cogvideox_table,
        cogvideox.cogvideox_shapes,
        CogVideoXConfig,
        "patch_embed.text_proj.weight",
        _CONTAINERS,
    ),
    "wan": Checkpoint(wan.wan_table, wan.wan_shapes, WanConfig, _ORIGINAL_WAN, _CONTAINERS),
    "wan_diffusers": Checkpoint(
        partial(wan.wan_table, naming="diffusers"),
        wan.wan_shapes,
        WanConfig,
        _DIFFUSERS_WAN,
        _CONTAINERS,
    ),
    "wan_experts": Checkpoint(
        wan.experts_table,
        wan.experts_shapes,
        WanConfig,
        f"high_noise/{_ORIGINAL_WAN}",
        folders={"high_noise": "high_noise_model", "low_noise": "low_noise_model"},
    ),
    "wan_experts_diffusers": Checkpoint(
        partial(wan.experts_table, naming="diffusers"),
        wan.experts_shapes,
        WanConfig,
        f"high_noise/{_DIFFUSERS_WAN}",
        folders={"high_noise": "transformer", "low_noise": "transformer_2"},
    ),
    "cogvideox_vae": Checkpoint(
        cogvideox_vae.cogvideox_vae_table,
        cogvideox_vae.cogvideox_vae_shapes,
        CogVideoXVAEConfig,
        "decoder.mid_block.resnets.0.norm1.norm_layer.weight",
        _CONTAINERS,
    ),
    "wan_vae": Checkpoint(
        wan_vae.wan_vae_table,
        wan_vae.wan_vae_shapes,
        WanVAEConfig,
        "decoder.middle.0.residual.0.gamma",
        _CONTAINERS,
    ),
    "wan_vae_diffusers": Checkpoint(
        partial(wan_vae.wan_vae_table, naming="diffusers"),
        wan_vae.wan_vae_shapes,
        WanVAEConfig,
        "decoder.mid_block.resnets.0.norm1.gamma",
        _CONTAINERS,
    ),
    "clip": Checkpoint(  # before its image tower alone, whose sign it has too
        clip.clip_table,
        clip.clip_shapes,
        CLIPConfig,
        "text_model.embeddings.token_embedding.weight",
        _CONTAINERS,
        _TRANSFORMERS,
    ),
    "clip_vision": Checkpoint(
        clip.vision_table,
        clip.vision_shapes,
        CLIPVisionConfig,
        "vision_model.embeddings.class_embedding",
        _CONTAINERS,
        _TRANSFORMERS,
    ),
    "clip_vision_bare": Checkpoint(
        partial(clip.vision_table, naming="bare"),
        clip.vision_shapes,
        CLIPVisionConfig,
        "embeddings.class_embedding",
        _CONTAINERS,
        _TRANSFORMERS,
    ),
    "clip_vision_original": Checkpoint(
        partial(clip.vision_table, naming="original"),
        clip.vision_shapes,
        CLIPVisionConfig,
        "visual.cls_embedding",
        _CONTAINERS,
    ),
    "owlvit": Checkpoint(
        owlvit.owlvit_table,
        owlvit.owlvit_shapes,
        OwlViTConfig,
        "class_head.logit_shift.weight",
        _CONTAINERS,
        _TRANSFORMERS,
    ),
    "dinov2": Checkpoint(  # before ViT, whose sign it has too
        partial(vit.vit_table, naming="dinov2"),
        vit.vit_shapes,
        ViTConfig,
        "encoder.layer.0.layer_scale1.lambda1",
        _CONTAINERS,
        _TRANSFORMERS,
    ),
    "vit": Checkpoint(
        vit.vit_table,
        vit.vit_shapes,
        ViTConfig,
        "embeddings.cls_token",
        _CONTAINERS,
        _TRANSFORMERS,
    ),
    "vit_original": Checkpoint(
        partial(vit.vit_table, naming="original"),
        vit.vit_shapes,
        ViTConfig,
        "cls_token",
        _CONTAINERS,
    ),
    "i3d": Checkpoint(
        i3d.i3d_table,
        i3d.i3d_shapes,
        I3DConfig,
        "Mixed_3b.b0.conv3d.weight",
        _CONTAINERS,
        _TRANSFORMERS,
    ),
    "umt5": Checkpoint(
        partial(t5.t5_table, naming="original"),
        t5.t5_shapes,
        T5Config,
        "blocks.0.pos_embedding.embedding.weight",
        _CONTAINERS,
    ),
    "umt5_transformers": Checkpoint(  # before T5, whose sign it has too
        t5.t5_table,
        t5.t5_shapes,
        T5Config,
        "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
        _CONTAINERS,
        _TRANSFORMERS,
    ),
    "t5": Checkpoint(
        t5.t5_table,
        t5.t5_shapes,
        T5Config,
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        _CONTAINERS,
        _TRANSFORMERS,
    ),
    "trajloom_vae": Checkpoint(
        trajloom.vae_table,
        trajloom.vae_shapes,
        TrackVAEConfig,
        "temp_embed_in",
        ("vae", "model_state_dict"),
        told=trajloom_configs.vae_told,
        described=trajloom_configs.vae_config,
    ),
    "trajloom_flow": Checkpoint(
        trajloom.flow_table,
        trajloom.flow_shapes,
        TrackFlowConfig,
        "seg_embed",
        ("generator", "model", "state_dict", "model_state_dict"),
        told=trajloom_configs.flow_told,
        described=trajloom_configs.flow_config,
    ),
    "trajloom_visibility": Checkpoint(
        trajloom.visibility_table,
        trajloom.visibility_shapes,
        VisibilityConfig,
        "temporal_net.0.weight",
        ("model", "predictor", "state_dict", "model_state_dict"),
        told=trajloom_configs.visibility_told,
        described=trajloom_configs.visibility_config,
    ),
    "whn": Checkpoint(
        whn.denoiser_table,
        whn.denoiser_shapes,
        WhnConfig,
        "blocks.0.adaLN_modulation.1.weight",
        ("model_state_dict",),
    ),
    "whn_ema": Checkpoint(  # the running average that some of its files hold besides
        whn.denoiser_table,
        whn.denoiser_shapes,
        WhnConfig,
        "blocks.0.adaLN_modulation.1.weight",
        ("ema_state_dict",),
    ),
    "whn_vae": Checkpoint(
        whn.vae_table,
        whn.vae_shapes,
        WhnVAEConfig,
        "encoder_blocks.0.gate_mxa",
        ("model_state_dict",),
    ),
}


def port(
    name: str,
    tensors: Mapping[str, Any],
    config: Any,
    place: Place | None = None,
    dtype: Any = "float32",
) -> dict:
    """Parameters (a nested dict) from a checkpoint's flat dict of tensors.

    Args:
      name: a key of `CHECKPOINTS`.
      tensors: key -> numpy, JAX, PyTorch or lazy array.
      config: the model's config.
      place: where each parameter goes, (path, numpy array) -> array; default: default device.
      dtype: of the parameters: "bf16", "f32", a numpy dtype, or "keep" for the checkpoint's.

    Raises:
      WeightsError: unknown name, or a mismatch; every key that is left over, missing or of
        another shape is listed, or the fields of the config that are the reason.
    """
    kind = checkpoint_kind(name)
    kind.check_config(tensors, config)
    return port_table(kind.table(config), tensors, kind.shapes(config), place, dtype)


def export(
    name: str, params: Mapping[str, Any], config: Any, dtype: Any = "float32"
) -> dict[str, np.ndarray]:
    """The checkpoint's flat dict of tensors: the exact inverse of `port`."""
    kind = checkpoint_kind(name)
    return export_table(kind.table(config), params, kind.shapes(config), dtype)


def checkpoint_kind(name: str) -> Checkpoint:
    """The entry of `CHECKPOINTS`; WeightsError with all names if there is none."""
    if name not in CHECKPOINTS:
        raise WeightsError(f"no checkpoint kind {name!r}; known: {', '.join(CHECKPOINTS)}")
    return CHECKPOINTS[name]
