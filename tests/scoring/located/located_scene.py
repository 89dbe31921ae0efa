"""Two boxes of plain colours that cross a grey ground."""

import numpy as np

from tavid_jax.data.synthetic.looks import PALETTE

HW, FRAMES, SIDE = (64, 112), 6, 18
TEXTS = ("a red box", "a teal box")
STARTS, STEP = np.array([[12, 14], [90, 44]]), np.array([[4, 1], [-4, -1]])
TRACKS = STARTS[:, None] + np.arange(FRAMES)[:, None] * STEP[:, None] - 0.5


def video(colours: tuple[str, str]) -> np.ndarray:
    frames = np.full((FRAMES, *HW, 3), 90, np.uint8)
    for t, frame in enumerate(frames):
        for place, colour in zip(STARTS + t * STEP, colours, strict=True):
            x, y = place - SIDE // 2
            frame[y : y + SIDE, x : x + SIDE] = PALETTE[colour]
    return frames
