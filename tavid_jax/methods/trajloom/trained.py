"""A variant of a finished run as a `Predictor`, with whatever its flow reads besides tracks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.engine.method import Results
from tavid_jax.methods.trajloom.cell_features import video_features
from tavid_jax.methods.trajloom.conditions import open_encoders
from tavid_jax.methods.trajloom.examples import Geometry
from tavid_jax.methods.trajloom.features import CellFeatures
from tavid_jax.methods.trajloom.forecaster import Forecaster
from tavid_jax.methods.trajloom.predictor import TrajLoomPredictor


@dataclasses.dataclass(frozen=True)
class CellConditions:
    """`cell_features.video_features` as conditions of a predictor; captions are not read.

    Attributes:
      geometry: of the clips.
      channels: of a token.
    """

    geometry: Geometry
    channels: int

    def video(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, "L N C"]:
        """Features of the history's frames."""
        geometry = self.geometry
        return video_features(frames, geometry.stride, self.channels, geometry.temporal_stride)

    def text(self, captions: Sequence[str]) -> Float[np.ndarray, "B E"]:
        """There are none: a flow that reads captions has encoders."""
        raise ValueError("captions are read by encoders, and this flow has none")


def trained_predictor(
    system: Any, results: Results, variant: str = "", **sampling: Any
) -> TrajLoomPredictor:
    """Opens a variant of a finished run to forecast clips one by one.

    Args:
      system: the run's `TrajLoom`.
      results: of its stages.
      variant: of `config.variants`; "" = the main one.
      **sampling: fields of `Sampling` in place of the run's, such as solver and steps.

    Raises:
      ValueError: an unknown variant; a flow whose encoders are not named in the config.
    """
    variant = variant or system.config.main_variant
    if variant not in system.config.variants:
        known = ", ".join(sorted(system.config.variants))
        raise ValueError(f"the run has no variant {variant!r}: there are {known}")
    trained = system.forecaster(results, variant)
    settings, chosen = trained.settings, dataclasses.replace(trained.sampling, **sampling)
    features = settings.features()
    conditions, made_by = None, "none"
    if isinstance(features, CellFeatures):
        conditions, made_by = CellConditions(settings.geometry, features.channels), "cells"
    elif features is not None:
        conditions = open_encoders(system.config, settings, keep="device")
        made_by = conditions.facts()
    facts = {**results.provenance, "variant": variant, "features": made_by}
    return TrajLoomPredictor(Forecaster(settings, trained.params, chosen), facts, conditions)
