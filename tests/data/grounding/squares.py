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
        for (colour, *_), look, (x, y) in zip(_SQUARES, looks, places(0 if still else t)):
            frame[y : y + SIDE, x : x + SIDE] = np.clip(np.array(colour) + look, 0, 255)
        shown.append(frame)
    return np.stack(shown)


def masks() -> np.ndarray:
    made = np.zeros((2, *HW), bool)
    for mask, (x, y) in zip(made, places(0)):
        mask[y : y + SIDE, x : x + SIDE] = True
    return made


def clip(**changes) -> Clip:
    fields = dict(video=video(), masks=masks(), local_captions=TEXTS, caption="two squares")
    return Clip("squares", HW, 8.0, **(fields | changes))


def true_tracks(frames: int = FRAMES) -> np.ndarray:
    """(2, T, 2): the middle of each square."""
    return np.float32([places(t) for t in range(frames)]).transpose(1, 0, 2) + (SIDE - 1) / 2


def write(folder: Path, name: str, *, texts=TEXTS, caption="two squares", drawn=True, still=False):
    """A folder of images `name`, and what belongs to it beside it."""
    (folder / name).mkdir(parents=True)
    for t, frame in enumerate(video(still=still)):
        cv2.imwrite(str(folder / name / f"{t}.png"), frame[..., ::-1])
    (folder / name / "fps.txt").write_text("8")
    for number, mask in enumerate(masks() if drawn else ()):
        cv2.imwrite(str(folder / f"{name}.mask_{number}.png"), mask.astype(np.uint8) * 255)
    if texts is not None:
        (folder / f"{name}.texts.json").write_text(json.dumps(texts))
    if caption:
        (folder / f"{name}.txt").write_text(caption)
