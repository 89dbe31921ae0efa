"""The condition videos of a training example: drawn as those of a sampled video are."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.segments import trajectories_of
from tavid_jax.methods.flextraj.curriculum import Mixture
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.images import fit_image
from tavid_jax.pipelines.steering import Drawing, sparsified
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.tracks.unaligned import unaligned_pair

Frames = UInt8[np.ndarray, "T H W 3"]


class Control(NamedTuple):
    """What an example is controlled by.

    Attributes:
      ids, colours: the two condition videos.
      caption: of the clip, with the prefix of unaligned ones.
      task: one of `curriculum.TASKS`.
      follow: how they were drawn.
      steering: the points, those invisible that are not given.
    """

    ids: Frames
    colours: Frames
    caption: str
    task: str
    follow: Follow
    steering: Trajectories


@dataclasses.dataclass(frozen=True)
class Controls:
    """Draws the control of clips.

    Attributes:
      follow: what is the same for all examples.
    """

    follow: Follow

    def __call__(self, clip: Clip, mixture: Mixture, rng: np.random.Generator) -> Control:
        """The control of one example, drawn from a mixture.

        Raises:
          ClipError: a clip without tracks or frames.
        """
        drawn = mixture.draw(rng, self.follow, clip.masks is not None)
        tracks, follow = steering_tracks(clip, drawn.follow, rng)
        steering = sparsified(tracks, follow, rng, clip.masks)
        ids, colours = self.videos(clip, steering, follow)
        if drawn.dropped:
            ids, colours = np.zeros_like(ids), np.zeros_like(colours)
        prefix = follow.prefix if follow.unaligned and not drawn.dropped else ""
        return Control(ids, colours, prefix + clip.caption, drawn.task, follow, steering)

    def videos(self, clip: Clip, steering: Trajectories, follow: Follow) -> tuple[Frames, Frames]:
        """The condition videos of a clip's size that its points become.

        Args:
          clip: gives colours.
          steering: its points, see `pipelines.steering.sparsified`.
          follow: how they are followed.
        """
        draw = Drawing(follow, steering.size_hw, clip.size_hw)
        video = None if follow.colour == "none" else _at_size(clip, draw.canvas_hw)
        return draw(steering, video)


def steering_tracks(
    clip: Clip, follow: Follow, rng: np.random.Generator
) -> tuple[Trajectories, Follow]:
    """The trajectories that steer a clip: its own, or its partner's for unaligned control.

    A partner is another actor in the same motion, see `Clip.partner`; its points are brought to
    where the clip's object is. Without one, the clip's own points are moved.

    Raises:
      ClipError: a clip without tracks.
    """
    own = trajectories_of(clip)
    if not follow.unaligned or clip.partner is None:
        return own, follow
    partner = trajectories_of(clip.partner)
    masks = _foreground(clip), _foreground(clip.partner)
    tracks = unaligned_pair(own, partner, *masks, rng)
    return tracks, dataclasses.replace(follow, unaligned="given")


def _foreground(clip: Clip) -> Bool[np.ndarray, "H W"]:
    if clip.masks is None or not len(clip.masks):
        raise ClipError(f"clip {clip.id!r}: a pair needs masks of both actors, it has none")
    return clip.masks.any(0)


def _at_size(clip: Clip, size_hw: tuple[int, int]) -> Frames:
    if clip.video is None:
        raise ClipError(f"clip {clip.id!r}: colours are those of its frames, it has none")
    if clip.video.shape[1:3] == tuple(size_hw):
        return clip.video
    return np.stack([fit_image(frame, size_hw, "cover") for frame in clip.video])
