"""A finished run as a predictor of tracks."""

from __future__ import annotations

import dataclasses
from typing import Any

from tavid_jax.engine.method import Results
from tavid_jax.methods.whn.forecaster import WhnForecaster
from tavid_jax.methods.whn.predictor import WhnPredictor


def trained_predictor(system: Any, results: Results, **sampling: Any) -> WhnPredictor:
    """Opens a finished run to forecast clips one by one.

    Args:
      system: the run's `WhnSystem`.
      results: of its stages.
      **sampling: fields of `Sampling` in place of the run's, such as solver and times.

    Raises:
      ValueError: a stage that has not finished, or a solver or horizon that there is not.
    """
    settings = system.settings()
    stages = tuple(system.config.order)
    params = {**results.params(*stages), **settings.features.params()}
    chosen = dataclasses.replace(system.sampling, **sampling)
    facts = {**results.provenance, **settings.features.sources()}
    return WhnPredictor(WhnForecaster(settings, params, chosen), facts)
