"""Tracks into condition videos as `Follow` says: the same for training and for sampling.

Tracks refer to a frame that becomes the video's as images do: kept in ratio and cut ("cover"), or
stretched. Where that frame has the ratio of 480x720, they are drawn at that size and the pictures
are resized, as the released code for Wan does it (CogVideoX has that size); else, and with
`Follow.native`, at the video's size, as points that cover the same part of the frame.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, UInt8

from tavid_jax.data.segments import segment_ids
from tavid_jax.pipelines.follow import Follow
from tavid_jax.tracks import sparsify
from tavid_jax.tracks.condition_videos import (
    ConditionOptions,
    condition_videos,
    cover,
    first_seen_colours,
)
from tavid_jax.tracks.coordinates import resize
from tavid_jax.tracks.stamps import REFERENCE_HW
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.tracks.unaligned import unalign

Frames = UInt8[np.ndarray, "T H W 3"]
Masks = Bool[np.ndarray, "S H W"]
# How far the ratio of a frame may be from that of the released size.
_RATIO = 0.01
_MODES = {"scale": "released", "shift": "translate"}


def kept_frames(follow: Follow, count: int, rng: np.random.Generator) -> Bool[np.ndarray, " T"]:
    """The frames of `count` in which points steer.

    Raises:
      ValueError: key frames behind the last one.
    """
    frames = follow.keep_frames
    if isinstance(frames, tuple):
        if max(frames) >= count:
            raise ValueError(
                f"follow: keep_frames names frame {max(frames)}, the last one is {count - 1}"
            )
        return np.isin(np.arange(count), frames)
    if frames == 1:
        return np.ones(count, bool)
    if follow.random_frames:
        return sparsify.random_frames(count, frames, rng)
    return sparsify.uniform_frames(count, frames)


def sparsified(
    trajectories: Trajectories,
    follow: Follow,
    rng: np.random.Generator,
    masks: Masks | None = None,
    fine: Masks | None = None,
) -> Trajectories:
    """What is left of trajectories to steer by: moved if unaligned, the rest made invisible.

    Args:
      trajectories: all points.
      follow: the options.
      rng: of all that is random.
      masks: objects in the first frame, in the trajectories' pixels.
      fine: smaller regions of it: then regions are chosen among them, a share of each of `masks`.

    Raises:
      ValueError: regions without masks or segments; masks of another size; see `kept_frames`.
    """
    frames = kept_frames(follow, trajectories.num_frames, rng)
    if follow.unaligned in _MODES:
        mode = _MODES[follow.unaligned]
        trajectories = unalign(trajectories, masks, follow.scale, rng, mode)
    points = None
    if follow.choose == "region" and follow.keep_points < 1:
        points = _regions(trajectories, follow.keep_points, rng, masks, fine)
    elif follow.choose == "each" and follow.keep_points < 1:
        points = _of_each(trajectories, follow.keep_points, rng)
    elif follow.keep_points < 1:
        points = sparsify.random_points(trajectories.num_points, follow.keep_points, rng)
    return sparsify.keep(trajectories, points, frames)


def _of_each(
    trajectories: Trajectories, share: float | int, rng: np.random.Generator
) -> Bool[np.ndarray, " N"]:
    if trajectories.segment is None:
        return sparsify.random_points(trajectories.num_points, share, rng)
    return sparsify.points_of_each(trajectories.segment, share, rng)


def _regions(
    trajectories: Trajectories,
    share: float | int,
    rng: np.random.Generator,
    masks: Masks | None,
    fine: Masks | None,
) -> Bool[np.ndarray, " N"]:
    start = trajectories.tracks[:, 0]
    if masks is not None and fine is not None:
        large, small = segment_ids(start, masks), segment_ids(start, fine)
        return sparsify.region_points(large, small, share, rng)
    if masks is not None:
        return sparsify.foreground_points(start, masks, share)
    if trajectories.segment is None:
        raise ValueError("follow: choose 'region' needs regions: give segments, or choose 'random'")
    everything = np.zeros_like(trajectories.segment)
    return sparsify.region_points(everything, trajectories.segment, share, rng)


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Draws trajectories of one frame size as condition videos.

    Attributes:
      follow: the options.
      from_hw: size of the trajectories' frames.
      size_hw: of the videos.
      fit: "cover" or "stretch".
    """

    follow: Follow
    from_hw: tuple[int, int]
    size_hw: tuple[int, int]
    fit: str = "cover"

    @property
    def is_released(self) -> bool:
        """Whether points are drawn at 480x720 and the pictures resized."""
        known = _same_ratio(self.from_hw, REFERENCE_HW)
        cut = self.fit == "cover" or _same_ratio(self.size_hw, REFERENCE_HW)
        return known and cut and not self.follow.native

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """The size that is drawn at, which source frames must have."""
        return REFERENCE_HW if self.is_released else self.size_hw

    def __call__(
        self,
        trajectories: Trajectories,
        video: UInt8[np.ndarray, "t h w 3"] | None = None,
        two_way: bool = False,
    ) -> tuple[Frames, Frames]:
        """Identities and colours.

        Args:
          trajectories: as `sparsified` left them.
          video: frames that colours are taken from, at `canvas_hw`; a single one colours the
            points that it shows for the whole time, others are black.
          two_way: whether points were tracked forward and backward, which are told apart by other
            codes in the released files.

        Raises:
          ValueError: colours without a video, or see `condition_videos.condition_videos`.
        """
        follow, options = self.follow, self._options(two_way)
        trajectories = self._fitted(trajectories)
        if follow.colour == "point" and trajectories.colour is None and video is not None:
            known = trajectories.window(0, len(video))
            constant = first_seen_colours(known.tracks, known.visibility, video)
            trajectories, video = trajectories.replace(colour=constant), None
        return condition_videos(trajectories, video, options)

    def _fitted(self, trajectories: Trajectories) -> Trajectories:
        """In the pixels that are drawn."""
        own, to_hw = tuple(trajectories.size_hw), self.canvas_hw
        if own == tuple(to_hw):
            return trajectories
        move = resize if self.is_released or self.fit == "stretch" else cover
        return trajectories.replace(tracks=move(trajectories.tracks, own, to_hw), size_hw=to_hw)

    def _options(self, two_way: bool) -> ConditionOptions:
        follow = self.follow
        usual = "released" if self.is_released else "scaled"
        return ConditionOptions(
            size_hw=self.size_hw,
            drawing="resized" if self.canvas_hw != self.size_hw else "native",
            canvas_hw=self.canvas_hw,
            codes="two_way" if two_way and follow.codes == "released" else follow.codes,
            with_segment=follow.show_segment,
            with_point=follow.show_point,
            colour=follow.colour,
            order=follow.order,
            stamp=follow.stamp or usual,
            random_share=follow.keep_points if follow.choose != "region" else 1.0,
        )


def _same_ratio(size_hw: tuple[int, int], other_hw: tuple[int, int]) -> bool:
    return abs(size_hw[0] * other_hw[1] / (size_hw[1] * other_hw[0]) - 1) < _RATIO
