"""Two textured squares that move over a still ground: as a clip, and as files of a folder."""

import json
from pathlib import Path

import cv2
import numpy as np

from tavid_jax.data.clip import Clip

HW, FRAMES, SIDE = (48, 64), 9, 12
TEXTS = ("a red square", "a blue square")
_SQUARES = (((220, 40, 40), (6, 8), (3, 1)), ((40, 60, 220), (44, 28), (-3, -1)))


def places(t: int) -> list[tuple[int, int]]:
    """(x, y) of the upper left corner of each square in frame t."""
    return [(x + t * dx, y + t * dy) for _, (x, y), (dx, dy) in _SQUARES]


def video(frames: int = FRAMES, still: bool = False) -> np.ndarray:
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(90, 160, (12, 16, 3), np.uint8), HW[::-1])
    looks = rng.integers(-35, 35, (2, SIDE, SIDE, 1))
    shown = []
    for t in range(frames):
        frame = ground.copy()
        where = places(0 if still else t)
        for (colour, *_), look, (x, y) in zip(_SQUARES, looks, where, strict=True):
            frame[y : y + SIDE, x : x + SIDE] = np.clip(np.array(colour) + look, 0, 255)
        shown.append(frame)
    return np.stack(shown)


def masks() -> np.ndarray:
    made = np.zeros((2, *HW), bool)
    for mask, (x, y) in zip(made, places(0), strict=True):
        mask[y : y + SIDE, x : x + SIDE] = True
    return made


def clip(**changes) -> Clip:
    fields = dict(video=video(), masks=masks(), local_captions=TEXTS, caption="two squares")
    return Clip("squares", HW, 8.0, **(fields | changes))


def true_tracks(frames: int = FRAMES) -> np.ndarray:
    """(2, T, 2): the middle of each square."""
    return np.float32([places(t) for t in range(frames)]).transpose(1, 0, 2) + (SIDE - 1) / 2


def tracker(frames: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follows the squares exactly; what lies beside them stands still."""
    tracks = np.repeat(query[:, None], len(frames), axis=1)
    for mask, true in zip(masks(), true_tracks(len(frames)), strict=True):
        inside = mask[query[:, 1].astype(int), query[:, 0].astype(int)]
        tracks[inside] += true - true[:1]
    return tracks.astype(np.float32), np.ones(tracks.shape[:2], bool)


def grid() -> np.ndarray:
    """(N, 2) points all over the frame."""
    y, x = np.mgrid[2 : HW[0] : 4, 2 : HW[1] : 4].reshape(2, -1)
    return np.stack([x, y], -1).astype(np.float32)


def write(folder: Path, name: str, *, texts=TEXTS, caption="two squares", drawn=True, still=False):
    """A folder of images `name`, and what belongs to it beside it."""
    (folder / name).mkdir(parents=True)
    for t, frame in enumerate(video(still=still)):
        cv2.imwrite(str(folder / name / f"{t}.png"), frame[..., ::-1])
    (folder / name / "fps.txt").write_text("8")
    for number, mask in enumerate(masks() if drawn else ()):
        cv2.imwrite(str(folder / f"{name}.mask_{number}.png"), mask.astype(np.uint8) * 255)
    tracks, seen = tracker(video(still=still), grid())
    if still:
        tracks = np.repeat(tracks[:, :1], FRAMES, axis=1)
    np.savez(folder / f"{name}.npz", tracks=tracks, visibility=seen, size_hw=np.array(HW))
    if texts is not None:
        (folder / f"{name}.texts.json").write_text(json.dumps(texts))
    if caption:
        (folder / f"{name}.txt").write_text(caption)
