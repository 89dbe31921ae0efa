"""Encoding as a stage: frozen encoders on every clip once, for all stages of TrajLoom.

An example holds both halves of the tracks beside what the encoders say of the history's video and
of the caption, so that no later stage decodes a video again.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import EncodeMethod
from tavid_jax.methods.trajloom.examples import Features, Geometry, example_of, example_spec
from tavid_jax.methods.trajloom.features import EncodedFeatures
from tavid_jax.methods.trajloom.settings import Settings
from tavid_jax.pipelines.folder import TEXT, TOKENIZER, VAE
from tavid_jax.pipelines.pretrained import is_here
from tavid_jax.pipelines.track_conditions import TrackConditions, open_conditions

# Of the layout of examples; others are not read.
FORMAT = 1


class Conditions(EncodeMethod):
    """Makes the examples, or judges those that were made before the run.

    Args:
      geometry: sizes of clips.
      features: what the flow reads.
      encoders: what makes them; None can only judge.
      stored: type of video latents on disk.
    """

    needs_captions = False  # a clip without one has the empty caption, as published

    def __init__(
        self,
        geometry: Geometry,
        features: EncodedFeatures,
        encoders: TrackConditions | None,
        stored: str = "float32",
    ):
        if encoders is not None:
            _check(features, encoders)
        self.geometry, self.features, self.encoders = geometry, features, encoders
        self.stored = jnp.dtype(stored)

    def facts(self) -> dict[str, Any]:
        """All that the examples depend on besides the clips."""
        return self.requirements() | {"stored": self.stored.name}

    def requirements(self) -> dict[str, Any]:
        """What examples made elsewhere must agree on."""
        g = self.geometry
        spec = example_spec(g, self.features)
        arrays = {
            name: {"shape": list(one.shape), "dtype": np.dtype(one.dtype).name}
            for name, one in spec.items()
        }
        own = {} if self.encoders is None else self.encoders.facts()
        return own | {
            "format": FORMAT,
            "size_hw": list(g.size_hw),
            "stride": g.stride,
            "origin": g.origin,
            "frames": g.frames,
            "arrays": arrays,
        }

    def examples(self, captions: Sequence[str], clips: Iterator[Clip]) -> Iterator[dict[str, Any]]:
        """Tracks and features of clips, in order; the text encoder is gone before the first."""
        encoders, g = self._working(), self.geometry
        texts = self._texts(captions) if self.features.width else None
        with contextlib.ExitStack() as held:
            params = held.enter_context(encoders.vae.hold()) if self.features.channels else None
            for number, clip in enumerate(clips):
                example = example_of(clip, g)
                del example["id"]
                if params is not None:
                    latents = encoders.video_by(params, clip.video[: g.frames])
                    example["video"] = latents.astype(self.stored)
                if texts is not None:
                    example["text"] = texts[number]
                yield example

    def shared(self) -> dict[str, np.ndarray]:
        """Nothing: a dropped caption is a vector of zeros."""
        return {}

    def _texts(self, captions: Sequence[str]) -> np.ndarray:
        encoders = self._working()
        with encoders.words.hold() as params:
            return encoders.text_by(params, captions)

    def _working(self) -> TrackConditions:
        if self.encoders is None:
            raise ValueError("these clips were encoded before the run: there are no encoders")
        return self.encoders


def conditions_method(config: Any, stage: Any, settings: Settings) -> Conditions:
    """The method of an encode stage.

    Raises:
      ValueError: nothing to encode with, or encoders that make other sizes than the flow reads.
      WeightsError: see `open_conditions`.
    """
    features = settings.features()
    if not isinstance(features, EncodedFeatures):
        raise ValueError(
            "a stage of conditions encodes videos and captions: set --config.features=encoders "
            "and model.flow.use_video_cond or use_text_cond"
        )
    # Who has the examples may do without the encoders.
    here = bool(config.checkpoint) and is_here(config.checkpoint, (VAE, TEXT, TOKENIZER))
    if config.cache and not here:
        return Conditions(settings.geometry, features, None, stage.stored)
    encoders = open_encoders(config, settings, keep=stage.keep, encoders_on=stage.encoders_on)
    return Conditions(settings.geometry, features, encoders, stage.stored)


def open_encoders(config: Any, settings: Settings, **options: Any) -> TrackConditions:
    """The encoders of the checkpoint that the config names; options as of `open_conditions`.

    Raises:
      ValueError: none is named.
      WeightsError: see `open_conditions`.
    """
    if not config.checkpoint:
        raise ValueError(
            "videos and captions are encoded by Wan 2.1's encoders: give the folder of a Wan 2.1 "
            "checkpoint by --config.checkpoint=FOLDER, or encoded clips by --config.cache=FOLDER"
        )
    grid_hw = settings.geometry.grid_hw
    return open_conditions(config.checkpoint, grid_hw, strict=not config.any_size, **options)


@contextlib.contextmanager
def features_at_hand(
    config: Any, settings: Settings, captions: Callable[[], Sequence[str]]
) -> Iterator[Features | None]:
    """What a flow reads besides tracks, for many clips: each encoder's weights are read once.

    Captions come first: the text encoder's memory is free again before the first video.

    Args:
      captions: of all clips; called where they are read.

    Raises:
      ValueError, WeightsError: see `open_encoders`.
    """
    features = settings.features()
    if not isinstance(features, EncodedFeatures):
        yield features
        return
    encoders, texts = open_encoders(config, settings), {}
    if features.width:
        words = list(dict.fromkeys(captions()))
        texts = dict(zip(words, encoders.text(words), strict=True))
    with contextlib.ExitStack() as held:
        params = held.enter_context(encoders.vae.hold()) if features.channels else None
        yield dataclasses.replace(features, encoders=_AtHand(encoders, params, texts))


@dataclasses.dataclass(frozen=True, eq=False)
class _AtHand:
    """Encoders whose captions were read before, and whose autoencoder is held."""

    encoders: TrackConditions
    params: Any
    texts: Mapping[str, np.ndarray]

    def video(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, "L N C"]:
        return self.encoders.video_by(self.params, frames)

    def text(self, captions: Sequence[str]) -> Float[np.ndarray, "B E"]:
        return np.stack([self.texts[caption] for caption in captions])


def _check(features: EncodedFeatures, encoders: TrackConditions) -> None:
    for what, wanted, found in (
        ("video_channels", features.channels, encoders.channels),
        ("text_dim", features.width, encoders.width),
    ):
        if wanted and wanted != found:
            raise ValueError(
                f"model.flow.{what} is {wanted}, the encoders of the checkpoint make {found}: "
                f"set it to {found}, or give other encoders"
            )
