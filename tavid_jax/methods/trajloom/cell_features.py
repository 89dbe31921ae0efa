"""A fixed video feature with the shape of video latents, for when no video encoder is there.

Every latent token (one cell of the grid, one temporal block) gets the lowest frequencies of its
pixels: an orthonormal colour transform and an orthonormal cosine transform of the cell. Time is
grouped as causal video encoders do it: the first frame alone, then blocks of `temporal_stride`.
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float, UInt8

# Rows: brightness and two colour differences; orthonormal.
COLOUR = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], np.float64) / np.sqrt([[3.0], [2.0], [6.0]])


def video_features(
    video: UInt8[np.ndarray, "T H W 3"], patch: int, channels: int, temporal_stride: int = 4
) -> Float[np.ndarray, "L N C"]:
    """Frames -> float32 features of tokens, in the scale of [-1, 1] pixels.

    Args:
      video: RGB frames, T = temporal_stride * (L - 1) + 1.
      patch: side of a cell in pixels; divides H and W.
      channels: C, at most 3 * patch**2.

    Raises ValueError for sizes that do not divide.
    """
    frames, height, width, _ = video.shape
    if (frames - 1) % temporal_stride or height % patch or width % patch:
        raise ValueError(
            f"video of {frames} frames of {height}x{width}: frames must be {temporal_stride}k+1 "
            f"and both sides multiples of {patch}"
        )
    first = video[:1].astype(np.float32)
    later = video[1:].reshape(-1, temporal_stride, height, width, 3).mean(1, dtype=np.float32)
    blocks = np.concatenate([first, later]) / 127.5 - 1.0
    rows, columns = height // patch, width // patch
    cells = blocks.reshape(-1, rows, patch, columns, patch, 3).transpose(0, 1, 3, 2, 4, 5)
    basis = _basis(patch, channels)
    return cells.reshape(len(blocks), rows * columns, -1) @ basis / np.float32(patch)


@functools.lru_cache(maxsize=8)
def _basis(patch: int, channels: int) -> Float[np.ndarray, "P C"]:
    """The first orthonormal vectors over (row, column, colour), low frequencies first."""
    if channels > 3 * patch**2:
        raise ValueError(f"{channels} channels of a {patch}x{patch} cell: at most {3 * patch**2}")
    k, x = np.arange(patch)[:, None], np.arange(patch)[None]
    cosine = np.cos(np.pi * k * (2 * x + 1) / (2 * patch)) * np.sqrt(2.0 / patch)
    cosine[0] /= np.sqrt(2.0)
    # Brightness changes matter more to motion than colour: colour counts as one octave higher.
    order = sorted(
        (u + v + 2 * (c > 0), c, u, v) for u in range(patch) for v in range(patch) for c in range(3)
    )[:channels]
    vectors = [
        np.einsum("r,s,c->rsc", cosine[u], cosine[v], COLOUR[c]).ravel() for _, c, u, v in order
    ]
    return np.stack(vectors, axis=1).astype(np.float32)
