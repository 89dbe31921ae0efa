"""Synthetic scenes: moving textured sprites with exact tracks, for all four systems."""

from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.scene import Scene, sample_scene, sample_scenes
from tavid_jax.data.synthetic.seeds import split_seeds
from tavid_jax.data.synthetic.source import SYNTHETIC, SyntheticSource, scene_clip, scene_clips
from tavid_jax.data.synthetic.store import TfdsSource, open_synthetic

__all__ = [
    "SYNTHETIC",
    "Scene",
    "SceneConfig",
    "SyntheticSource",
    "TfdsSource",
    "open_synthetic",
    "sample_scene",
    "sample_scenes",
    "scene_clip",
    "scene_clips",
    "split_seeds",
]
