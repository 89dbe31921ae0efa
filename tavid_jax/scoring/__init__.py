"""Scores of anybody's videos: contact with a target, consistency, motion; see `score_videos`.

How well videos follow trajectories is judged by `scoring.motion`, and whether the entities that
texts name do by `scoring.located`.

Numbers come from two sides. `metrics` holds the aggregations, exact and without any network. The
providers of this room make what is aggregated (features, flows, midpoints, regions of the actor);
each has a name that is written beside every number it is behind, for values of different providers
cannot be compared.
"""

from tavid_jax.scoring.detectors import HOGActors, MotionActors, OwlViTActors
from tavid_jax.scoring.flows import DISFlow, DISMidpoint
from tavid_jax.scoring.i3d import I3DFeatures
from tavid_jax.scoring.providers import (
    Actors,
    Features,
    Flow,
    Found,
    Midpoint,
    PairFeatures,
    ScoringError,
    VideoFeatures,
)
from tavid_jax.scoring.score import Providers, Scores, score_videos
from tavid_jax.scoring.towers import CLIPFeatures, CLIPPair, DINOFeatures

__all__ = [
    "Actors",
    "CLIPFeatures",
    "CLIPPair",
    "DINOFeatures",
    "DISFlow",
    "DISMidpoint",
    "Features",
    "Flow",
    "Found",
    "HOGActors",
    "I3DFeatures",
    "Midpoint",
    "MotionActors",
    "OwlViTActors",
    "PairFeatures",
    "Providers",
    "Scores",
    "ScoringError",
    "VideoFeatures",
    "score_videos",
]
