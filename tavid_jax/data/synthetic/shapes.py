"""Silhouettes of sprites as tables of signed distances.

A shape is a signed distance on a square grid of shape coordinates (x to the right, y
down, negative inside), read by bilinear interpolation.  The renderer and the exact tracks
read the same table, so what is drawn and what occludes are one thing, and every shape
costs the same.  All shapes are scaled to the area of the unit disc (pi), so that sprites of
one radius cover the same share of a frame whatever their shape.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

EXTENT = 2.2  # the table spans [-EXTENT, EXTENT] in both shape coordinates
CELLS = 176  # intervals of the table per side (0.025 radii each)

Plane = Float[np.ndarray, "*any"]


def _disc(x: Plane, y: Plane, cx=0.0, cy=0.0, r=1.0) -> Plane:
    return np.sqrt((x - cx) ** 2 + (y - cy) ** 2) - r


def _ellipse(x: Plane, y: Plane, cx, cy, rx, ry, turn=0.0) -> Plane:
    """First-order distance to an ellipse: exact sign, right slope at the border."""
    c, s = np.cos(turn), np.sin(turn)
    u, v = (x - cx) * c + (y - cy) * s, (y - cy) * c - (x - cx) * s
    level = np.sqrt((u / rx) ** 2 + (v / ry) ** 2)
    slope = np.sqrt((u / rx**2) ** 2 + (v / ry**2) ** 2)
    return np.where(level > 1e-9, level * (level - 1.0) / np.maximum(slope, 1e-9), -min(rx, ry))


def _box(x: Plane, y: Plane, cx, cy, hx, hy, corner=0.0) -> Plane:
    u, v = np.abs(x - cx) - hx + corner, np.abs(y - cy) - hy + corner
    return (
        np.hypot(np.maximum(u, 0.0), np.maximum(v, 0.0))
        + np.minimum(np.maximum(u, v), 0.0)
        - corner
    )


def _limb(x: Plane, y: Plane, ax, ay, bx, by, r) -> Plane:
    """Thick line from a to b with round ends."""
    dx, dy = bx - ax, by - ay
    along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    return np.hypot(x - ax - along * dx, y - ay - along * dy) - r


def _polygon(x: Plane, y: Plane, corners) -> Plane:
    """Exact distance to a closed polygon, of any orientation."""
    corners = np.asarray(corners, np.float64)
    distance = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        distance = np.minimum(distance, _limb(x, y, ax, ay, bx, by, 0.0))
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return np.where(inside, -distance, distance)


def _union(*parts: Plane) -> Plane:
    return functools.reduce(np.minimum, parts)


def disc(x: Plane, y: Plane) -> Plane:
    return _disc(x, y)


def box(x: Plane, y: Plane) -> Plane:
    return _box(x, y, 0.0, 0.0, 1.0, 1.0, corner=0.12)


def triangle(x: Plane, y: Plane) -> Plane:
    turns = np.pi * (np.arange(3) * 2.0 / 3.0 - 0.5)
    return _polygon(x, y, np.stack([np.cos(turns), np.sin(turns)], -1)) - 0.08


def star(x: Plane, y: Plane) -> Plane:
    turns = np.pi * (np.arange(10) / 5.0 - 0.5)
    reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.5)
    return _polygon(x, y, np.stack([reach * np.cos(turns), reach * np.sin(turns)], -1)) - 0.05


def ring(x: Plane, y: Plane) -> Plane:
    return np.abs(_disc(x, y, r=0.75)) - 0.25


def cross(x: Plane, y: Plane) -> Plane:
    return _union(_box(x, y, 0, 0, 1.0, 0.36, 0.1), _box(x, y, 0, 0, 0.36, 1.0, 0.1))


def heart(x: Plane, y: Plane) -> Plane:
    turns = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
    high = 13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)
    return _polygon(x, y, np.stack([np.sin(turns) ** 3, -(high + 2.0) / 16.0], -1)) - 0.02


def bar(x: Plane, y: Plane) -> Plane:
    return _box(x, y, 0.0, 0.0, 1.0, 0.42, corner=0.1)


def beam(x: Plane, y: Plane) -> Plane:
    """A lying bar, longer than `bar`."""
    return _box(x, y, 0.0, 0.0, 1.0, 0.34, corner=0.1)


def pillar(x: Plane, y: Plane) -> Plane:
    """A standing `beam`."""
    return beam(y, x)


def hoop(x: Plane, y: Plane) -> Plane:
    """A ring with a wide hole."""
    return np.abs(_disc(x, y, r=0.8)) - 0.2


def person(x: Plane, y: Plane) -> Plane:
    """Standing figure: head, body, arms a little away from it, two legs."""
    return _union(
        _disc(x, y, 0.0, -1.12, 0.34),
        _box(x, y, 0.0, -0.22, 0.34, 0.56, 0.2),
        _limb(x, y, -0.30, -0.60, -0.62, 0.08, 0.14),
        _limb(x, y, 0.30, -0.60, 0.62, 0.08, 0.14),
        _limb(x, y, -0.17, 0.25, -0.28, 1.25, 0.17),
        _limb(x, y, 0.17, 0.25, 0.28, 1.25, 0.17),
    )


def dog(x: Plane, y: Plane) -> Plane:
    """Four-legged animal from the side, looking to the right."""
    return _union(
        _ellipse(x, y, 0.0, 0.0, 0.95, 0.42),
        _disc(x, y, 0.95, -0.48, 0.36),
        _limb(x, y, 1.05, -0.40, 1.42, -0.34, 0.16),
        _limb(x, y, 0.72, -0.62, 0.62, -0.92, 0.13),
        _limb(x, y, -0.85, -0.15, -1.30, -0.62, 0.11),
        *(
            _limb(x, y, cx, 0.15, cx + lean, 0.95, 0.14)
            for cx, lean in ((-0.68, -0.08), (-0.35, 0.05))
        ),
        *(
            _limb(x, y, cx, 0.15, cx + lean, 0.95, 0.14)
            for cx, lean in ((0.38, -0.05), (0.68, 0.08))
        ),
    )


def bird(x: Plane, y: Plane) -> Plane:
    """Bird from the side, looking to the right, wing raised."""
    return _union(
        _ellipse(x, y, 0.0, 0.1, 0.85, 0.48, 0.15),
        _disc(x, y, 0.75, -0.25, 0.34),
        _polygon(x, y, [(1.02, -0.36), (1.42, -0.2), (1.02, -0.1)]),
        _polygon(x, y, [(-0.65, -0.1), (-1.45, -0.4), (-1.3, 0.15), (-0.6, 0.3)]),
        _polygon(x, y, [(-0.45, 0.0), (-0.75, -1.15), (0.40, -0.1)]) - 0.06,
    )


def fish(x: Plane, y: Plane) -> Plane:
    """Fish from the side, looking to the right."""
    return _union(
        _ellipse(x, y, 0.15, 0.0, 1.0, 0.58),
        _polygon(x, y, [(-0.65, 0.0), (-1.35, -0.62), (-1.15, 0.0), (-1.35, 0.62)]) - 0.05,
        _polygon(x, y, [(-0.2, -0.45), (0.1, -0.9), (0.45, -0.45)]) - 0.04,
    )


_DRAWN: dict[str, Callable] = {
    "disc": disc,
    "box": box,
    "triangle": triangle,
    "star": star,
    "ring": ring,
    "cross": cross,
    "heart": heart,
    "bar": bar,
    "beam": beam,
    "pillar": pillar,
    "hoop": hoop,
    "person": person,
    "dog": dog,
    "bird": bird,
    "fish": fish,
}
SHAPES = tuple(_DRAWN)


@functools.cache
def table(name: str) -> Float[np.ndarray, "cells cells"]:
    """Signed distances of a shape of area pi, centred on its bounding box.

    Args:
      name: one of `SHAPES`.

    Returns:
      float64 (CELLS + 1, CELLS + 1): entry [i, j] is the distance, in units of the equal
      disc's radius, at x = -EXTENT + j * 2 EXTENT / CELLS and y likewise with i.
    """
    draw = _DRAWN[name]
    axis = np.linspace(-EXTENT, EXTENT, CELLS + 1)
    x, y = np.meshgrid(axis, axis)
    inside = draw(x, y) <= 0.0
    cx, cy = (0.5 * (axis[hit].min() + axis[hit].max()) for hit in (inside.any(0), inside.any(1)))
    scale = np.sqrt(np.pi / (inside.mean() * (2.0 * EXTENT) ** 2 * (CELLS + 1) ** 2 / CELLS**2))
    distance = draw(x / scale + cx, y / scale + cy) * scale
    # The same rounding on every machine, see `dice.steady`.
    return np.round(distance * 2.0**20) * 2.0**-20


@functools.cache
def reach(name: str) -> float:
    """Greatest distance of a shape's point from its centre, in radii of the equal disc."""
    axis = np.linspace(-EXTENT, EXTENT, CELLS + 1)
    x, y = np.meshgrid(axis, axis)
    step = 2.0 * EXTENT / CELLS
    return float(np.hypot(x, y)[table(name) <= 0.0].max() + step)


