"""One raw clip to a grounded one: objects, points, tracks, motion, words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from tavid_jax.data.clip import Clip, ClipError, check_clip, sanitize
from tavid_jax.data.grounding.flow import FlowTracker
from tavid_jax.data.grounding.following import Held, followed, own_tracks
from tavid_jax.data.grounding.motion import Motion, MotionRule, judge
from tavid_jax.data.grounding.points import PointRule
from tavid_jax.data.grounding.providers import KINDS, Objects, fingerprint, provider

# Kinds of what is left out by a rule, as it should be; all others name what is wrong.
RULES = ("motion", "size")

Notes = list[tuple[str, str]]


class LeftOut(ClipError):
    """A clip gives no grounded one.

    Attributes:
      kind: "motion" or "size" by a rule; else what is wrong: "input", "objects", "texts",
        "caption", "tracks".
    """

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind = kind


@dataclasses.dataclass(frozen=True, eq=False)
class Grounded:
    """What became of a clip.

    Attributes:
      clip: `tracks` are points of objects, `segment` says which, `local_captions` are the texts of
        objects 1..S, `masks` those of the first frame; every object has a text and a point.
      motion: what was measured.
      notes: (kind, words) of objects that were left out of it; kinds as in `LeftOut`.
    """

    clip: Clip
    motion: Motion
    notes: tuple[tuple[str, str], ...] = ()


class Grounder:
    """Makes grounded clips: `grounder(clip)`.

    Args:
      segmenter, annotator, tracker, captioner: names of providers, see `providers`.
      points: how many points objects have.
      motion: which clips are kept.

    Raises:
      ClipError: a provider that is not there.
    """

    def __init__(
        self,
        segmenter: str = "clip",
        annotator: str = "clip",
        tracker: str = "clip",
        captioner: str = "clip",
        points: PointRule = PointRule(),  # noqa: B008 (frozen)
        motion: MotionRule = MotionRule(),  # noqa: B008 (frozen)
    ):
        self._names = dict(zip(KINDS, (segmenter, annotator, tracker, captioner), strict=True))
        self._made = {kind: provider(kind, name) for kind, name in self._names.items()}
        self._points, self._motion = points, motion

    def facts(self) -> dict[str, Any]:
        """All that grounded clips depend on besides the raw ones."""
        told = {kind: fingerprint(name, self._made[kind]) for kind, name in self._names.items()}
        return {
            "providers": told,
            "points": dataclasses.asdict(self._points),
            "motion": dataclasses.asdict(self._motion),
        }

    def __call__(self, clip: Clip) -> Grounded:
        """The grounded clip.

        Raises:
          LeftOut: why there is none.
          ProviderError: a provider that fails.
        """
        clip = _readable(clip)
        clip, objects, notes = self._objects(clip)
        held = self._points_of(clip, objects, notes)
        motion = self._judged(clip, held)
        texts = self._texts(clip, objects, held)
        for number in np.unique(held.owner):
            if not texts[number]:
                notes.append(("texts", f"object {number + 1} has no text"))
        told = held.take(np.array([bool(texts[owner]) for owner in held.owner], bool))
        if not len(told.owner):
            raise LeftOut("texts", "none of its objects has a text")
        if len(told.owner) < len(held.owner):
            motion = self._judged(clip, told)
        made = _grounded(clip, objects.masks, told, texts)
        return Grounded(made.replace(caption=self._caption(made)), motion, tuple(notes))

    def _objects(self, clip: Clip) -> tuple[Clip, Objects, Notes]:
        """The objects that are kept, and the clip with what it says of these alone."""
        found = self._ask("segmenter", "objects", clip.id, clip)
        masks, names = (found.masks, found.names) if isinstance(found, Objects) else (found, ())
        masks = np.asarray(masks)
        if masks.dtype != np.bool_ or masks.ndim != 3 or masks.shape[1:] != tuple(clip.size_hw):
            raise LeftOut(
                "objects",
                f"segmenter {self._names['segmenter']} gave masks {masks.dtype} {masks.shape}, "
                f"wanted bool (S, H, W) of {tuple(clip.size_hw)}",
            )
        if clip.local_captions and len(clip.local_captions) != len(masks):
            raise LeftOut(
                "texts", f"has texts of {len(clip.local_captions)} objects, but {len(masks)} masks"
            )
        kept, notes = self._of_size(masks)
        if not len(kept):
            told = "; ".join(words for _, words in notes) or "the segmenter found none"
            raise LeftOut("size" if notes else "objects", f"no object is left: {told}")
        names = tuple(names[k] for k in kept) if names else ()
        return _with_objects(clip, masks, kept), Objects(masks[kept], names), notes

    def _of_size(self, masks: Bool[np.ndarray, "S H W"]) -> tuple[Int[np.ndarray, " s"], Notes]:
        """Which masks are neither too small nor too large; what is said of the others."""
        rule, shares = self._points, masks.mean(axis=(1, 2))
        notes = [
            ("size", f"object {k + 1} covers {share:.2%} of the first frame")
            for k, share in enumerate(shares)
            if not rule.least <= share <= rule.most
        ]
        fit = np.flatnonzero((shares >= rule.least) & (shares <= rule.most))
        most = min(rule.objects, rule.total)
        if len(fit) > most:
            notes.append(("size", f"objects beyond the {most} largest: {len(fit) - most}"))
        return np.sort(fit[np.argsort(-shares[fit], kind="stable")[:most]]), notes

    def _points_of(self, clip: Clip, objects: Objects, notes: Notes) -> Held:
        tracker, name = self._made["tracker"], f"tracker {self._names['tracker']}"
        if tracker is None and clip.tracks is not None:
            held = own_tracks(clip, objects.masks, self._points)
        else:
            args = clip, objects.masks, self._points, tracker or FlowTracker(), name
            held = _told("tracker", "tracks", name, clip.id, followed, *args)
        held = held.take(held.seen.any(axis=1))
        for k in set(range(len(objects.masks))) - set(held.owner.tolist()):
            notes.append(("tracks", f"object {k + 1} has no point that is seen"))
        if not len(held.owner):
            raise LeftOut("tracks", "no point on its objects is ever seen")
        return held

    def _judged(self, clip: Clip, held: Held) -> Motion:
        motion = judge(held.tracks, held.seen, clip.size_hw, self._motion, held.ground)
        if motion.reason:
            raise LeftOut("motion", motion.reason)
        return motion

    def _texts(self, clip: Clip, objects: Objects, held: Held) -> tuple[str, ...]:
        """One for each object; "" for those without a point, which are not asked about."""
        numbers, first = np.unique(held.owner, return_index=True)
        clip = _with_objects(clip, objects.masks, numbers)
        names = tuple(objects.names[k] for k in numbers) if objects.names else ()
        some = Objects(objects.masks[numbers], names)
        start = held.tracks[first, held.seen[first].argmax(axis=1)]
        found = self._ask("annotator", "texts", clip.id, clip, some, start)
        if isinstance(found, str) or not isinstance(found, Sequence) or len(found) != len(numbers):
            wanted = f"wanted {len(numbers)} texts, one for each object"
            raise LeftOut("texts", f"annotator {self._names['annotator']} gave {found!r}, {wanted}")
        texts = [""] * len(objects.masks)
        for number, text in zip(numbers, found, strict=True):
            texts[number] = str(text or "").strip()
        return tuple(texts)

    def _caption(self, clip: Clip) -> str:
        caption = str(self._ask("captioner", "caption", clip.id, clip) or "").strip()
        if not caption:
            raise LeftOut("caption", "has no caption: write it into a CSV (--captions) or "
                                     "<stem>.txt, or name a --captioner")  # fmt: skip
        return caption

    def _ask(self, provider: str, kind: str, clip: str, *args: Any) -> Any:
        name = f"{provider} {self._names[provider]}"
        return _told(provider, kind, name, clip, self._made[provider], *args)


class ProviderError(ClipError):
    """A provider failed; the message names it and the clip."""


def _told(provider: str, kind: str, name: str, clip: str, call: Any, *args: Any) -> Any:
    """A provider's answer; what it says against a clip leaves the clip out."""
    try:
        return call(*args)
    except ClipError as error:
        raise LeftOut(kind, str(error)) from error
    except Exception as error:
        raise ProviderError(
            f"{name} failed on clip {clip!r}: {type(error).__name__}: {error}; a provider that "
            f"finds nothing raises ClipError (--{provider})"
        ) from error


