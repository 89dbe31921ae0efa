"""A textured square that moves over a textured background, its exact tracks, and files of them."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np

FRAMES, HW, SIDE = 10, (72, 96), 32


@dataclasses.dataclass(frozen=True)
class Scene:
    """Frames, and the square's corner in each."""

    video: np.ndarray
    corner: np.ndarray  # (T, 2) xy

    @property
    def mask(self) -> np.ndarray:
        x, y = self.corner[0]
        mask = np.zeros(HW, bool)
        mask[y : y + SIDE, x : x + SIDE] = True
        return mask

    def tracks(self, step: int = 6) -> np.ndarray:
        """(N, T, 2) of points on the square."""
        grid = np.arange(4, SIDE - 3, step)
        points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 1, 2)
        return (points + self.corner[None]).astype(np.float32)


def texture(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (*size_hw, 3)), (0, 0), 2)
    low, high = noise.min(), noise.max()
    return (255 * (noise - low) / (high - low)).astype(np.uint8)


def make_scene(seed: int, speed: tuple[int, int] = (3, 1)) -> Scene:
    rng = np.random.default_rng(seed)
    back, front = texture(rng, HW), texture(rng, (SIDE, SIDE))
    corner = np.array([12, 16]) + np.arange(FRAMES)[:, None] * np.array(speed)
    video = np.repeat(back[None], FRAMES, axis=0)
    for frame, (x, y) in zip(video, corner, strict=True):
        frame[y : y + SIDE, x : x + SIDE] = front
    return Scene(video, corner)


def save_tracks(path: Path, tracks: np.ndarray, visibility=None, **fields) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seen = np.ones(tracks.shape[:2], bool) if visibility is None else visibility
    fields = {"size_hw": np.array(HW), **fields}
    np.savez(path, tracks=tracks.astype(np.float32), visibility=seen, **fields)


def stands(video: np.ndarray) -> np.ndarray:
    return np.repeat(video[:1], len(video), axis=0)
