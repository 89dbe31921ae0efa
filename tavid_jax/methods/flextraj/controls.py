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
from tavid_jax.pipelines.steering import Drawing, kept_frames, layered, sparsified
from tavid_jax.tracks.codes import segments_at
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.tracks.unaligned import dilated, pair_shift, unaligned_pair

# Points so near to rendered objects, px, are theirs.
_AROUND = 10
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
        drawn = mixture.draw(rng, self.follow, _has_object(clip))
        tracks, follow = steering_tracks(clip, drawn.follow, rng)
        kept = kept_frames(follow, tracks.num_frames, rng)
        steering = self.steering(clip, tracks, follow, kept, rng)
        ids, colours = self.videos(clip, steering, follow, kept)
        if drawn.dropped:
            ids, colours = np.zeros_like(ids), np.zeros_like(colours)
        prefix = follow.prefix if follow.unaligned and not drawn.dropped else ""
        return Control(ids, colours, prefix + clip.caption, drawn.task, follow, steering)

    def steering(
        self,
        clip: Clip,
        tracks: Trajectories,
        follow: Follow,
        kept: Bool[np.ndarray, " T"],
        rng: np.random.Generator,
    ) -> Trajectories:
        """What is left of trajectories to steer by; points that start behind identities which
        were rendered elsewhere are left out.

        Args:
          clip: gives masks and rendered identities.
          tracks: from `steering_tracks`.
          follow: how they are followed.
          kept: frames in which points steer.
          rng: of all else that is random.
        """
        front = _in_front(clip, follow)
        if front is not None:
            tracks = _behind(tracks, front[0, ..., 0] > follow.threshold)
        return sparsified(tracks, follow, rng, clip.masks, frames=kept)

    def videos(
        self,
        clip: Clip,
        steering: Trajectories,
        follow: Follow,
        kept: Bool[np.ndarray, " T"] | None = None,
    ) -> tuple[Frames, Frames]:
        """The condition videos of a clip's size that its points become, behind identities that
        were rendered elsewhere.

        Args:
          clip: gives colours and rendered identities.
          steering: its points, see `steering`.
          follow: how they are followed.
          kept: frames in which rendered identities steer; None: all.
        """
        draw = Drawing(follow, steering.size_hw, clip.size_hw)
        video = None if follow.colour == "none" else _at_size(clip, draw.canvas_hw)
        drawn = draw(steering, video, clip.two_way and follow.unaligned != "given")
        front = _in_front(clip, follow)
        if front is None:
            return drawn
        if kept is not None:
            front = front * kept[:, None, None, None]
        shown = np.zeros_like(front) if follow.colour == "none" else _at_size(clip, clip.size_hw)
        return layered([drawn, (front, shown)], follow.threshold)


def steering_tracks(
    clip: Clip, follow: Follow, rng: np.random.Generator
) -> tuple[Trajectories, Follow]:
    """The trajectories that steer a clip: its own, or its partner's for unaligned control.

    A partner is another actor in the same motion, see `Clip.partner`; its points are brought to
    where the clip's object is. Without one, or where masks (or rendered identities) do not show the
    objects of both, the clip's own points are moved.

    Raises:
      ClipError: a clip without tracks.
    """
    own = trajectories_of(clip)
    if not follow.unaligned or clip.partner is None:
        return own, follow
    masks = [_foreground(one, follow) for one in (clip, clip.partner)]
    if not all(mask.any() for mask in masks):
        return own, follow
    tracks = unaligned_pair(own, trajectories_of(clip.partner), *masks, rng)
    return tracks, dataclasses.replace(follow, unaligned="given")


def _has_object(clip: Clip) -> bool:
    return clip.masks is not None and bool(clip.masks.any())


def _foreground(clip: Clip, follow: Follow) -> Bool[np.ndarray, "H W"]:
    """The objects in frame 0; empty where nothing tells them."""
    if clip.rendered_ids is not None:
        return clip.rendered_ids[0, ..., 0] > follow.threshold
    return np.zeros(clip.size_hw, bool) if clip.masks is None else clip.masks.any(0)


def _in_front(clip: Clip, follow: Follow) -> Frames | None:
    """Rendered identities: the clip's, or its partner's at the place of the clip's object; none
    where the clip's own points are moved away from it."""
    if not follow.unaligned:
        return clip.rendered_ids
    if follow.unaligned != "given" or clip.partner is None or clip.partner.rendered_ids is None:
        return None
    shift = pair_shift(*(_foreground(one, follow) for one in (clip, clip.partner)))
    (x, y), (height, width) = shift.tolist(), clip.size_hw
    video = clip.partner.rendered_ids
    seen = video[:, max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    moved = np.zeros_like(video)
    moved[:, max(0, y) :, max(0, x) :][:, : seen.shape[1], : seen.shape[2]] = seen
    return moved


def _behind(tracks: Trajectories, mask: Bool[np.ndarray, "H W"]) -> Trajectories:
    """What is left to points beside rendered objects; without segments they are in none."""
    around = dilated(mask, _AROUND)[None]
    seen = tracks.visibility & (segments_at(tracks.tracks[:, 0], around) == 0)[:, None]
    tracks = tracks.replace(visibility=seen)
    if tracks.segment is None:
        tracks = tracks.replace(segment=np.zeros(tracks.num_points, np.int32), segments=1)
    return tracks


def _at_size(clip: Clip, size_hw: tuple[int, int]) -> Frames:
    if clip.video is None:
        raise ClipError(f"clip {clip.id!r}: colours are those of its frames, it has none")
    if clip.video.shape[1:3] == tuple(size_hw):
        return clip.video
    return np.stack([fit_image(frame, size_hw, "cover") for frame in clip.video])
