"""FlexTraj as a system: a curriculum of stages, judged by whether videos follow the tracks."""

from __future__ import annotations

from typing import Any, ClassVar

from tavid_jax.methods.finetune.system import FinetuneSystem
from tavid_jax.methods.flextraj import settings
from tavid_jax.methods.flextraj.injection import inject
from tavid_jax.methods.flextraj.method import Flextraj
from tavid_jax.pipelines.backbones import Backbone


class FlextrajSystem(FinetuneSystem):
    """Trains on clips with tracks: the config of fine-tuning, and `follow` and `control`."""

    trains: ClassVar[str] = "flextraj"
    kind: ClassVar[type[Flextraj]] = Flextraj

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

    def evaluate(self, results, inputs, report):
        return {"seconds": {}}

    def export(self, results, folder):
        self._check_kept(self.main_stage)
        return folder

    def _check_kept(self, stage: str) -> None:
        """Raises ValueError for a stage whose model is for comparisons alone."""
        if settings.read_controlnet(self.config, self.config.stages[stage]) is not None:
            raise ValueError(
                f"stages.{stage} has control.injection 'residuals', which is for comparisons "
                "within a run: no folder holds such a model. Export a run whose last stage has "
                "'stream'"
            )
