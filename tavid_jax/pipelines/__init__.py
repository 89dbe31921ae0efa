"""Whole models at work: from words and pixels to pixels, in phases that hold one model each."""

from tavid_jax.pipelines.backbones import Geometry
from tavid_jax.pipelines.bases import BASES, resolve_checkpoint
from tavid_jax.pipelines.card import Card, read_card
from tavid_jax.pipelines.chain import TargetLost, chain
from tavid_jax.pipelines.encoders import Encoders
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.jobs import Job, read_jobs
from tavid_jax.pipelines.located import Locate
from tavid_jax.pipelines.memory import SMALLEST, Memory
from tavid_jax.pipelines.move import Move
from tavid_jax.pipelines.opening import open_encoders, open_pipeline
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.saving import Adapters, Control, Located, Model, save_pipeline
from tavid_jax.pipelines.settings import PUBLISHED, Published, Sampling
from tavid_jax.pipelines.targets import Targets
from tavid_jax.pipelines.video import Video

__all__ = [
    "BASES",
    "PUBLISHED",
    "SMALLEST",
    "Adapters",
    "Card",
    "Control",
    "Encoders",
    "Follow",
    "Geometry",
    "Job",
    "Locate",
    "Located",
    "Memory",
    "Model",
    "Move",
    "Pipeline",
    "Published",
    "Sampling",
    "TargetLost",
    "Targets",
    "Video",
    "chain",
    "open_encoders",
    "open_pipeline",
    "read_card",
    "read_jobs",
    "resolve_checkpoint",
    "save_pipeline",
]
