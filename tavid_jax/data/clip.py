"""The one schema every data source returns: a `Clip` of frames, tracks and words."""

from __future__ import annotations

import dataclasses

import numpy as np


class ClipError(ValueError):
    """A clip breaks the schema; the message names the clip and the field."""


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """Frames, tracks and words of one clip; numpy only, everything but the first three optional.

    Letters: T frames, H rows, W columns, N tracks, S objects. Coordinates are (x, y) pixels of
    `size_hw`, pixel centres at integers (`coord="center"`), or with the outer corner of the first
    pixel at (0, 0) (`coord="raster"`, which `check_clip` turns into centres).

    Attributes:
      id: name of the clip, unique within its source.
      size_hw: (H, W) that every coordinate refers to.
      fps: frames per second, > 0.
      video: uint8 (T, H, W, 3), RGB.
      tracks: float32 (N, T, 2), (x, y) px; may leave the frame.
      visibility: bool (N, T), True = seen in that frame.
      valid: bool (N, T), False = must not supervise; None = all valid.
      depth: float32 (N, T), smaller = nearer.
      segment: int32 (N,), 0 = background, k = object k.
      grid_hw: (gh, gw) if the tracks are a dense grid of cells in row-major order, n = i*gw + j.
      query_xy: float32 (N, 2), the pixels at which the tracks were asked for.
      masks: bool (S, H, W), objects 1..S in frame 0.
      segment_map: uint8 (T, H, W), visible object id per pixel.
      caption: words about the whole clip ("" = none).
      local_captions: words about each object ("()" = none).
      kinds: kind of motion of each object (synthetic scenes only).
      actor: object id of the actor, -1 = none.
      target: object id of the target, -1 = none.
      contact_frame: frame in which actor and target meet, -1 = none.
      source: file or generator that the clip came from.
      coord: "center" or "raster".
      partner: a clip of the same size and length in which another actor does the same; it has no
        partner itself.
    """

    id: str
    size_hw: tuple[int, int]
    fps: float | int
    video: np.ndarray | None = None
    tracks: np.ndarray | None = None
    visibility: np.ndarray | None = None
    valid: np.ndarray | None = None
    depth: np.ndarray | None = None
    segment: np.ndarray | None = None
    grid_hw: tuple[int, int] | None = None
    query_xy: np.ndarray | None = None
    masks: np.ndarray | None = None
    segment_map: np.ndarray | None = None
    caption: str = ""
    local_captions: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    actor: int = -1
    target: int = -1
    contact_frame: int = -1
    source: str = ""
    coord: str = "center"
    partner: Clip | None = None

    @property
    def num_frames(self) -> int:
        """T, read from whichever of video, tracks, segment_map is there; 0 if none is."""
        if self.video is not None:
            return int(self.video.shape[0])
        if self.tracks is not None:
            return int(self.tracks.shape[1])
        return 0 if self.segment_map is None else int(self.segment_map.shape[0])

    def replace(self, **changes) -> Clip:
        """A copy with some fields replaced (unchecked; see `check_clip`)."""
        return dataclasses.replace(self, **changes)

    def window(self, start: int, length: int) -> Clip:
        """The clip of frames [start, start + length).

        Tracks keep their order, `grid_hw` and `query_xy`: row n stays the track of cell n. Masks
        belong to the window's first frame: read from `segment_map` if there, dropped if not. A
        partner is cut alike.

        Raises:
          ClipError: the window does not lie inside the clip.
        """
        total = self.num_frames
        if length < 1 or start < 0 or start + length > total:
            raise ClipError(
                f"clip {self.id!r}: window [{start}, {start + length}) does not lie inside its "
                f"{total} frames"
            )
        if start == 0 and length == total:
            return self
        frames = slice(start, start + length)
        changes = {name: _slice(getattr(self, name), (frames,)) for name in _FRAMES_FIRST}
        for name in _FRAMES_SECOND:
            changes[name] = _slice(getattr(self, name), (slice(None), frames))
        if start and self.masks is not None:
            changes["masks"] = None
            if self.segment_map is not None:
                ids = np.arange(1, len(self.masks) + 1, dtype=self.segment_map.dtype)
                changes["masks"] = self.segment_map[start][None] == ids[:, None, None]
        contact = self.contact_frame - start
        changes["contact_frame"] = contact if 0 <= contact < length else -1
        if self.partner is not None:
            changes["partner"] = self.partner.window(start, length)
        return self.replace(**changes)