@functools.cache
def half_sides() -> Float[np.ndarray, "shapes 2"]:
    """Half width and half height, in radii, of the box that each of `SHAPES` fills."""
    axis = np.linspace(-EXTENT, EXTENT, CELLS + 1)
    rows = []
    for name in SHAPES:
        inside = table(name) <= 0.0
        rows.append([np.abs(axis[inside.any(a)]).max() for a in (0, 1)])
    return np.array(rows)


def extent(name: str) -> float:
    """Half of the side, in radii, of the bitmap of a shape: its reach and room for soft edges."""
    return min(EXTENT, reach(name) + 0.2)


@functools.cache
def _tables() -> Float[np.ndarray, " entries"]:
    """All tables in the order of `SHAPES`, one behind the other."""
    return np.concatenate([table(name).ravel() for name in SHAPES])


def signed_distance(
    shape: Int[np.ndarray, "..."],
    x: Float[np.ndarray, "*points"],
    y: Float[np.ndarray, "*points"],
) -> Float[np.ndarray, "*points"]:
    """Distance of points to the border of shapes; negative inside.

    Args:
      shape: index into `SHAPES`, broadcastable against the points.
      x, y: shape coordinates (radii of the equal disc).

    Returns:
      Distances in radii; points beyond the table get its border's (positive) value.
    """
    side = CELLS + 1
    scale = CELLS / (2.0 * EXTENT)
    u = np.clip((x + EXTENT) * scale, 0.0, CELLS - 1e-6)
    v = np.clip((y + EXTENT) * scale, 0.0, CELLS - 1e-6)
    j, i = u.astype(np.int32), v.astype(np.int32)
    u -= j
    v -= i
    values = _tables()
    start = shape * (side * side) + i * side + j
    top = values[start] * (1.0 - u) + values[start + 1] * u
    bottom = values[start + side] * (1.0 - u) + values[start + side + 1] * u
    return top * (1.0 - v) + bottom * v


def covers(
    shape: Int[np.ndarray, "..."],
    x: Float[np.ndarray, "*points"],
    y: Float[np.ndarray, "*points"],
) -> Bool[np.ndarray, "*points"]:
    """True where a shape covers a point (its border belongs to it)."""
    return signed_distance(shape, x, y) <= 0.0


def indices(names: tuple[str, ...]) -> Int[np.ndarray, " n"]:
    """Index into `SHAPES` of shapes given by name."""
    return np.array([SHAPES.index(name) for name in names], np.int64)
