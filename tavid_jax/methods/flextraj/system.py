"""FlexTraj as a system: a curriculum of stages, judged by whether videos follow the tracks."""

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
from tavid_jax.methods.flextraj import evaluation, settings
from tavid_jax.methods.flextraj.injection import inject
from tavid_jax.methods.flextraj.method import Flextraj
from tavid_jax.methods.flextraj.preview import granularity_pages, stage_pages
from tavid_jax.methods.flextraj.variants import Models, check_variants, control_fields
from tavid_jax.pipelines.backbones import Backbone
from tavid_jax.pipelines.opening import open_pipeline
from tavid_jax.places import Place


class FlextrajSystem(FinetuneSystem):
    """Trains on clips with tracks: the config of fine-tuning, and `follow` and `control`."""

    trains: ClassVar[str] = "flextraj"
    kind: ClassVar[type[Flextraj]] = Flextraj

    def __init__(self, config: Any):
        super().__init__(config)
        check_variants(config)

    def additions(self, stage: Any, backbone: Backbone) -> dict[str, Any]:
        """What FlexTraj needs besides fine-tuning."""
        del backbone
        return dict(
            controls=settings.read_controls(self.config, stage),
            schedule=settings.read_schedule(self.config, stage),
            draws=settings.read_draws(self.config, stage),
        )

    def _core(self, stage: Any) -> dict[str, Any]:
        """With a side network around the backbone, where `config.control` asks for it."""
        core = super()._core(stage)
        controlnet = settings.read_controlnet(self.config, stage)
        if controlnet is not None:
            core["backbone"] = inject(core["backbone"], controlnet)
        return core

    def export(self, results: Results, folder: Place) -> Path:
        """See `FinetuneSystem.export`; refuses models that no folder can hold."""
        self._check_kept(self.main_stage)
        return super().export(results, folder)

    def _check_kept(self, stage: str) -> None:
        """Raises ValueError for a stage whose model is for comparisons alone."""
        if settings.read_controlnet(self.config, self.config.stages[stage]) is not None:
            raise ValueError(
                f"stages.{stage} has control.injection 'residuals', which is for comparisons "
                "within a run: no folder holds such a model. Export a run whose last stage has "
                "'stream'"
            )

    def evaluate(self, results: Results, inputs: Any, report: Any) -> dict[str, Any]:
        """Judges the variants of `config.evaluate.order`; without any, shows samples of clips."""
        config = self.config
        if not config.evaluate.get("order", ()):
            pipeline = self.sampler(results, inputs) if self._has_model() else None
            return evaluation.show(config, pipeline, results, inputs, report)
        base = open_pipeline(config.model.backbone, config.checkpoint)
        sampling = sampling_of(config, model_of(config, config.stages[self.main_stage]))
        models = Models(base, sampling)
        return evaluation.evaluate(config, self, models, results, inputs, report)

    def sample(self, results: Results, inputs: Any, out_dir: Path) -> list[Path]:
        """The videos that `config.sampling` asks for; those of clips follow the clips' tracks."""
        pipeline, follow = self.sampler(results, inputs), evaluation.base_follow(self.config)

        def steered(clip: Clip, seed: int) -> dict[str, Any]:
            return control_fields(clip, follow, seed)

        jobs = jobs_of(self.config, inputs, pipeline, steered)
        return write_samples(pipeline, jobs, Path(out_dir), self.config.get("sampling", {}))

    def preview(self, inputs: Any, report: Any) -> dict[str, Any]:
        """Draws clips, and the condition videos that their tracks become; opens no transformer."""
        drawn, clips = super().preview(inputs, report), []
        for name in data_sets(self.config):
            source = inputs.open(name)
            clips = [source[i] for i in range(min(self.config.report.scenes, len(source)))]
            if name == "train":
                drawn["curriculum"] = stage_pages(self.config, clips, report)
        # Of the test set, if there is one.
        drawn["controls"] = granularity_pages(self.config, name, clips, report) if clips else 0
        return drawn