_FRAMES_FIRST = ("video", "segment_map")
_FRAMES_SECOND = ("tracks", "visibility", "valid", "depth")

# Field -> (kinds of dtype taken, dtype given, shape by letters); letters must agree between fields.
_ARRAYS = {
    "video": ("u", np.uint8, ("T", "H", "W", 3)),
    "tracks": ("f", np.float32, ("N", "T", 2)),
    "visibility": ("b", np.bool_, ("N", "T")),
    "valid": ("b", np.bool_, ("N", "T")),
    "depth": ("f", np.float32, ("N", "T")),
    "segment": ("iu", np.int32, ("N",)),
    "query_xy": ("fiu", np.float32, ("N", 2)),
    "masks": ("b", np.bool_, ("S", "H", "W")),
    "segment_map": ("u", np.uint8, ("T", "H", "W")),
}
_NAMED_KINDS = {"u": "unsigned integer", "f": "floating", "b": "bool", "i": "integer"}


def check_clip(clip: Clip) -> Clip:
    """Checks every field and brings the clip to float32, int32, bool and centre coordinates.

    Returns:
      The same clip, or a normalised copy (`coord` is then "center").

    Raises:
      ClipError: one sentence naming the clip, the field, what was found and what is wanted. NaN or
        infinite coordinates are errors here: call `sanitize` first to mark them invalid on purpose.
    """
    _check_head(clip)
    sizes = {"H": clip.size_hw[0], "W": clip.size_hw[1]}
    owners = {"H": "size_hw", "W": "size_hw"}
    changes = {}
    for name, (kinds, dtype, shape) in _ARRAYS.items():
        array = getattr(clip, name)
        if array is None:
            continue
        changes[name] = _check_array(clip, name, array, kinds, dtype)
        _check_shape(clip, name, array.shape, shape, sizes, owners)
    _check_tracks(clip, sizes)
    _check_objects(clip, sizes)
    if clip.coord == "raster":
        for name in ("tracks", "query_xy"):
            if name in changes:
                changes[name] = changes[name] - np.float32(0.5)
        changes["coord"] = "center"
    if clip.partner is not None:
        changes["partner"] = _check_partner(clip)
    changes = {k: v for k, v in changes.items() if v is not getattr(clip, k)}
    return clip.replace(**changes) if changes else clip


def sanitize(clip: Clip) -> Clip:
    """Replaces NaN and infinite coordinates by 0 and marks them invisible and invalid."""
    if clip.partner is not None:
        clip = clip.replace(partner=sanitize(clip.partner))
    if clip.tracks is None:
        return clip
    good = np.isfinite(clip.tracks).all(axis=-1)
    if good.all():
        return clip
    everywhere = np.ones(clip.tracks.shape[:2], bool)
    visibility = everywhere if clip.visibility is None else clip.visibility.astype(bool)
    valid = everywhere if clip.valid is None else clip.valid.astype(bool)
    return clip.replace(
        tracks=np.where(good[..., None], clip.tracks, 0).astype(np.float32),
        visibility=visibility & good,
        valid=valid & good,
    )


def _slice(array: np.ndarray | None, index: tuple) -> np.ndarray | None:
    return None if array is None else array[index]


def _fail(clip: Clip, field: str, what: str):
    where = f" ({clip.source})" if clip.source and clip.source != clip.id else ""
    raise ClipError(f"clip {clip.id!r}{where}: field {field!r} {what}")


