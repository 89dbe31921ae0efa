"""What a score is made from: small protocols, one for each kind of provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

Progress = Callable[[int, int], None]  # (done, in all)


class ScoringError(ValueError):
    """Something cannot be scored; the message names the file and the reason."""


def no_progress(done: int, total: int) -> None:
    """Says nothing."""


@runtime_checkable
class Features(Protocol):
    """One feature vector per frame, compared by their cosines."""

    name: str

    def describe(self) -> dict[str, Any]:
        """All that changes the numbers, the name first."""
        ...

    def __call__(
        self, frames: UInt8[np.ndarray, "T H W 3"], progress: Progress = no_progress
    ) -> Float[np.ndarray, "T D"]:
        """Features of the frames of one video."""
        ...


@runtime_checkable
class PairFeatures(Protocol):
    """One feature vector per picture and one per text, compared by their cosines."""

    name: str

    def describe(self) -> dict[str, Any]:
        """All that changes the numbers, the name first."""
        ...

    def pictures(
        self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], progress: Progress = no_progress
    ) -> Float[np.ndarray, "T D"]:
        """Features of at least one picture; their sizes may differ."""
        ...

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "S D"]:
        """Features of at least one text."""
        ...


@runtime_checkable
class VideoFeatures(Protocol):
    """One feature vector per video, compared as sets."""

    name: str
    min_frames: int  # of a video

    def describe(self) -> dict[str, Any]:
        """All that changes the numbers, the name first."""
        ...

    def __call__(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, " D"]:
        """The feature of one video."""
        ...


@runtime_checkable
class Flow(Protocol):
    """Optical flow between two frames."""

    name: str

    def describe(self) -> dict[str, Any]:
        """All that changes the numbers, the name first."""
        ...

    def __call__(
        self, before: UInt8[np.ndarray, "H W 3"], after: UInt8[np.ndarray, "H W 3"]
    ) -> Float[np.ndarray, "H W 2"]:
        """(x, y) px by which each pixel of `before` moves."""
        ...


@runtime_checkable
class Midpoint(Protocol):
    """The frame between two frames."""

    name: str

    def describe(self) -> dict[str, Any]:
        """All that changes the numbers, the name first."""
        ...

    def __call__(
        self, before: UInt8[np.ndarray, "H W 3"], after: UInt8[np.ndarray, "H W 3"]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """The frame half-way."""
        ...


class Found(NamedTuple):
    """Where the actor is.

    Attributes:
      region: its pixels, by frame.
      boxes: per frame (x0, y0, x1, y1) px of what was found.
      notes: per frame what each box is, a few words.
    """

    region: Bool[np.ndarray, "T H W"]
    boxes: tuple[Float[np.ndarray, "_ 4"], ...]
    notes: tuple[tuple[str, ...], ...]


@runtime_checkable
class Actors(Protocol):
    """Finds the actor (a hand, a person, ...) in the frames of a video."""

    name: str

    def describe(self) -> dict[str, Any]:
        """All that changes the numbers, the name first."""
        ...

    def __call__(
        self,
        frames: UInt8[np.ndarray, "T H W 3"],
        objects: Bool[np.ndarray, "S T H W"],
        progress: Progress = no_progress,
    ) -> Found:
        """The actor in each frame.

        Args:
          frames: of one video.
          objects: regions of the things that may be touched, which are no part of an actor.
          progress: called with (frames done, frames in all).
        """
        ...
