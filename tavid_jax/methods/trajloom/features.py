"""What a flow reads of a clip besides its tracks: features of its video, and of its caption."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.engine.method import Spec
from tavid_jax.methods.trajloom.cell_features import video_features
from tavid_jax.methods.trajloom.examples import Features, Geometry
from tavid_jax.models.latte.flow_config import TrackFlowConfig

#: How a config may ask for features: from pixels, by published encoders, or not at all.
SOURCES = ("cells", "encoders", "none")


@runtime_checkable
class Encoders(Protocol):
    """Published encoders; see `pipelines.track_conditions`."""

    def video(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, "L N C"]:
        """Latents of a history's frames."""
        ...

    def text(self, captions: list[str]) -> Float[np.ndarray, "B E"]:
        """Pooled features of captions."""
        ...


@dataclasses.dataclass(frozen=True)
class CellFeatures:
    """`video_features` of the history, `channels` a token."""

    channels: int

    def spec(self, geometry: Geometry) -> dict[str, Spec]:
        return {"video": video_spec(geometry, self.channels)}

    def __call__(self, clip: Clip, geometry: Geometry) -> dict[str, np.ndarray]:
        frames = _history(clip, geometry)
        stride, every = geometry.stride, geometry.temporal_stride
        return {"video": video_features(frames, stride, self.channels, every)}


@dataclasses.dataclass(frozen=True)
class EncodedFeatures:
    """Latents of the history's video and pooled features of the caption, by published encoders.

    Attributes:
      channels: of the video's latents, 0 for none.
      width: of the caption's features, 0 for none.
      encoders: what makes them; None where they are read from a cache.
    """

    channels: int
    width: int
    encoders: Encoders | None = None

    def spec(self, geometry: Geometry) -> dict[str, Spec]:
        spec = {"video": video_spec(geometry, self.channels)} if self.channels else {}
        text = {"text": Spec((self.width,), np.float32, ("embed",))} if self.width else {}
        return spec | text

    def __call__(self, clip: Clip, geometry: Geometry) -> dict[str, np.ndarray]:
        if self.encoders is None:
            raise ValueError(
                "video latents and captions come from encoders: let the stage read what an encode "
                "stage made (stages.<name>.data and cached_by), or give --config.checkpoint=FOLDER"
            )
        made = {}
        if self.channels:
            made["video"] = self.encoders.video(_history(clip, geometry))
        if self.width:
            made["text"] = self.encoders.text([clip.caption])[0]
        for name, spec in self.spec(geometry).items():
            if made[name].shape != spec.shape:
                raise ClipError(
                    f"clip {clip.id!r}: its {name} features are {made[name].shape}, the flow reads "
                    f"{spec.shape}: these are not its encoders"
                )
        return made


def features_of(
    config: TrackFlowConfig, source: str = "cells", encoders: Encoders | None = None
) -> Features | None:
    """What a flow of this config reads besides tracks; None for nothing.

    Args:
      config: of the flow.
      source: of `SOURCES`; a flow that reads captions has encoders unless it is "none".
      encoders: at hand, if any.
    """
    if source == "none":
        return None
    channels = config.video_channels if config.use_video_cond else 0
    width = config.text_dim if config.use_text_cond else 0
    if width or (channels and source == "encoders"):
        return EncodedFeatures(channels, width, encoders)
    return CellFeatures(channels) if channels else None


def video_spec(geometry: Geometry, channels: int) -> Spec:
    """Features of every latent token."""
    shape = (geometry.latent_frames, geometry.num_tokens, channels)
    return Spec(shape, np.float32, ("time", "tokens", "embed"))


def _history(clip: Clip, geometry: Geometry) -> UInt8[np.ndarray, "T H W 3"]:
    if clip.video is None:
        raise ClipError(
            f"clip {clip.id!r}: field 'video' is missing: render or decode it, or set "
            "model.flow.use_video_cond=False"
        )
    return clip.video[: geometry.frames]
