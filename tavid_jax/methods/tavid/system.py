"""TAViD as a system: fine-tuning's stages with targets, judged by what is touched."""

from __future__ import annotations

from typing import Any, ClassVar

from tavid_jax.methods.finetune.settings import published_of
from tavid_jax.methods.finetune.system import FinetuneSystem
from tavid_jax.methods.tavid import settings
from tavid_jax.methods.tavid.method import Tavid
from tavid_jax.pipelines.backbones import Backbone
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
