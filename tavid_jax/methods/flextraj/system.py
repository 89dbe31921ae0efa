"""FlexTraj as a system: a curriculum of stages, judged by whether videos follow the tracks."""

from __future__ import annotations

from typing import Any, ClassVar

from tavid_jax.methods.finetune.system import FinetuneSystem
from tavid_jax.methods.flextraj import settings
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

    def evaluate(self, results, inputs, report):
        return {"seconds": {}}

    def export(self, results, folder):
        return folder