def _check_head(clip: Clip) -> None:
    size = clip.size_hw
    if len(size) != 2 or any(int(n) != n or n < 1 for n in size):
        _fail(clip, "size_hw", f"must be two positive integers (H, W), got {tuple(size)}")
    if not (np.isfinite(clip.fps) and clip.fps > 0):
        _fail(clip, "fps", f"must be a positive number, got {clip.fps}")
    if clip.coord not in ("center", "raster"):
        _fail(clip, "coord", f"must be 'center' or 'raster', got {clip.coord!r}")
    if clip.video is None and clip.tracks is None:
        _fail(clip, "video", "and field 'tracks' are both missing: nothing to learn from")


def _check_partner(clip: Clip) -> Clip:
    partner = check_clip(clip.partner)
    if partner.partner is not None:
        _fail(clip, "partner", f"{partner.id!r} has a partner too: pairs are two clips")
    for what in ("size_hw", "num_frames"):
        own, other = getattr(clip, what), getattr(partner, what)
        if own != other:
            _fail(clip, "partner", f"{partner.id!r} has {what} {other}, the clip itself has {own}")
    return partner


def _check_array(clip: Clip, name: str, array, kinds: str, dtype) -> np.ndarray:
    if not isinstance(array, np.ndarray):
        _fail(clip, name, f"must be a numpy array, got {type(array).__name__}")
    if array.dtype.kind not in kinds:
        wanted = " or ".join(_NAMED_KINDS[k] for k in kinds)
        _fail(clip, name, f"must have a {wanted} dtype, got {array.dtype}")
    if kinds == "u" and array.dtype != dtype:
        _fail(clip, name, f"must be {np.dtype(dtype)}, got {array.dtype}")
    return array.astype(dtype, copy=False)


def _check_shape(clip: Clip, name: str, got, want, sizes: dict, owners: dict) -> None:
    letters = "(" + ", ".join(map(str, want)) + ")"
    if len(got) != len(want):
        _fail(clip, name, f"must have shape {letters}, got {tuple(got)}")
    for size, letter in zip(got, want, strict=True):
        expected = letter if isinstance(letter, int) else sizes.setdefault(letter, size)
        owner = owners.setdefault(letter, name)
        if size != expected:
            why = "" if isinstance(letter, int) else f" with {letter}={expected} as in {owner!r}"
            _fail(clip, name, f"must have shape {letters}{why}, got {tuple(got)}")
        if size == 0 and letter != "S":
            _fail(clip, name, f"is empty: shape {tuple(got)}")


def _check_tracks(clip: Clip, sizes: dict) -> None:
    for name in ("tracks", "depth", "query_xy"):
        array = getattr(clip, name)
        if array is not None and not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).sum())
            mend = "; call `sanitize` to mark such points invalid" if name == "tracks" else ""
            _fail(clip, name, f"holds {bad} NaN or infinite values{mend}")
    for name in ("visibility", "valid", "depth", "segment", "query_xy", "grid_hw"):
        if getattr(clip, name) is not None and clip.tracks is None:
            _fail(clip, name, "is given without field 'tracks'")
    if clip.visibility is not None and not clip.visibility.any():
        _fail(clip, "visibility", "is False everywhere: no point is ever seen")
    if clip.grid_hw is not None and clip.grid_hw[0] * clip.grid_hw[1] != sizes["N"]:
        _fail(clip, "grid_hw", f"{tuple(clip.grid_hw)} does not multiply to N={sizes['N']} tracks")


def _check_objects(clip: Clip, sizes: dict) -> None:
    for name in ("local_captions", "kinds"):
        words = getattr(clip, name)
        if isinstance(words, str) or not all(isinstance(word, str) for word in words):
            _fail(clip, name, "must be a tuple of strings")
        if words and "S" in sizes and len(words) != sizes["S"]:
            _fail(clip, name, f"has {len(words)} entries for S={sizes['S']} objects in 'masks'")
    for name in ("actor", "target"):
        value = getattr(clip, name)
        if value < -1 or ("S" in sizes and value > sizes["S"]):
            _fail(clip, name, f"is {value}: no such object (-1 = none, objects count from 1)")
    if not -1 <= clip.contact_frame < max(clip.num_frames, 1):
        _fail(clip, "contact_frame", f"is {clip.contact_frame}, outside {clip.num_frames} frames")
