"""Whether the entity that a text names follows its trajectory; see `judge_located`.

TGT's measures: CLIP-T of frames and of crops, EPE of entities that are found by their words (and of
points that are followed), who swapped places and who is missing; several methods side by side.
"""

from tavid_jax.scoring.located.cases import Case, find_cases
from tavid_jax.scoring.located.entities import ColourEntities, Detector, OwlViTEntities, locate
from tavid_jax.scoring.located.judge import Judges, LocatedScores, judge_located

__all__ = [
    "Case",
    "ColourEntities",
    "Detector",
    "Judges",
    "LocatedScores",
    "OwlViTEntities",
    "find_cases",
    "judge_located",
    "locate",
]
