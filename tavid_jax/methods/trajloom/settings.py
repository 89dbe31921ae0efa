"""From a config to the frozen records that models and methods are built from. Read here, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from tavid_jax.diffusion.onpolicy import OnPolicyConfig
from tavid_jax.methods.trajloom.examples import Features, Geometry
from tavid_jax.methods.trajloom.features import SOURCES, Encoders, features_of
from tavid_jax.methods.trajloom.flow import FlowLosses
from tavid_jax.methods.trajloom.vae import VAELosses
from tavid_jax.methods.trajloom.visibility import VisibilityLosses
from tavid_jax.models.latte.flow import TrackFlow, TrackFlowConfig
from tavid_jax.models.latte.vae import TrackVAE, TrackVAEConfig
from tavid_jax.models.latte.visibility import VisibilityConfig, VisibilityHead


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything of TrajLoom that a config decides, for one stage or one variant.

    Attributes:
      geometry: sizes of clips.
      vae, flow, visibility: the three modules.
      vae_losses, flow_losses, visibility_losses: how they learn.
      source: of the features beside tracks, of `features.SOURCES`.
    """

    geometry: Geometry
    vae: TrackVAE
    flow: TrackFlow
    visibility: VisibilityHead
    vae_losses: VAELosses
    flow_losses: FlowLosses
    visibility_losses: VisibilityLosses
    source: str = "cells"

    def features(self, encoders: Encoders | None = None) -> Features | None:
        """What the flow reads besides tracks; encoders if there are any at hand."""
        return features_of(self.flow.config, self.source, encoders)


def read_settings(config: Any, *overrides: Any) -> Settings:
    """Build the settings; `overrides` are `options` of stages: partial {"model", "learn"} trees.

    Raises ValueError naming the field that no model or loss has.
    """
    merged = merged_options(config, overrides)
    model, learn, data = merged.model, merged.learn, config.data
    geometry = Geometry(tuple(data.size_hw), data.stride, data.origin, data.frames)
    sizes = dict(size_hw=geometry.size_hw, patch=geometry.stride, num_frames=geometry.frames)
    running = dict(dtype=jnp.dtype(model.dtype), remat=model.remat, scan=model.scan)
    channels = model.vae.latent_channels
    if config.features not in SOURCES:
        raise ValueError(f"config.features {config.features!r} is none of {', '.join(SOURCES)}")
    learned = as_fields(learn.flow)
    rollout = as_fields(learned.pop("rollout"))
    return Settings(
        geometry=geometry,
        vae=TrackVAE(
            build(
                TrackVAEConfig,
                "model.vae",
                **sizes,
                query_row_col=geometry.query_row_col,
                **as_fields(model.vae),
            ),
            **running,
        ),
        flow=TrackFlow(
            build(
                TrackFlowConfig,
                "model.flow",
                **sizes,
                latent_channels=channels,
                **as_fields(model.flow),
            ),
            **running,
        ),
        visibility=VisibilityHead(
            build(
                VisibilityConfig,
                "model.visibility",
                latent_channels=channels,
                **as_fields(model.visibility),
            ),
            dtype=jnp.dtype(model.dtype),
        ),
        vae_losses=build(VAELosses, "learn.vae", **as_fields(learn.vae)),
        flow_losses=build(
            FlowLosses,
            "learn.flow",
            **learned,
            rollout=build(OnPolicyConfig, "learn.flow.rollout", **rollout),
        ),
        visibility_losses=build(
            VisibilityLosses, "learn.visibility", **as_fields(learn.visibility)
        ),
        source=config.features,
    )


def merged_options(config: Any, overrides: Sequence[Any]) -> ConfigDict:
    """{"model", "learn"} of a config with the `options` of stages, partial trees of both, over it.

    Raises ValueError naming the tree that there is not.
    """
    merged = ConfigDict({"model": config.model.to_dict(), "learn": config.learn.to_dict()})
    for override in overrides:
        unknown = sorted(set(override) - set(merged))
        if unknown:
            raise ValueError(f"options.{unknown[0]} of a stage: there are model and learn")
        merged.update(override)
    return merged


def build(record: type, place: str, **fields: Any) -> Any:
    """A record from config fields; a field that it does not have is named with its place."""
    unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(record)})
    if unknown:
        known = ", ".join(field.name for field in dataclasses.fields(record))
        raise ValueError(f"{place}.{unknown[0]} is no setting; there are {known}")
    return record(**fields)


def as_fields(config: ConfigDict) -> dict[str, Any]:
    """A config tree as keyword arguments; lists become tuples, so that records stay hashable."""

    def freeze(value: Any) -> Any:
        return tuple(freeze(v) for v in value) if isinstance(value, (list, tuple)) else value

    return {key: freeze(value) for key, value in config.items()}
