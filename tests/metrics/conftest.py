"""Track sets with known scores."""

from typing import NamedTuple

import numpy as np
import pytest


class TrackSet(NamedTuple):
    """Predicted and true tracks (V, N, T, 2) on a row-major grid, visibility (V, N, T)."""

    prediction: np.ndarray
    truth: np.ndarray
    visibility: np.ndarray
    grid_hw: tuple[int, int]


@pytest.fixture(scope="session")
def waves() -> TrackSet:
    """8 videos of 81 frames on a 15 x 26 grid with spacing 32, given by closed formulas.

    The public TrajLoom scripts were run on this set; tests quote the values which they print.
    """
    v = np.arange(8.0)[:, None, None]
    t = np.arange(81.0)
    i = np.repeat(np.arange(15.0), 26)[:, None]
    j = np.tile(np.arange(26.0), 15)[:, None]
    x = 32 * j + 3 * np.sin(0.2 * t + 0.3 * i + 0.5 * v)
    y = 32 * i + 2 * np.cos(0.15 * t + 0.2 * j + 0.7 * v)
    error_x = 0.5 * np.sin(0.9 * t + i + j + v)
    error_y = 0.4 * np.cos(1.1 * t + 2 * i - j + v)
    truth = np.stack([x, y], axis=-1)
    prediction = truth + np.stack([error_x, error_y], axis=-1)
    visibility = (i + 2 * j + 3 * t + v) % 7 != 0
    return TrackSet(prediction.astype(np.float32), truth.astype(np.float32), visibility, (15, 26))


def point_major(tracks: np.ndarray) -> np.ndarray:
    """(V, T, N, ...) as stored in the goldens -> (V, N, T, ...)."""
    return np.swapaxes(tracks, 1, 2)
