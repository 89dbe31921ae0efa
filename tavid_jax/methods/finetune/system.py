"""Fine-tuning as a system: from its config to the methods of its stages."""

from __future__ import annotations

from typing import Any

from tavid_jax.engine.method import Method, System
from tavid_jax.methods.finetune import settings
from tavid_jax.methods.finetune.method import Finetune
from tavid_jax.methods.finetune.objectives import FlowMatching, objective_of
from tavid_jax.models.text.tokenizer import Tokenizer


class FinetuneSystem(System):
    """Trains adapters, or everything, on clips or on what an earlier stage has encoded."""

    def __init__(self, config: Any):
        self.config = config

    def method(self, stage: str) -> Method:
        """The method of a stage: `method` is finetune."""
        options = self.config.stages[stage]
        if options.method != "finetune":
            raise ValueError(f"stages.{stage}.method {options.method!r}: there is finetune")
        return self._finetune(options)

    def _finetune(self, stage: Any) -> Finetune:
        model = settings.model_of(self.config, stage)
        coder, tiles = settings.read_autoencoder(self.config)
        backbone = settings.read_backbone(model, self.config.data, coder)
        flow = FlowMatching(model.shift, tuple(model.levels), model.predicts, model.weighting)
        reads_clips = stage.data not in stage.cached_by
        words = settings.read_words(self.config, self._tokenizer()) if reads_clips else None
        return Finetune(
            backbone,
            objective_of(backbone, flow),
            coder,
            tiles,
            words,
            trains_text=self.config.text.train,
            conditioning=settings.read_conditioning(self.config, stage),
        )

    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.captions()
