"""PyTorch checkpoints in and out: one declarative table per checkpoint."""

from tavid_jax.weights.exported import export_checkpoint, save
from tavid_jax.weights.flextraj import load_flextraj, save_flextraj
from tavid_jax.weights.identified import Identified, identify, load
from tavid_jax.weights.imported import import_checkpoint, restore
from tavid_jax.weights.model_json import PRESETS, config_from_json, config_to_json
from tavid_jax.weights.opened import open_parameters
from tavid_jax.weights.patch_embed import load_patch_embed, save_patch_embed
from tavid_jax.weights.peft import load_lora
from tavid_jax.weights.peft_export import save_lora
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.registry import CHECKPOINTS, Checkpoint, export, port
from tavid_jax.weights.source import Source, open_source
from tavid_jax.weights.trajloom_release import open_trajloom_release, write_trajloom_release

__all__ = [
    "CHECKPOINTS",
    "PRESETS",
    "Checkpoint",
    "Identified",
    "Source",
    "WeightsError",
    "config_from_json",
    "config_to_json",
    "export",
    "export_checkpoint",
    "identify",
    "import_checkpoint",
    "load",
    "load_flextraj",
    "load_lora",
    "load_patch_embed",
    "open_parameters",
    "open_source",
    "open_trajloom_release",
    "port",
    "restore",
    "save",
    "save_flextraj",
    "save_lora",
    "save_patch_embed",
    "write_trajloom_release",
]
