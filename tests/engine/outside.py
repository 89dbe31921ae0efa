"""A method some of whose parameters lie outside of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.engine import toy


class Leaf:
    """A parameter that counts how often it is read, and who else was being read."""

    def __init__(self, values: np.ndarray, log: list[str], path: str):
        self.values, self.log, self.path = values, log, path

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def read(self) -> np.ndarray:
        self.log.append(self.path)
        return self.values


class Pretrained(toy.Fit):
    """The toy's network with published layers, kept in bfloat16, a frozen head and statistics."""

    trainable_paths = ("net/.*",)
    frozen_paths = ("net/table", "net/head/kernel")

    def __init__(self, **changed: np.ndarray):
        self.log: list[str] = []
        self.values = published() | changed
        self.mark = "1a2b3c"

    def init(self, rng: jax.Array) -> dict[str, Any]:
        params = super().init(rng)
        params["net"]["head"]["kernel"] = params["net"]["head"]["kernel"].astype(jnp.bfloat16)
        return params

    def pretrained(self) -> Mapping[str, Leaf]:
        return {path: Leaf(value, self.log, path) for path, value in self.values.items()}

    def sources(self) -> Mapping[str, str]:
        return {"net": self.mark}


def published() -> dict[str, np.ndarray]:
    """Float32 as on disk, whatever the method keeps."""
    rng = np.random.default_rng(0)
    shapes = {
        "net/layers/kernel": (2, toy.DIM, toy.DIM),
        "net/head/kernel": (toy.DIM, 3),
        "stats/mean": (toy.DIM,),
        "stats/std": (toy.DIM,),
    }
    return {path: 1 + 0.1 * rng.normal(size=s).astype(np.float32) for path, s in shapes.items()}
