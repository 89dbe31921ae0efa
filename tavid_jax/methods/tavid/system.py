"""TAViD as a system: fine-tuning's stages with targets, judged by what is touched."""

from __future__ import annotations

from typing import Any, ClassVar

from tavid_jax.engine.method import Results
from tavid_jax.methods.finetune.preview import data_sets
from tavid_jax.methods.finetune.settings import published_of
from tavid_jax.methods.finetune.system import FinetuneSystem
from tavid_jax.methods.tavid import evaluation, settings
from tavid_jax.methods.tavid.method import Tavid
from tavid_jax.methods.tavid.preview import target_pages
from tavid_jax.pipelines.backbones import Backbone
from tavid_jax.pipelines.opening import open_pipeline
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.targets import TargetReader


class TavidSystem(FinetuneSystem):
    """Trains on clips whose target is marked: the config of fine-tuning, and the nodes `targets`,
    `attention` and `masks`."""

    trains: ClassVar[str] = "tavid"
    kind: ClassVar[type[Tavid]] = Tavid

    def additions(self, stage: Any, backbone: Backbone) -> dict[str, Any]:
        """What TAViD needs besides fine-tuning."""
        return dict(
            reader=TargetReader(
                settings.read_targets(self.config),
                self.tokenizer(),
                backbone,
                backbone.model.config.text_length,
                wan=published_of(self.config.model).family == "wan",
            ),
            attention=settings.read_attention(self.config, stage),
            masks=settings.read_masks(self.config, stage),
        )

    @property
    def main_stage(self) -> str:
        """The stage whose result is sampled, `config.main`; "" where nothing is trained."""
        if self.config.order and self.config.main not in self.config.order:
            known = ", ".join(self.config.order)
            raise ValueError(f"config.main {self.config.main!r} is none of the stages {known}")
        return self.config.main if self.config.order else ""

    def sampler(self, results: Results, inputs: Any) -> Pipeline:
        """The trained model; of the baselines that train nothing, the checkpoint as it is."""
        return super().sampler(results, inputs) if self.main_stage else self._checkpoint()

    def evaluate(self, results: Results, inputs: Any, report: Any) -> dict[str, Any]:
        """Judges the variants of `config.evaluate.sets`; without any, shows samples of clips."""
        if not self.config.evaluate.sets:
            return super().evaluate(results, inputs, report)
        base = self._checkpoint()
        return evaluation.evaluate(self.config, self, base, results, inputs, report)

    def _checkpoint(self) -> Pipeline:
        """The model that all stages began with."""
        if not self.config.checkpoint:
            raise ValueError("TAViD begins with a published model: give --config.checkpoint=FOLDER")
        return open_pipeline(self.config.model.backbone, self.config.checkpoint)

    def preview(self, inputs: Any, report: Any) -> dict[str, Any]:
        """Draws clips, and how their masks and words will be read, before anything is trained."""
        drawn = super().preview(inputs, report)
        method, targets = self.reading_clips(), {}
        for name in data_sets(self.config):
            source = inputs.open(name)
            clips = [source[i] for i in range(min(self.config.report.scenes, len(source)))]
            targets[name] = target_pages(self.config, method, name, clips, report)
        return {**drawn, "targets": targets}
