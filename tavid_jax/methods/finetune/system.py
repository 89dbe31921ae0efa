"""Fine-tuning as a system: from its config to the methods of its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ml_collections import ConfigDict

from tavid_jax.engine.method import Method, Results, System
from tavid_jax.methods.finetune import evaluation, settings
from tavid_jax.methods.finetune.encoding import Encode, encode_method
from tavid_jax.methods.finetune.judging import NONE, check_judge
from tavid_jax.methods.finetune.method import CODER, TEXT, TOWER, Finetune
from tavid_jax.methods.finetune.objectives import objective_of, read_flow
from tavid_jax.methods.finetune.pages import BASE, SAMPLE
from tavid_jax.methods.finetune.pretrained import (
    Pretrained,
    pretrained_backbone,
    pretrained_parts,
)
from tavid_jax.methods.finetune.preview import preview
from tavid_jax.methods.finetune.samples import jobs_of, write_samples
from tavid_jax.methods.finetune.saving import FOLDER, save_run
from tavid_jax.methods.finetune.tower import Tower
from tavid_jax.methods.finetune.words import Words
from tavid_jax.models.layers.autoencoder import VideoAutoencoder
from tavid_jax.models.layers.space_to_depth import SpaceToDepthConfig
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.pipelines.backbones import Backbone
from tavid_jax.pipelines.folder import TOKENIZER
from tavid_jax.pipelines.opening import open_pipeline
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.pretrained import locate
from tavid_jax.places import Place


class FinetuneSystem(System):
    """Trains adapters, or everything, on clips or on what an earlier stage has encoded."""

    #: what its stages call the method that they train, and the class of it
    trains: ClassVar[str] = "finetune"
    kind: ClassVar[type[Finetune]] = Finetune

    def __init__(self, config: Any):
        self.config = config
        if "evaluate" in config:  # older runs have none
            evaluate = config.evaluate
            check_judge(evaluate.judge, evaluate.goals.to_dict(), self._has_model())

    def method(self, stage: str) -> Method:
        """The method of a stage: `method` is what the system trains ("finetune"), or encode."""
        options = self.config.stages[stage]
        made = {self.trains: self._trained, "encode": self._encode}
        if options.method not in made:
            known = ", ".join(made)
            raise ValueError(f"stages.{stage}.method {options.method!r}: there is {known}")
        if self.config.cache and options.kind == "train" and options.data not in options.cached_by:
            raise ValueError(
                f"config.cache {self.config.cache} would not be read: stage {stage!r} trains from "
                f"data {options.data!r}; leave the cache out, or take a preset with an encode stage"
            )
        return made[options.method](options)

    def additions(self, stage: Any, backbone: Backbone) -> dict[str, Any]:
        """Arguments of the class of `kind` besides those of `Finetune`."""
        del stage, backbone
        return {}

    def _encode(self, stage: Any) -> Encode:
        return encode_method(self.config, stage, self.kind(**self._core(stage)))

    def _core(self, stage: Any) -> dict[str, Any]:
        """What is trained, without weights and encoders."""
        model = settings.model_of(self.config, stage)
        coder, tiles = settings.read_autoencoder(self.config)
        backbone = settings.read_backbone(model, self.config.data, coder)
        return dict(
            backbone=backbone,
            objective=objective_of(backbone, read_flow(model)),
            autoencoder=coder,
            tiles=tiles,
            conditioning=settings.read_conditioning(self.config, stage),
            **self.additions(stage, backbone),
        )

    def _trained(self, stage: Any) -> Finetune:
        core, model = self._core(stage), settings.model_of(self.config, stage)
        reads_clips = stage.data not in stage.cached_by
        words = settings.read_words(self.config, self.tokenizer()) if reads_clips else None
        tower = settings.read_tower(self.config) if reads_clips else None
        return self.kind(
            **core,
            words=words,
            trains_text=self.config.text.train,
            outside=self._outside(model, core["backbone"], core["autoencoder"], words, tower),
            tower=tower,
            frozen_int8=stage.get("frozen_dtype", "") == "int8",  # older runs have none
        )

    def _outside(
        self,
        model: Any,
        backbone: Backbone,
        coder: VideoAutoencoder,
        words: Words | None,
        tower: Tower | None,
    ) -> Pretrained:
        """The weights of the checkpoint that a method reads: its encoders only for clips."""
        checkpoint = self.config.checkpoint
        parts: dict[str, Any] = {} if words is None else {TEXT: words.module.config}
        if words is not None and not isinstance(coder.config, SpaceToDepthConfig):
            parts[CODER] = coder.config
        if tower is not None:
            parts[TOWER] = tower.module.config
        found = pretrained_backbone(checkpoint, model, backbone)
        return found | pretrained_parts(checkpoint, parts)

    def tokenizer(self) -> Tokenizer:
        """The checkpoint's own."""
        checkpoint = self.config.checkpoint
        if not checkpoint:
            return Tokenizer.captions()
        return Tokenizer.open(locate(checkpoint, [TOKENIZER])[TOKENIZER])

    # ---- results ---------------------------------------------------------------------------------

    def export(self, results: Results, folder: Place) -> Path:
        """What was trained last, as a folder that `tavid_jax.load` and diffusers open.

        Returns the folder, or the local copy of one in a bucket.
        """
        stage = self.main_stage
        return save_run(self.config, stage, self.method(stage), results, folder)

    @property
    def main_stage(self) -> str:
        """The stage whose result is sampled and saved: `config.main`, or the last that trains."""
        main = self.config.get("main", "")
        if main and main not in self.config.order:
            known = ", ".join(self.config.order)
            raise ValueError(f"config.main {main!r} is none of the stages {known}")
        trained = [name for name in self.config.order if self.config.stages[name].kind == "train"]
        return main or trained[-1]

    def sampler(self, results: Results, inputs: Any) -> Pipeline:
        """The trained model as it is stored, in the folder of the run."""
        return open_pipeline(self.export(results, inputs.workdir / FOLDER))

    def evaluate(self, results: Results, inputs: Any, report: Any) -> dict[str, Any]:
        """Samples and judges what was trained, beside what it began with; fills the report."""
        return evaluation.evaluate(
            self.config, self._models(results, inputs), results, inputs, report
        )

    def _models(self, results: Results, inputs: Any) -> dict[str, Pipeline]:
        """What can be sampled: the trained model, and where there is a judge the checkpoint."""
        config, models = self.config, {}
        if self._has_model():
            models[SAMPLE] = self.sampler(results, inputs)
        if config.checkpoint and config.evaluate.judge != NONE:
            models[BASE] = open_pipeline(config.model.backbone, config.checkpoint)
        return models

    def _has_model(self) -> bool:
        """Whether all parts are trained or lie somewhere, so that the result can be sampled."""
        coder, _ = settings.read_autoencoder(self.config)
        is_whole = self.config.text.train and isinstance(coder.config, SpaceToDepthConfig)
        return bool(self.config.checkpoint) or is_whole

    def preview(self, inputs: Any, report: Any) -> dict[str, Any]:
        """Draws what will be trained on, before anything has been."""
        return preview(self.config, self.reading_clips(), inputs, report)

    def reading_clips(self) -> Finetune:
        """The method of the first stage that trains, from clips, whatever it will read."""
        stages = self.config.stages.values()
        stage = ConfigDict(next(stage for stage in stages if stage.kind == "train").to_dict())
        stage.data, stage.cached_by = "train", ()
        return self._trained(stage)

    def sample(self, results: Results, inputs: Any, out_dir: Path) -> list[Path]:
        """The videos that `config.sampling` asks for."""
        pipeline = self.sampler(results, inputs)
        jobs = jobs_of(self.config, inputs, pipeline)
        return write_samples(pipeline, jobs, Path(out_dir), self.config.get("sampling", {}))
