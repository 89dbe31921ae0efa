"""A cache that a config names, in place of the one that a stage of the run would make."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from tavid_jax.data.latent_statistics import read_statistics
from tavid_jax.pipelines.latent_cache.reader import LatentCache
from tavid_jax.places import Place, place


def given_latents(config: Any, workdir: Place) -> dict[str, Callable[[], LatentCache]]:
    """What opens `config.latents`, by name of the set; {} if the config names no cache.

    The compute stage whose method is "latents" has the training part for its examples, and
    "<stage>_eval" is the held-out part, for `validate`. Both must be of the run's VAE, as far as a
    finished stage tells which one that is, and belong to `config.latent_statistics`.
    """
    if not config.get("latents"):
        return {}
    stages = [
        name
        for name in config.order
        if config.stages[name].kind == "compute" and config.stages[name].method == "latents"
    ]
    opened: dict[str, Callable[[], LatentCache]] = {}
    for stage in stages:
        for name, split in ((stage, "train"), (f"{stage}_eval", "eval")):
            opened[name] = functools.partial(_open, config, workdir, stage, split)
    return opened


def _open(config: Any, workdir: Place, stage: str, split: str) -> LatentCache:
    given = config.get("latent_statistics")
    cache = LatentCache(
        config.latents,
        split,
        vae=vae_of(config, workdir, stage),
        statistics=read_statistics(given) if given else None,
    )
    cache.name = stage if split == "train" else f"{stage}_{split}"
    return cache


def vae_of(config: Any, workdir: Place, stage: str) -> str:
    """Fingerprint of the finished VAE that a stage starts from, "" if there is none."""
    for name in config.stages[stage].init_from:
        done = place(workdir) / "stages" / name / "done.json"
        if config.stages[name].method == "vae" and done.exists():
            return json.loads(done.read_text())["weights"]
    return ""
