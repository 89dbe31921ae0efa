"""From a config to the frozen records that models and methods are built from. Read here, once."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from tavid_jax.methods.trajloom.settings import as_fields, build, merged_options
from tavid_jax.methods.whn.examples import Window
from tavid_jax.methods.whn.flow import FlowLosses
from tavid_jax.methods.whn.frames import (
    KINDS,
    CellPictures,
    DinoPictures,
    FrameFeatures,
    FunctionPictures,
)
from tavid_jax.methods.whn.space import Space
from tavid_jax.methods.whn.vae import VAELosses
from tavid_jax.models.vision.config import VIT_PRESETS
from tavid_jax.models.whn.config import WhnConfig, WhnVAEConfig
from tavid_jax.models.whn.denoiser import WhnDenoiser
from tavid_jax.models.whn.vae import WhnVAE


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything of WHN that a config decides, for one stage or for sampling.

    Attributes:
      space: sizes of clips, and the VAE if there is one.
      flow: the denoiser.
      features: of the picture.
      vae_losses, flow_losses: how they learn.
    """

    space: Space
    flow: WhnDenoiser
    features: FrameFeatures
    vae_losses: VAELosses = VAELosses()
    flow_losses: FlowLosses = FlowLosses()

    @property
    def window(self) -> Window:
        """Sizes of clips."""
        return self.space.window


def read_settings(config: Any, *overrides: Any) -> Settings:
    """Build the settings; `overrides` are `options` of stages: partial {"model", "learn"} trees.

    Raises ValueError naming the field that no model or loss has.
    """
    merged = merged_options(config, overrides)
    model, learn, data = merged.model, merged.learn, config.data
    window = Window(tuple(data.size_hw), data.stride, data.origin, data.frames)
    features = _features(window, model.frame)
    told = dict(frame_dim=features.width, frame_grid_hw=features.tokens_hw)
    running = dict(dtype=jnp.dtype(model.dtype), remat=model.remat, scan=model.scan)
    vae = None
    if not model.raw:
        fields = dict(num_frames=window.frames, grid_hw=window.grid_hw, **told)
        vae = WhnVAE(build(WhnVAEConfig, "model.vae", **fields, **as_fields(model.vae)), **running)
    space = Space(window, vae)
    flow = build(
        WhnConfig,
        "model.flow",
        num_frames=window.frames,
        grid_hw=space.state_hw,
        channels=space.channels,
        raw=model.raw,
        **told,
        **as_fields(model.flow),
    )
    return Settings(
        space=space,
        flow=WhnDenoiser(flow, **running),
        features=features,
        vae_losses=build(VAELosses, "learn.vae", **as_fields(learn.vae)),
        flow_losses=build(FlowLosses, "learn.flow", **as_fields(learn.flow)),
    )


def _features(window: Window, frame: ConfigDict) -> FrameFeatures:
    if frame.kind == "cells":
        return CellPictures(window.size_hw, frame.patch, frame.channels)
    if frame.kind == "function":
        return FunctionPictures(frame.function, tuple(frame.tokens_hw), frame.channels)
    if frame.kind != "dinov2":
        raise ValueError(f"model.frame.kind {frame.kind!r} is none of {', '.join(KINDS)}")
    known = [name for name in VIT_PRESETS if name.startswith("dinov2")]
    if frame.model not in known:
        raise ValueError(f"model.frame.model {frame.model!r} is none of {', '.join(known)}")
    model = VIT_PRESETS[frame.model]
    return DinoPictures(window.size_hw, model, frame.image_size, frame.checkpoint)
