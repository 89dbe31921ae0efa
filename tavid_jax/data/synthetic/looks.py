"""What sprites and backgrounds look like: colours, textures, and their small bitmaps."""

import colorsys
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.data.synthetic import shapes
from tavid_jax.data.synthetic.dice import Dice

# Columns of dice that a look may use.
COLUMNS = 6

# Named colours, RGB 0..255: far apart in hue, at home on the muted backgrounds.
PALETTE = {
    "red": (226, 61, 54),
    "orange": (244, 144, 46),
    "yellow": (248, 208, 66),
    "green": (76, 174, 88),
    "teal": (42, 176, 176),
    "blue": (58, 110, 224),
    "purple": (140, 86, 206),
    "pink": (240, 122, 176),
    "white": (240, 238, 230),
    "brown": (146, 94, 58),
}
TEXTURES = ("plain", "striped", "checked", "dotted", "speckled")
FLAT = "flat"  # one colour, without light and outline
BACKGROUNDS = ("sand", "grass", "water", "slate", "tiles", "boards")
GREY = "grey"  # one random level, without texture

# Base colour (RGB) of each background and of its second tone.
_GROUND_TONES = {
    "sand": ((196, 178, 146), (164, 144, 112)),
    "grass": ((112, 142, 96), (82, 112, 76)),
    "water": ((98, 136, 158), (70, 106, 134)),
    "slate": ((112, 118, 128), (84, 90, 100)),
    "tiles": ((176, 172, 166), (146, 142, 138)),
    "boards": ((160, 132, 108), (130, 104, 82)),
    "plain": ((128, 130, 134), (128, 130, 134)),
}


class Look(NamedTuple):
    """Appearance of one sprite.

    Attributes:
      colour, texture: names.
      count: how fine the texture is (periods per radius).
      turn: direction of the texture, radian.
      noise: seed of speckles.
    """

    colour: str
    texture: str
    count: float
    turn: float
    noise: int


class Ground(NamedTuple):
    """Appearance of the background plane.

    Attributes:
      texture: name.
      pitch: period of its pattern in px of a 64-pixel frame.
      turn: direction of the pattern, radian.
      noise: seed of its grain.
      level: of a grey background, 0..1.
    """

    texture: str
    pitch: float
    turn: float
    noise: int
    level: float = 0.0


def sample_look(
    textures: tuple[str, ...], colour: str, numbers: Float[np.ndarray, " columns"]
) -> Look:
    """Appearance of a sprite from `COLUMNS` numbers in [0, 1)."""
    dice = Dice(numbers)
    return Look(
        colour=colour,
        texture=textures[int(dice.choice(len(textures)))],
        count=float(dice.uniform(1.3, 2.2)),
        turn=float(dice.uniform(0.0, np.pi)),
        noise=int(dice.choice(2**31)),
    )


def sample_ground(backgrounds: tuple[str, ...], numbers: Float[np.ndarray, " columns"]) -> Ground:
    """Appearance of a background from `COLUMNS` numbers in [0, 1)."""
    dice = Dice(numbers)
    return Ground(
        texture=backgrounds[int(dice.choice(len(backgrounds)))],
        pitch=float(dice.uniform(7.0, 12.0)),
        turn=float(dice.uniform(-0.6, 0.6)),
        noise=int(dice.choice(2**31)),
        level=float(dice.uniform(0.15, 0.40)),
    )


