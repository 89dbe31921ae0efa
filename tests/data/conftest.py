"""Small videos with known motion, made on the fly."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random RGB picture with structure at several scales."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for cell in (4, 8, 16, 32):
        size = (width // cell + 2, height // cell + 2)
        noise = rng.normal(size=(size[1], size[0], 3)).astype(np.float32)
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * cell**0.5
    return cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def moving(
    size_hw: tuple[int, int], num_frames: int, velocity: tuple[float, float] = (1.0, 0.5)
) -> np.ndarray:
    """Frames (T, H, W, 3) of a texture that moves by `velocity` (x, y) px a frame."""
    height, width = size_hw
    margin = int(max(map(abs, velocity)) * num_frames) + 8
    picture = texture(height + 2 * margin, width + 2 * margin)
    frames = []
    for t in range(num_frames):
        shift = np.float32([[1, 0, velocity[0] * t - margin], [0, 1, velocity[1] * t - margin]])
        frames.append(cv2.warpAffine(picture, shift, (width, height), flags=cv2.INTER_CUBIC))
    return np.stack(frames)


@pytest.fixture(scope="session")
def moving_frames() -> Callable[..., np.ndarray]:
    """The function `moving`: frames of a texture in known motion."""
    return moving


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    """Writes a moving texture: `make_video(path, num_frames=40, size_hw=(48, 64), fps=10)`.

    A path without suffix becomes a folder of png images (exact); .avi is motion JPEG.
    """

    def make(path, num_frames=40, size_hw=(48, 64), fps=10.0, velocity=(1.0, 0.5)) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = moving(size_hw, num_frames, velocity)
        if not path.suffix:
            path.mkdir()
            for t, frame in enumerate(frames):
                cv2.imwrite(str(path / f"{t}.png"), frame[..., ::-1])
            return path
        codec = {".avi": "MJPG", ".mp4": "mp4v", ".webm": "VP80", ".mkv": "mp4v"}[path.suffix]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size_hw[::-1])
        assert writer.isOpened(), path
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
        return path

    return make
