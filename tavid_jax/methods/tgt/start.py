"""What a location-aware cross-attention starts from: the published one of its blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tavid_jax.engine.method import Stored
from tavid_jax.models.layers.located import Laca
from tavid_jax.models.layers.located.params import NORMS, PROJECTIONS
from tavid_jax.pipelines.located import NODE

CROSS = "blocks/cross"


@dataclasses.dataclass(frozen=True)
class _Some:
    """Some blocks of a stored stack, in float32."""

    stack: Stored
    blocks: tuple[int, ...] | None

    @property
    def shape(self) -> tuple[int, ...]:
        count = self.stack.shape[0] if self.blocks is None else len(self.blocks)
        return (count, *self.stack.shape[1:])

    def read(self) -> np.ndarray:
        stack = self.stack.read()
        chosen = stack if self.blocks is None else stack[list(self.blocks)]
        return np.asarray(chosen, np.float32)


def copied(leaves: Mapping[str, Stored], prefix: str, laca: Laca) -> dict[str, Stored]:
    """{path: parameter} of the copy, read when it is asked for; of a low-rank one, of its norms.

    Args:
      leaves: {path: parameter} of a checkpoint.
      prefix: of the backbone's paths.
      laca: what is copied.
    """
    published, own = f"{prefix}/{CROSS}/", f"{prefix}/{NODE}/"
    names = NORMS if laca.rank is not None else PROJECTIONS + NORMS
    return {
        own + path.removeprefix(published): _Some(leaf, laca.layers)
        for path, leaf in leaves.items()
        if path.startswith(published) and path.removeprefix(published).split("/")[0] in names
    }
