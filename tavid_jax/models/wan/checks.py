"""What the Wan transformer refuses, in one sentence each."""

import math
from collections.abc import Mapping
from typing import Any

from tavid_jax.models.layers.located import Laca
from tavid_jax.models.layers.located.params import check_layers
from tavid_jax.models.layers.ports import AttentionBias, Probe
from tavid_jax.models.layers.streams import CONDITION, IMAGE, TEXT, VIDEO
from tavid_jax.models.wan.block import Time
from tavid_jax.models.wan.config import WanConfig

# Which keys the queries of a stream see.
SEEN = {VIDEO: (VIDEO, CONDITION, TEXT, IMAGE), CONDITION: (CONDITION, TEXT, IMAGE)}


def check_groups(times: Mapping[str, Time], grid: tuple[int, int, int]) -> None:
    """Raises ValueError for timesteps whose groups do not divide the tokens."""
    tokens = math.prod(grid)
    for name, time in times.items():
        groups = time.vector.shape[1]
        if tokens % groups:
            raise ValueError(
                f"{groups} timesteps per example for {tokens} {name} tokens: give one, one per "
                f"latent frame ({grid[0]}), or one per token"
            )


def check_context(context: Mapping[str, Any], caches: Mapping[str, Any], has_image: bool) -> None:
    """Raises ValueError unless text, and image where the model reads it, come exactly once."""
    for name in caches:
        if name not in (TEXT, IMAGE, CONDITION):
            raise ValueError(
                f"kv_in[{name!r}]: caches of {TEXT}, {IMAGE} and {CONDITION} can be read"
            )
    for name in (TEXT, IMAGE) if has_image else (TEXT,):
        if (name in context) == (name in caches):
            raise ValueError(f"give {name} tokens, or their cache in ports.kv_in: exactly one")
    if not has_image and (IMAGE in context or IMAGE in caches):
        raise ValueError("image tokens: this model has no image branch (config.image_dim)")


def check_pair(bias: AttentionBias) -> None:
    """Raises ValueError for queries that never meet these keys."""
    if bias.key not in SEEN.get(bias.query, ()):
        raise ValueError(
            f"attention_bias: {bias.query} tokens do not attend to {bias.key} tokens; there are "
            + "; ".join(f"{query} to {', '.join(keys)}" for query, keys in SEEN.items())
        )


def check_probe(probe: Probe, tokens: int, biased: bool) -> None:
    """Raises ValueError for rows that are no video tokens, and where a bias changes the map."""
    if probe.rows[1] > tokens:
        raise ValueError(f"probe.rows={probe.rows} must lie within the {tokens} video tokens")
    if biased:
        raise ValueError("the probe does not know text_bias: give it the whole text")


def check_located(config: WanConfig, laca: Laca) -> None:
    """Raises ValueError for a model that cannot have this location-aware cross-attention."""
    if config.image_dim is not None:
        raise ValueError(
            "location-aware cross-attention: this model's cross-attention also reads an image "
            f"(image_dim={config.image_dim}), which no trajectory has; use a text-to-video model"
        )
    check_layers(laca, config.num_layers)
