"""Seeded changes of a clip that are exact on its tracks: mirror, time reversal, crop.

A mirrored clip keeps its row-major grid: rows are re-ordered so that track n is again the track of
cell n. Its query points are the mirrored ones, W - 1 - x, which lie elsewhere in their cells (for
an even stride s: x = s/2 - 1 instead of s/2 with origin "center", s - 1 instead of 0 with
"topleft"); `query_xy` and the tracks say where, nothing is moved. Reversed and cropped tracks start
anywhere in frame 0 and are no grid (`grid_hw` None) until `reanchor` asks them at a grid again,
which is exact only as far as `regrid.ask_at` says.

`flip`, `reverse_time` and `crop` change one clip and leave out its partner; `Augmentation` changes
both alike, or neither.
"""

from __future__ import annotations

import dataclasses
import re

import cv2
import numpy as np
from jaxtyping import Float

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.regrid import ask_at
from tavid_jax.data.video import Fit

_MIRROR = (("left", "right"), ("clockwise", "counter-clockwise"))
_CAMERA = r"\b(pan|pans|panning|tilt|tilts|tilting|zoom|zooms|zooming|roll|rolls|rolling)\b"
_BACKWARDS = (
    ("left", "right"),
    ("up", "down"),
    ("in", "out"),
    ("clockwise", "counter-clockwise"),
)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Draws and applies changes; `augmentation(clip, rng)` gives a clip of the same shapes.

    Attributes:
      flip: probability of a mirror image.
      reverse: probability of playing backwards. Reversed tracks are asked again at the grid by the
        nearest track: leave at 0 where tracks must be exact.
      crop: probability of a crop, enlarged to the old size. Tracks on the grid are interpolated.
        A crop that would leave out most of the actor or target is not made, nor is a reversal
        after which the target's mask is not known. All this holds for the clip's partner too.
      crop_side: least side of a crop, as a part of the frame's.
    """

    flip: float | int = 0.5
    reverse: float | int = 0.0
    crop: float | int = 0.0
    crop_side: float | int = 0.7

    def __post_init__(self):
        for name in ("flip", "reverse", "crop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, got {getattr(self, name)}")
        if not 0 < self.crop_side <= 1:
            raise ValueError(f"crop_side must lie in (0, 1], got {self.crop_side}")

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """The changed clip; the generator is always drawn from equally often."""
        chances, side, place = rng.random(3), rng.random(), rng.random(2)
        clips = [clip] if clip.partner is None else [clip.replace(partner=None), clip.partner]
        if chances[2] < self.crop:
            side = self.crop_side + side * (1 - self.crop_side)
            cut = [self._crop(one, side, place) for one in clips]
            clips = clips if None in cut else cut
        if chances[1] < self.reverse and all(map(_reversible, clips)):
            clips = list(map(_reversed, clips))
        if chances[0] < self.flip:
            clips = list(map(flip, clips))
        return clips[0] if len(clips) == 1 else clips[0].replace(partner=clips[1])

    def _crop(self, clip: Clip, side: float, place: Float[np.ndarray, " 2"]) -> Clip | None:
        """The cut clip; None if too much of it were lost."""
        height, width = clip.size_hw
        box_h, box_w = max(1, round(height * side)), max(1, round(width * side))
        x0, y0 = int(place[0] * (width - box_w + 1)), int(place[1] * (height - box_h + 1))
        if _loses_an_object(clip, (x0, y0, box_w, box_h)):
            return None
        cut = crop(clip, (x0, y0, box_w, box_h), clip.size_hw)
        if clip.grid_hw is not None:
            cut = reanchor(cut, clip.grid_hw, clip.query_xy)
        return None if cut.visibility is not None and not cut.visibility.any() else cut


def flip(clip: Clip) -> Clip:
    """Mirror image: x becomes W - 1 - x; "left" and "right" change places in the words."""
    width = clip.size_hw[1]
    changes = {"partner": None}
    for name in ("video", "segment_map", "masks", "rendered_ids"):
        array = getattr(clip, name)
        if array is not None:
            changes[name] = np.ascontiguousarray(np.flip(array, axis=2))
    order = slice(None)
    if clip.grid_hw is not None:
        gh, gw = clip.grid_hw
        order = np.arange(gh * gw).reshape(gh, gw)[:, ::-1].ravel()
    for name in ("tracks", "query_xy"):
        array = getattr(clip, name)
        if array is not None:
            mirrored = array[order].copy()
            mirrored[..., 0] = width - 1 - mirrored[..., 0]
            changes[name] = mirrored
    for name in ("visibility", "valid", "depth", "segment"):
        array = getattr(clip, name)
        if array is not None:
            changes[name] = array[order]
    changes["caption"] = _swap(clip.caption, _MIRROR)
    changes["local_captions"] = tuple(_swap(text, _MIRROR) for text in clip.local_captions)
    return clip.replace(**changes)


def reverse_time(clip: Clip) -> Clip:
    """Plays the clip backwards; its tracks then start anywhere and are no grid.

    `query_xy` becomes their place in the new first frame. Masks are those of that frame (read from
    `segment_map`; dropped without it). Directions of the camera change sides in the caption; other
    words are left alone.
    """
    changes = {"partner": None}
    for name in ("tracks", "visibility", "valid", "depth"):
        array = getattr(clip, name)
        if array is not None:
            changes[name] = np.ascontiguousarray(array[:, ::-1])
    for name in ("video", "segment_map", "rendered_ids"):
        array = getattr(clip, name)
        if array is not None:
            changes[name] = np.ascontiguousarray(array[::-1])
    if clip.tracks is not None:
        changes |= {"grid_hw": None, "query_xy": changes["tracks"][:, 0].copy()}
    if clip.masks is not None:
        last = clip.window(clip.num_frames - 1, 1) if clip.num_frames > 1 else clip
        changes["masks"] = last.masks
    if clip.contact_frame >= 0:
        changes["contact_frame"] = clip.num_frames - 1 - clip.contact_frame
    changes["caption"] = _swap_camera(clip.caption)
    return clip.replace(**changes)


def crop(clip: Clip, box: tuple[int, int, int, int], size_hw: tuple[int, int]) -> Clip:
    """Cuts out a box and resizes it; tracks follow exactly, outside the box they are invisible.

    Args:
      clip: in centre coordinates.
      box: (x0, y0, width, height) in pixels, inside the frame.
      size_hw: (H, W) to resize it to.

    Returns:
      A clip whose tracks are no grid of its frame (`grid_hw` None).

    Raises:
      ClipError: the box leaves the frame.
    """
    x0, y0, width, height = box
    if min(x0, y0) < 0 or min(width, height) < 1:
        raise ClipError(f"clip {clip.id!r}: box {box} is no part of the frame {clip.size_hw} (HxW)")
    if x0 + width > clip.size_hw[1] or y0 + height > clip.size_hw[0]:
        raise ClipError(f"clip {clip.id!r}: box {box} leaves the frame {clip.size_hw} (HxW)")
    cut = Fit(box, size_hw)
    changes = {"size_hw": size_hw, "partner": None}
    if clip.video is not None:
        changes["video"] = np.stack([cut.frame(frame) for frame in clip.video])
    for name in ("segment_map", "masks", "rendered_ids"):
        array = getattr(clip, name)
        if array is not None:
            changes[name] = _resize_ids(array[:, y0 : y0 + height, x0 : x0 + width], size_hw)
    if clip.tracks is not None:
        tracks = cut.points(clip.tracks)
        inside = ((tracks >= -0.5) & (tracks < np.array(size_hw[::-1]) - 0.5)).all(axis=-1)
        changes |= {"tracks": tracks, "grid_hw": None}
        changes["visibility"] = inside if clip.visibility is None else clip.visibility & inside
    if clip.query_xy is not None:
        changes["query_xy"] = cut.points(clip.query_xy)
    return clip.replace(**changes)


def reanchor(clip: Clip, grid_hw: tuple[int, int], query_xy: Float[np.ndarray, "Q 2"]) -> Clip:
    """Asks the clip's tracks at the points of a grid again (see `regrid.ask_at`).

    Invalid points count as invisible. Depth and segment, which have no value between tracks, are
    dropped.
    """
    visibility = (
        np.ones(clip.tracks.shape[:2], bool) if clip.visibility is None else clip.visibility
    )
    if clip.valid is not None:
        visibility = visibility & clip.valid
    stride = clip.size_hw[1] / grid_hw[1]
    tracks, visibility = ask_at(clip.tracks, visibility, query_xy, stride)
    return clip.replace(
        tracks=tracks,
        visibility=visibility,
        grid_hw=grid_hw,
        query_xy=query_xy,
        valid=None,
        depth=None,
        segment=None,
    )


def _reversible(clip: Clip) -> bool:
    """Whether a clip can be played backwards without the loss of what must be known."""
    return _seen_at_end(clip) and _masked_at_end(clip)


def _reversed(clip: Clip) -> Clip:
    """`reverse_time`, with tracks on the same grid as before."""
    backwards = reverse_time(clip)
    return reanchor(backwards, clip.grid_hw, clip.query_xy) if clip.grid_hw else backwards


def _seen_at_end(clip: Clip) -> bool:
    """Whether there is a track to start from when the clip is played backwards."""
    return clip.visibility is None or bool(clip.visibility[:, -1].any())


def _masked_at_end(clip: Clip) -> bool:
    """Whether a clip with a target still has its mask when it is played backwards."""
    return clip.masks is None or clip.target < 1 or clip.segment_map is not None


def _loses_an_object(clip: Clip, box: tuple[int, int, int, int]) -> bool:
    """Whether a box leaves out more than half of the actor or of the target in frame 0."""
    if clip.masks is None:
        return False
    x0, y0, width, height = box
    masks = [clip.masks[number - 1] for number in (clip.actor, clip.target) if number > 0]
    return any(2 * m[y0 : y0 + height, x0 : x0 + width].sum() < m.sum() for m in masks)


def _resize_ids(array: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resizes (S, H, W, ...) labels or masks, each pixel taking the nearest one."""
    if not len(array):
        return np.zeros((0, *size_hw), array.dtype)
    nearest = cv2.INTER_NEAREST_EXACT
    resized = [
        cv2.resize(np.ascontiguousarray(one, np.uint8), size_hw[::-1], interpolation=nearest)
        for one in array
    ]
    return np.stack(resized).astype(array.dtype)


def _swap(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """Exchanges words, keeping a capital."""
    other = {a: b for a, b in pairs} | {b: a for a, b in pairs}
    words = sorted(other, key=len, reverse=True)

    def exchange(match: re.Match) -> str:
        new = other[match[0].lower()]
        return new.capitalize() if match[0][0].isupper() else new

    return re.sub(rf"(?<![\w-])({'|'.join(words)})(?![\w-])", exchange, text, flags=re.IGNORECASE)


def _swap_camera(text: str) -> str:
    """Exchanges directions in sentences that speak of the camera."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    return " ".join(
        _swap(part, _BACKWARDS)
        if "camera" in part.lower() and re.search(_CAMERA, part, re.IGNORECASE)
        else part
        for part in sentences
    )
