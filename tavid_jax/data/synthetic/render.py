"""Draws a scene: background plane, then sprites from back to front, by inverse mapping."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.data.synthetic import affine, looks, shapes
from tavid_jax.data.synthetic.scene import Scene

MARGIN = 24.0  # px (of 64) of background beyond the frame before it is mirrored
TEXELS = 1.5  # bitmap resolution per px


class Frames(NamedTuple):
    """A drawn scene.

    Attributes:
      video: uint8 (T, H, W, 3) RGB.
      segment_map: uint8 (T, H, W), number of the sprite seen at each pixel, 0 = background.
    """

    video: UInt8[np.ndarray, "T H W 3"]
    segment_map: UInt8[np.ndarray, "T H W"]


def _sample(bitmap, matrix: Float[np.ndarray, "T 2 3"], corner, size: tuple[int, int], border: int):
    """Reads a bitmap at matrix @ (corner + pixel) for a size[0] x size[1] patch per frame."""
    rows, columns = size
    start = affine.apply(matrix, np.asarray(corner, np.float64))
    i, j = np.arange(rows), np.arange(columns)
    at = []
    for k in (0, 1):
        down = (start[:, k, None] + matrix[:, k, 1, None] * i).astype(np.float32)
        along = (matrix[:, k, 0, None] * j).astype(np.float32)
        at.append((down[:, :, None] + along[:, None, :]).reshape(-1, columns))
    patch = cv2.remap(bitmap, at[0], at[1], cv2.INTER_LINEAR, borderMode=border, borderValue=0)
    return patch.reshape(len(matrix), rows, columns, -1)


def _background(scene: Scene, screen: Float[np.ndarray, "T 2 3"], scale, size_hw):
    """The plane as the camera sees it: RGBA (T, H, W, 4)."""
    config = scene.config
    unit = config.unit
    longer = max(config.size_hw) / unit
    resolution = TEXELS * unit * scale
    bitmap = cv2.cvtColor(
        looks.ground_bitmap(scene.ground, longer, MARGIN, resolution), cv2.COLOR_RGB2RGBA
    )
    # World px -> texel of the bitmap, which is centred on the frame.
    per_px = (bitmap.shape[0] - 1) / ((longer + 2.0 * MARGIN) * unit)
    height, width = config.size_hw
    shift = 0.5 * (bitmap.shape[0] - 1) - per_px * 0.5 * np.array([width - 1, height - 1])
    to_texel = np.array([[per_px, 0.0, shift[0]], [0.0, per_px, shift[1]]])
    matrix = affine.compose(to_texel, affine.invert(screen))
    if (matrix == matrix[0]).all():  # the camera stands still: one view for all frames
        view = _sample(bitmap, matrix[:1], (0.0, 0.0), size_hw, cv2.BORDER_REFLECT_101)
        return np.repeat(view, len(matrix), axis=0)
    return _sample(bitmap, matrix, (0.0, 0.0), size_hw, cv2.BORDER_REFLECT_101)


def _sprite(scene: Scene, index: int, screen: Float[np.ndarray, "T 2 3"]):
    """Patches (T, K, K, 4) of a sprite and their upper left corners (T, 2) on screen."""
    shape = scene.shapes[index]
    matrix = affine.compose(screen, scene.place[index])
    radii = np.linalg.norm(matrix[:, :, :2], axis=1)  # px of both axes, per frame
    radius = float(np.sqrt(radii.prod(-1)).mean())
    bitmap = looks.sprite_bitmap(shape, scene.objects[index], radius, TEXELS)
    size = int(2.0 * np.ceil(radii.max() * shapes.reach(shape) + 1.0)) + 1
    corner = np.rint(matrix[:, :, 2]).astype(np.int64) - size // 2
    per_unit = (bitmap.shape[0] - 1) / (2.0 * shapes.extent(shape))
    half = 0.5 * (bitmap.shape[0] - 1)
    to_texel = np.array([[per_unit, 0.0, half], [0.0, per_unit, half]])
    inverse = affine.compose(to_texel, affine.invert(matrix))
    return _sample(bitmap, inverse, corner, (size, size), cv2.BORDER_CONSTANT), corner


def render(scene: Scene, scale: float | int = 1) -> Frames:
    """Draws all frames of a scene.

    Every pixel shows the texture point that the exact geometry puts there (bilinear, in
    bitmaps finer than the frame), so a track stays on its texture point to a few hundredths
    of a pixel.

    Args:
      scene: what to draw.
      scale: draws the same scene this many times larger (frame sides are rounded).

    Returns:
      Frames of size (H scale, W scale).
    """
    height, width = (int(round(side * scale)) for side in scene.config.size_hw)
    screen = affine.compose(affine.enlarge(scale), scene.camera)
    if scene.ground.texture == looks.GREY and all(o.texture == looks.FLAT for o in scene.objects):
        return _render_flat(scene, screen, (height, width))
    canvas = _background(scene, screen, scale, (height, width))
    segment_map = np.zeros(canvas.shape[:3], np.uint8)
    for index in range(len(scene.shapes)):
        patches, corners = _sprite(scene, index, screen)
        _paste(canvas, segment_map, patches, corners, index + 1)
    return Frames(np.ascontiguousarray(canvas[..., :3]), segment_map)


def _render_flat(scene: Scene, screen: Float[np.ndarray, "T 2 3"], size_hw) -> Frames:
    """One colour per sprite on one grey: no bitmaps, only distances, for all frames at once."""
    shape = (len(screen), *size_hw)
    canvas = np.full((*shape, 3), 255.0 * scene.ground.level, np.float32)
    segment_map = np.zeros(shape, np.uint8)
    per_radius, half = shapes.CELLS / (2.0 * shapes.EXTENT), shapes.CELLS / 2.0
    to_cell = np.array([[per_radius, 0.0, half], [0.0, per_radius, half]])
    for index, (name, look) in enumerate(zip(scene.shapes, scene.objects, strict=True)):
        matrix = affine.compose(screen, scene.place[index])
        radii = np.linalg.norm(matrix[:, :, :2], axis=1)  # px of both axes, per frame
        inverse = affine.compose(to_cell, affine.invert(matrix))
        table = shapes.table(name).astype(np.float32)
        distance = _sample(table, inverse, (0.0, 0.0), size_hw, cv2.BORDER_REPLICATE)
        radius = np.sqrt(radii.prod(-1))[:, None, None, None].astype(np.float32)
        alpha = np.clip(0.5 - distance * radius, 0.0, 1.0)
        canvas += alpha * (np.array(looks.PALETTE[look.colour], np.float32) - canvas)
        segment_map[alpha[..., 0] > 0.5] = index + 1
    return Frames(np.rint(canvas).astype(np.uint8), segment_map)


def _paste(canvas, segment_map, patches, corners, number: int) -> None:
    """Lays premultiplied RGBA patches over the frames (RGBA too: cv2 is fastest so), in place."""
    height, width = segment_map.shape[1:]
    size = patches.shape[1]
    for frame, (x, y) in enumerate(corners.tolist()):
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + size, width), min(y + size, height)
        if x0 >= x1 or y0 >= y1:
            continue
        patch = np.ascontiguousarray(patches[frame, y0 - y : y1 - y, x0 - x : x1 - x])
        alpha = cv2.extractChannel(patch, 3)
        keep = cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2BGRA)
        target = canvas[frame, y0:y1, x0:x1]
        cv2.add(cv2.multiply(target, keep, scale=1.0 / 255.0), patch, dst=target)
        np.copyto(segment_map[frame, y0:y1, x0:x1], number, where=alpha > 127)
