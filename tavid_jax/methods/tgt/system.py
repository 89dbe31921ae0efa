"""TGT as a system: dense, then sparse trajectories; judged by where entities are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Results
from tavid_jax.methods.finetune.preview import data_sets
from tavid_jax.methods.finetune.samples import jobs_of, write_samples
from tavid_jax.methods.finetune.saving import sampling_of
from tavid_jax.methods.finetune.settings import model_of
from tavid_jax.methods.finetune.system import FinetuneSystem
from tavid_jax.methods.tgt import evaluation, settings
from tavid_jax.methods.tgt.draw import Draw
from tavid_jax.methods.tgt.method import Tgt
from tavid_jax.methods.tgt.preview import neighbourhood_pages
from tavid_jax.methods.tgt.variants import Models, read_variants
from tavid_jax.pipelines.backbones import Backbone
from tavid_jax.pipelines.opening import open_pipeline


class TgtSystem(FinetuneSystem):
    """Trains on clips with tracks and local captions: the config of fine-tuning, and `laca`,
    `rule` and `trajectories`."""

    trains: ClassVar[str] = "tgt"
    kind: ClassVar[type[Tgt]] = Tgt

    def __init__(self, config: Any):
        super().__init__(config)
        read_variants(config)
        main = config.get("main", "")
        if main and main not in config.stages:
            known = ", ".join(config.stages)
            raise ValueError(f"config.main {main!r} is none of the stages {known}")

    def additions(self, stage: Any, backbone: Backbone) -> dict[str, Any]:
        """What TGT needs besides fine-tuning."""
        del backbone
        settings.read_keep(self.config, stage)  # which says what does not fit together
        draw = settings.read_draw(self.config, stage)
        return dict(draw=draw, **settings.read_drops(self.config, stage))

    def _core(self, stage: Any) -> dict[str, Any]:
        """With the cross-attention beside the backbone's own."""
        core = super()._core(stage)
        core["backbone"] = settings.read_located(self.config, stage, core["backbone"])
        return core

    def main_draw(self) -> Draw:
        """Which trajectories the model that is sampled is given."""
        return settings.read_draw(self.config, self.config.stages[self.main_stage])

    def evaluate(self, results: Results, inputs: Any, report: Any) -> dict[str, Any]:
        """Judges the variants of `config.evaluate.tables`; without any, shows samples of clips."""
        config = self.config
        if not config.evaluate.get("tables", {}):
            pipeline = self.sampler(results, inputs) if self._has_model() else None
            return evaluation.show(config, self.main_draw(), pipeline, results, inputs, report)
        base = open_pipeline(config.model.backbone, config.checkpoint)
        sampling = sampling_of(config, model_of(config, config.stages[self.main_stage]))
        models = Models(base, sampling)
        return evaluation.evaluate(config, self, models, results, inputs, report)

    def sample(self, results: Results, inputs: Any, out_dir: Path) -> list[Path]:
        """The videos that `config.sampling` asks for; those of clips follow the clips' tracks."""
        pipeline = self.sampler(results, inputs)
        draw = self.main_draw()

        def located(clip: Clip, seed: int) -> dict[str, Any]:
            del seed
            return {"tracks": draw.known(clip)}

        jobs = jobs_of(self.config, inputs, pipeline, located)
        return write_samples(pipeline, jobs, Path(out_dir), self.config.get("sampling", {}))

    def preview(self, inputs: Any, report: Any) -> dict[str, Any]:
        """Draws clips, their trajectories, and which tokens will read which text; opens no
        transformer."""
        drawn, shown = super().preview(inputs, report), {}
        backbones = {
            name: self._core(stage)["backbone"]
            for name, stage in self.config.stages.items()
            if stage.kind == "train" and name in self.config.order
        }
        for name in data_sets(self.config):
            source = inputs.open(name)
            clips = [source[i] for i in range(min(self.config.report.scenes, len(source)))]
            shown[name] = neighbourhood_pages(self.config, name, clips, backbones, report)
        return {**drawn, "neighbourhoods": shown}