def _readable(clip: Clip) -> Clip:
    try:
        clip = check_clip(sanitize(clip.replace(partner=None)))
    except ClipError as error:
        raise LeftOut("input", str(error)) from error
    if clip.video is None:
        raise LeftOut("input", "has no video")
    return clip


def _with_objects(
    clip: Clip, masks: Bool[np.ndarray, "S H W"], kept: Int[np.ndarray, " s"]
) -> Clip:
    """A clip that speaks of some objects alone, numbered anew from 1.

    Where its own masks are others, it forgets what it says of those by number.
    """
    own = clip.masks is not None and np.array_equal(clip.masks, masks)
    number = np.zeros(len(masks) + 1, np.int32)
    number[kept + 1] = np.arange(1, len(kept) + 1)
    changes = {"masks": masks[kept]}
    if clip.local_captions:
        changes["local_captions"] = tuple(clip.local_captions[k] for k in kept)
    if not own:
        names = ("segment", "segment_map")
        changes |= dict.fromkeys(names) | {"kinds": (), "actor": -1, "target": -1}
        return clip.replace(**changes)
    if clip.segment_map is not None:
        changes["segment_map"] = number.astype(np.uint8)[clip.segment_map]
    if clip.kinds:
        changes["kinds"] = tuple(clip.kinds[k] for k in kept)
    for role in ("actor", "target"):
        changes[role] = int(number[max(getattr(clip, role), 0)]) or -1
    return clip.replace(segment=None, **changes)


def _grounded(
    clip: Clip, masks: Bool[np.ndarray, "S H W"], held: Held, texts: tuple[str, ...]
) -> Clip:
    """The clip of the objects that have points."""
    numbers, segment = np.unique(held.owner, return_inverse=True)
    clip = _with_objects(clip, masks, numbers)
    first = held.seen.argmax(axis=1)
    made = clip.replace(
        tracks=held.tracks,
        visibility=held.seen,
        valid=None,
        depth=held.depth,
        segment=segment.reshape(-1).astype(np.int32) + 1,
        grid_hw=None,
        query_xy=held.tracks[np.arange(len(first)), first],
        local_captions=tuple(texts[k] for k in numbers),
        two_way=False,
    )
    return check_clip(made)
