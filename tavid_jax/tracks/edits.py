"""What a person changes of given tracks: tracks of a region are moved, scaled, held or left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from tavid_jax.tracks.trajectories import Trajectories

# What is done -> what `by` is, "" = nothing.
EDITS = {"move": "[dx, dy] px", "scale": "a factor", "still": "", "delete": "", "keep": ""}


class EditError(ValueError):
    """An edit cannot be done; the message names it."""


@dataclasses.dataclass(frozen=True)
class Edit:
    """One change of the tracks that start in a region.

    Attributes:
      what: "move": the tracks lie `by` px further at the end, and ever less so before it; "scale":
        every way from a track's start is `by` times as long; "still": they stay where they start,
        visible; "delete": they are left out; "keep": all others are.
      by: (dx, dy) px of "move", or the factor of "scale"; None of others.
      region: (x0, y0, x1, y1) px that holds the starts, edges included; None is the whole frame.

    Raises:
      EditError: an unknown edit, or a value of another kind.
    """

    what: str
    by: tuple[float | int, float | int] | float | int | None = None
    region: tuple[float | int, float | int, float | int, float | int] | None = None

    def __post_init__(self):
        if self.what not in EDITS:
            raise EditError(f"no edit {self.what!r}: there are {', '.join(EDITS)}")
        size = {"move": 2, "scale": 1}.get(self.what, 0)
        values = () if self.by is None else np.atleast_1d(np.asarray(self.by, np.float64))
        if len(values) != size or (size and not np.isfinite(values).all()):
            wanted = f"'by' must be {EDITS[self.what]}" if size else "takes no 'by'"
            raise EditError(f"edit {self.what!r}: {wanted}, got {self.by!r}")
        if self.region is not None:
            edges = np.asarray(self.region, np.float64)
            if edges.shape != (4,) or not (edges[:2] <= edges[2:]).all():
                raise EditError(
                    f"edit {self.what!r}: a region is [x0, y0, x1, y1] px with x0 <= x1 and "
                    f"y0 <= y1, got {self.region!r}"
                )


def edited(trajectories: Trajectories, edits: Sequence[Edit]) -> Trajectories:
    """The tracks after all edits, one after the other.

    Args:
      trajectories: px; only tracks that are visible in the first frame are edited.
      edits: regions refer to the tracks as the edits before left them.

    Raises:
      EditError: a region in which no track starts, or nothing that is left.
    """
    for number, edit in enumerate(edits, 1):
        chosen = _chosen(trajectories, edit)
        if not chosen.any():
            raise EditError(
                f"edit {number} ({edit.what!r}): no track is visible in the first frame in the "
                f"region {list(edit.region or ())}"
            )
        trajectories = _done(trajectories, edit, chosen)
        if not trajectories.num_points:
            raise EditError(f"edit {number} ({edit.what!r}) leaves no track")
    return trajectories


def _chosen(trajectories: Trajectories, edit: Edit) -> Bool[np.ndarray, " N"]:
    seen, start = trajectories.visibility[:, 0], trajectories.tracks[:, 0]
    if edit.region is None:
        return seen
    x0, y0, x1, y1 = edit.region
    return seen & ((start >= (x0, y0)) & (start <= (x1, y1))).all(-1)


def _done(trajectories: Trajectories, edit: Edit, chosen: Bool[np.ndarray, " N"]) -> Trajectories:
    if edit.what in ("delete", "keep"):
        return trajectories.take(chosen == (edit.what == "keep"))
    start, tracks = trajectories.tracks[:, :1], trajectories.tracks
    visible = trajectories.visibility
    if edit.what == "move":
        share = np.linspace(0, 1, trajectories.num_frames)[:, None]
        changed = tracks + share * np.asarray(edit.by)
    elif edit.what == "scale":
        changed = start + edit.by * (tracks - start)
    else:
        changed = np.broadcast_to(start, tracks.shape)
        visible = visible | chosen[:, None]
    # Where a track is not visible its place is not known.
    where = (chosen[:, None] & visible)[..., None]
    return trajectories.replace(tracks=np.where(where, changed, tracks), visibility=visible)