def _lattice(noise: int, side: int, cells: int, first: int = 0) -> Float[np.ndarray, "side side"]:
    """Smooth noise in [0, 1]: random values on a lattice, interpolated to side x side pixels.

    The lattice does not depend on `side`, so a larger bitmap shows the same pattern in more detail.
    """
    raw = np.random.PCG64([noise, first]).random_raw((cells + 1) ** 2)
    grid = ((raw >> np.uint64(40)).astype(np.float32) * 2.0**-24).reshape(cells + 1, cells + 1)
    axis = np.arange(side) * (cells / (side - 1.0))
    whole = np.floor(axis)
    part = axis - whole
    axis = (whole + part * part * (3.0 - 2.0 * part)).astype(np.float32)  # no creases at cells
    return cv2.remap(
        grid, *np.meshgrid(axis, axis), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _smooth_step(value: np.ndarray, width: float) -> np.ndarray:
    """0 below, 1 above zero, with a soft edge of the given width."""
    return np.clip(value / width + 0.5, 0.0, 1.0)


def _wave(phase: np.ndarray, width: float) -> np.ndarray:
    """Square wave of period 1 with soft edges; `width` in periods."""
    triangle = np.abs(np.mod(phase, 1.0) - 0.5) - 0.25
    return _smooth_step(triangle, width)


def _pattern(look: Look, x: np.ndarray, y: np.ndarray, texel: float) -> np.ndarray:
    """Where the second tone of a texture shows: 0..1 on the grid (x, y) in radii."""
    c, s = np.float32(np.cos(look.turn)), np.float32(np.sin(look.turn))
    u, v = (c * x + s * y) * look.count, (c * y - s * x) * look.count
    soft = 1.5 * texel * look.count
    if look.texture == "striped":
        return _wave(u, soft)
    if look.texture == "checked":
        a, b = _wave(u, soft), _wave(v, soft)
        return a + b - 2.0 * a * b
    if look.texture == "dotted":
        du, dv = np.mod(u, 1.0) - 0.5, np.mod(v, 1.0) - 0.5
        return _smooth_step(0.3 - np.sqrt(du * du + dv * dv), soft)
    if look.texture == "speckled":
        cells = int(3.2 * look.count * (x[0, -1] - x[0, 0]))
        return _smooth_step(_lattice(look.noise, x.shape[0], cells) - 0.62, 0.2)
    return np.zeros_like(x)


def second_tone(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """A tone of the same name that stands off: darker, or lighter for dark colours."""
    hue, light, strength = colorsys.rgb_to_hls(*(c / 255.0 for c in rgb))
    light = light * 0.62 if light > 0.5 else light + 0.24
    return tuple(255.0 * c for c in colorsys.hls_to_rgb(hue, light, strength * 0.9))


def _features(
    shape: str, x: np.ndarray, y: np.ndarray, texel: float
) -> list[tuple[np.ndarray, tuple]]:
    """Parts of creatures painted over the texture: (share of the paint, colour)."""

    def dot(cx, cy, r):
        return _smooth_step(r - np.hypot(x - cx, y - cy), 1.5 * texel)

    dark, skin, light = (34, 30, 34), (244, 202, 168), (250, 248, 240)
    if shape == "person":
        return [
            (_smooth_step(-0.78 - y, 1.5 * texel) * _smooth_step(0.6 - np.abs(x), 0.1), skin),
            (_smooth_step(-1.27 - y, 1.5 * texel), (84, 58, 44)),
            (_smooth_step(y - 1.22, 1.5 * texel), dark),
        ]
    eye = {"dog": (1.0, -0.58, 0.09), "bird": (0.82, -0.42, 0.09), "fish": (0.72, -0.02, 0.10)}.get(
        shape
    )
    if eye is None:
        return []
    return [(dot(*eye[:2], 1.8 * eye[2]), light), (dot(*eye), dark)]


def sprite_bitmap(
    shape: str, look: Look, radius_px: float, texels_per_px: float
) -> UInt8[np.ndarray, "side side 4"]:
    """Premultiplied RGBA bitmap of a sprite over +-`shapes.extent` of shape coordinates.

    Args:
      shape: silhouette.
      look: colour and texture.
      radius_px: radius on screen, which sets how fine the bitmap and how thin the outline is.
      texels_per_px: resolution.
    """
    extent = shapes.extent(shape)
    side = int(2.0 * extent * radius_px * texels_per_px) + 2
    axis = np.linspace(-extent, extent, side, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    texel = float(axis[1] - axis[0])
    table = shapes.table(shape).astype(np.float32)
    per_radius = np.float32(shapes.CELLS / (2 * shapes.EXTENT))
    at = (x + np.float32(shapes.EXTENT)) * per_radius
    distance = cv2.remap(table, at, np.ascontiguousarray(at.T), cv2.INTER_LINEAR)

    tone = _pattern(look, x, y, texel)[..., None]
    first, second = (
        np.array(c, np.float32) for c in (PALETTE[look.colour], second_tone(PALETTE[look.colour]))
    )
    rgb = first + (second - first) * tone
    for share, colour in _features(shape, x, y, texel):
        rgb += share[..., None] * (np.array(colour, np.float32) - rgb)
    # Light from above left, and a dark outline: part of the texture, so both turn with it.
    light = 1.0 - 0.10 * (x + y) - 0.42 * _smooth_step(distance + 0.13, 0.10)
    if look.texture == FLAT:
        light = np.ones_like(light)
    alpha = np.clip(0.5 - distance * radius_px, 0.0, 1.0)
    rgba = np.empty((side, side, 4), np.float32)
    np.clip(rgb * light[..., None], 0.0, 255.0, out=rgba[..., :3])
    rgba[..., :3] *= alpha[..., None]
    rgba[..., 3] = 255.0 * alpha
    return np.rint(rgba).astype(np.uint8)


def ground_bitmap(
    ground: Ground, size_px: float, margin: float, texels_per_px: float
) -> UInt8[np.ndarray, "side side 3"]:
    """RGB bitmap of the background plane: a square that covers the frame and a margin.

    Args:
      ground: which texture.
      size_px: longer side of the frame in px of a 64-pixel frame.
      margin: px of a 64-pixel frame beyond it on every side.
      texels_per_px: resolution.
    """
    span = size_px + 2.0 * margin
    side = int(span * texels_per_px) + 1
    axis = np.linspace(0.0, span, side, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    c, s = np.float32(np.cos(ground.turn)), np.float32(np.sin(ground.turn))
    u, v = (c * x + s * y) / ground.pitch, (c * y - s * x) / ground.pitch
    soft = 1.5 / (texels_per_px * ground.pitch)
    if ground.texture == GREY:
        return np.full((side, side, 3), round(255.0 * ground.level), np.uint8)
    if ground.texture == "plain":
        tone = np.zeros_like(x)
    else:
        coarse = _lattice(ground.noise, side, max(2, int(span / 14.0)))
        fine = _lattice(ground.noise, side, max(2, int(span / 3.5)), first=1)
        tone = 0.65 * coarse + 0.35 * fine
    if ground.texture == "water":
        tone = 0.45 * tone + 0.55 * (0.5 + 0.5 * np.sin(2 * np.pi * (v + 0.9 * coarse)))
    elif ground.texture == "grass":
        tone = 0.5 * coarse + 0.9 * (fine - 0.25)
    elif ground.texture == "tiles":
        joint = np.minimum(np.abs(np.mod(u, 1) - 0.5), np.abs(np.mod(v, 1) - 0.5))
        tone = 0.35 * tone + 0.9 * _smooth_step(0.06 - joint, soft)
    elif ground.texture == "boards":
        row = np.floor(v)
        joint = np.minimum(
            np.abs(np.mod(v, 1) - 0.5), 4 * np.abs(np.mod(u / 4 + 0.37 * row, 1) - 0.5)
        )
        shade = np.mod(row * 0.618, 1.0)
        tone = 0.35 * tone + 0.3 * shade + 0.6 * _smooth_step(0.05 - joint, soft)
    first, second = (np.array(t, np.float32) for t in _GROUND_TONES[ground.texture])
    rgb = first + (second - first) * np.clip(tone, 0.0, 1.2)[..., None]
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
