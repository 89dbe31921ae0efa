"""2x3 matrices: how sprites lie in the world and how the camera sees it."""

import numpy as np
from jaxtyping import Float

from tavid_jax.data.synthetic.dice import steady
from tavid_jax.data.synthetic.motions import Poses

Affine = Float[np.ndarray, "... 2 3"]
Points = Float[np.ndarray, "... 2"]


def apply(matrix: Affine, points: Points) -> Points:
    """matrix (..., 2, 3) of points (..., 2); leading axes broadcast.

    Written out in multiplications and additions, each rounded by itself: fused or reordered
    sums of a matrix product would differ between machines.
    """
    x, y = points[..., 0], points[..., 1]
    return np.stack(
        [
            matrix[..., 0, 0] * x + matrix[..., 0, 1] * y + matrix[..., 0, 2],
            matrix[..., 1, 0] * x + matrix[..., 1, 1] * y + matrix[..., 1, 2],
        ],
        axis=-1,
    )


def invert(matrix: Affine) -> Affine:
    """Inverse of affine maps."""
    a, b, x = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2]
    c, d, y = matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2]
    det = a * d - b * c
    out = np.empty_like(matrix)
    out[..., 0, 0], out[..., 0, 1], out[..., 0, 2] = d / det, -b / det, (b * y - d * x) / det
    out[..., 1, 0], out[..., 1, 1], out[..., 1, 2] = -c / det, a / det, (c * x - a * y) / det
    return out


def compose(outer: Affine, inner: Affine) -> Affine:
    """The map that applies `inner` first."""
    columns = [
        outer[..., :, 0] * inner[..., 0, None, k] + outer[..., :, 1] * inner[..., 1, None, k]
        for k in range(3)
    ]
    columns[2] = columns[2] + outer[..., :, 2]
    return np.stack(columns, axis=-1)


def _turn(angle) -> tuple[np.ndarray, np.ndarray]:
    return steady(np.cos(angle)), steady(np.sin(angle))


def place(poses: Poses, radii: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n T 2 3"]:
    """Shape coordinates -> world px of n sprites.

    Args:
      poses: centre, angle and size over time.
      radii: px of the shape's x and y axis.

    Returns:
      Matrices (n, T, 2, 3): scale, then turn (clockwise on screen), then move to the centre.
    """
    cos, sin = _turn(poses.angle)
    rx = steady(poses.size * radii[:, :1])
    ry = steady(poses.size * radii[:, 1:])
    centre = steady(poses.centre)
    first = np.stack([cos * rx, -sin * ry, centre[..., 0]], axis=-1)
    second = np.stack([sin * rx, cos * ry, centre[..., 1]], axis=-1)
    return np.stack([first, second], axis=-2)


def about(
    middle: Float[np.ndarray, "2"],
    pan: Float[np.ndarray, "B T 2"],
    zoom: Float[np.ndarray, "B T"],
    roll: Float[np.ndarray, "B T"],
) -> Float[np.ndarray, "B T 2 3"]:
    """World px -> screen px: zoom and roll about the middle of the frame, then pan."""
    cos, sin = _turn(roll)
    a, b = zoom * cos, zoom * sin
    shift = steady(pan) + middle
    first = np.stack([a, -b, shift[..., 0] - a * middle[0] + b * middle[1]], axis=-1)
    second = np.stack([b, a, shift[..., 1] - b * middle[0] - a * middle[1]], axis=-1)
    return np.stack([first, second], axis=-2)


def enlarge(scale: float | int) -> Float[np.ndarray, "2 3"]:
    """px of a frame -> px of the same frame drawn `scale` times larger (centres at integers)."""
    shift = 0.5 * scale - 0.5
    return np.array([[scale, 0.0, shift], [0.0, scale, shift]])
