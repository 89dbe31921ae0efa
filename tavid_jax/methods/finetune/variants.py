"""What is compared: stages of one run, or the checkpoint itself, in one pipeline."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any

from tavid_jax.engine.method import Params, Results
from tavid_jax.methods.finetune.method import BACKBONE, Finetune
from tavid_jax.pipelines.folder import TRANSFORMER
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.settings import Sampling


class Models:
    """The models of a run, opened one after the other around the weights of its checkpoint.

    Programs are compiled once for all stages of the same parameters, and their weights alone are
    exchanged.

    Args:
      base: the pipeline of the checkpoint.
      sampling: how all of them are sampled.
    """

    def __init__(self, base: Pipeline, sampling: Sampling):
        self.base, self.sampling = base, sampling
        self._opened: dict[Hashable, Pipeline] = {}

    def open(self, method: Finetune | None, params: Params) -> Pipeline:
        """The pipeline of what a stage has trained; the one before of the same kind is gone.

        Args:
          method: of the stage; None is the checkpoint itself.
          params: what the stage left, in the method's tree.
        """
        if method is None:
            return self.base
        base, model = self.base.parts[TRANSFORMER], method.backbone.model
        key = model.config, model.lora, self.kind(method)
        if key not in self._opened:
            fields = {"parts": dict(self.base.parts), **self.fields(method)}
            self._opened[key] = dataclasses.replace(self.base, **fields)
        pipeline = self._opened[key]
        pipeline.parts[TRANSFORMER] = dataclasses.replace(
            base,
            module=base.module.clone(config=model.config, lora=model.lora),
            added=self.added(params[BACKBONE]),
        )
        return pipeline

    def kind(self, method: Any) -> Hashable:
        """What decides the programs besides config and adapters."""
        del method
        return None

    def fields(self, method: Any) -> dict[str, Any]:
        """Of the `Pipeline`, those that differ from the checkpoint's."""
        del method
        return {}

    def added(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """What of a backbone's parameters goes beside those of the checkpoint: what that lacks."""
        leaves = self.base.parts[TRANSFORMER].opened.leaves
        there = {path.partition("/")[0] for path in leaves}
        return {name: node for name, node in weights.items() if name not in there}


def open_stage(models: Models, system: Any, results: Results, name: str) -> Pipeline:
    """The model of a stage, or of one of its snapshots ("stage@200"); "" is the checkpoint.

    Args:
      models: opens it.
      system: gives the methods of its stages.
      results: of the run.
      name: see above.
    """
    if not name:
        return models.open(None, {})
    stage = name.partition("@")[0]
    init_from = system.config.stages[stage].init_from
    return models.open(system.method(stage), results.params(*init_from, name))


def stages_of(variant: Any) -> tuple[str, ...]:
    """What trained a variant, one stage for each seed; "" is the checkpoint itself."""
    stage = variant.stage
    return (stage,) if isinstance(stage, str) else tuple(stage)
