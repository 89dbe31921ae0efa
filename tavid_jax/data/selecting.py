"""A folder of clips through the selection: a table, a list to train from, and pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from tavid_jax.data.check import write_sheet
from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.folder import ClipFolder
from tavid_jax.data.selection import Rule, follow, select
from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.data.verdicts import Verdict
from tavid_jax.data.video import resize_image

_HEIGHT, _SHOWN = 160, 6  # px, frames of a picture
_COLOURS = ((60, 220, 90), (255, 70, 70))  # target, actor


@dataclasses.dataclass(frozen=True)
class Selection:
    """What was judged.

    Attributes:
      verdicts: by name of the video.
      skipped: (path, reason) of videos that give no clip.
    """

    verdicts: dict[str, Verdict]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def kept(self) -> list[str]:
        """Names of the clips kept."""
        return [name for name, verdict in self.verdicts.items() if verdict.kept]

    def text(self) -> str:
        """The table and the counts as lines of text."""
        width = max(map(len, self.verdicts), default=5)
        lines = [f"{'video':{width}}  kept  reason"]
        for name, verdict in self.verdicts.items():
            lines.append(f"{name:{width}}  {'yes ' if verdict.kept else 'no  '}  {verdict.reason}")
        lines += [f"SKIPPED {path}: {reason}" for path, reason in self.skipped]
        refused = len(self.verdicts) - len(self.kept)
        counts = f"{len(self.kept)} kept, {refused} refused, {len(self.skipped)} skipped"
        return "\n".join([*lines, counts])


def select_folder(
    clips: ClipFolder,
    rule: Rule = Rule(),  # noqa: B008 (frozen)
    tracker: Tracker = DISTracker(),  # noqa: B008 (frozen)
    pictures: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """Judges every clip of a folder that was opened with masks.

    Args:
      clips: from `open_clips(..., masks=..., track=False)`.
      rule, tracker: see `selection.select`.
      pictures: folder for one PNG of each clip kept: frames with the outlines of target (green)
        and actor (red); None = none.
      progress: is told how many of how many clips are done.
    """
    verdicts, skipped = {}, list(clips.skipped)
    for index in range(len(clips)):
        file = clips.files[clips.windows[index].file]
        try:
            clip = clips[index]
            masks = follow(clip, tracker)
            verdict = verdicts[file.name] = select(clip, rule, tracker, masks)
        except ClipError as error:
            skipped.append((file.path, str(error).removeprefix(f"{file.path}: ")))
            continue
        if verdict.kept and pictures is not None:
            name = file.name.replace("/", "_")
            write_sheet(pictures / f"{name}.png", picture(clip, masks, verdict))
        if progress is not None:
            progress(index + 1, len(clips))
    return Selection(verdicts, tuple(skipped))


def picture(
    clip: Clip, masks: Bool[np.ndarray, "S T H W"], verdict: Verdict
) -> UInt8[np.ndarray, "h w 3"]:
    """Frames from the first to the last, that of the contact among them, with outlines."""
    frames = np.linspace(0, clip.num_frames - 1, _SHOWN).round().astype(int)
    frames = np.unique([*frames, max(verdict.contact_frame, 0)])
    scale = _HEIGHT / clip.size_hw[0]
    size_hw = (_HEIGHT, max(1, round(clip.size_hw[1] * scale)))
    shown = []
    for t in frames:
        frame = resize_image(clip.video[t], size_hw).copy()
        for mask, colour in zip(masks, _COLOURS, strict=False):
            large = resize_image(mask[t].astype(np.uint8) * 255, size_hw) > 127
            lines, _ = cv2.findContours(
                large.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
            )
            cv2.drawContours(frame, lines, -1, colour, 1)
        label = f"{t} contact" if t == verdict.contact_frame else str(t)
        cv2.putText(
            frame, label, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA
        )
        shown.append(np.pad(frame, ((0, 0), (0, 4), (0, 0))))
    return np.concatenate(shown, axis=1)
