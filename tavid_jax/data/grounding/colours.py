"""Words for objects by their colour: a stand-in where no model is at hand that describes them."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.data.clip import Clip
from tavid_jax.data.grounding.points import edge_distance
from tavid_jax.data.grounding.providers import Objects

_NAMES = {
    "black": (20, 20, 20), "grey": (128, 128, 128), "white": (240, 240, 240),
    "red": (200, 30, 30), "orange": (240, 140, 30), "yellow": (240, 220, 40),
    "green": (50, 150, 50), "cyan": (50, 200, 200), "blue": (40, 80, 200),
    "purple": (130, 50, 170), "pink": (240, 130, 180), "brown": (110, 70, 40),
}  # fmt: skip


def colour_texts(clip: Clip, objects: Objects, points: Float[np.ndarray, "S 2"]) -> tuple[str, ...]:
    """ "a red object", or "a red cup" where the segmenter gives the name "cup"; see `colour_name`.

    The colour is the median of the inner half of the mask.
    """
    del points
    names = objects.names or ("object",) * len(objects.masks)
    texts = []
    for mask, name in zip(objects.masks, names, strict=True):
        distance = edge_distance(mask)
        inner = clip.video[0][distance >= max(distance.max() / 2, 0.5)]
        colour = colour_name(np.median(inner, axis=0).astype(np.uint8))
        texts.append(f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {name}")
    return tuple(texts)


def colour_name(rgb: UInt8[np.ndarray, "3"]) -> str:
    """The nearest of twelve named colours, by CIE Lab."""
    table = np.array([rgb, *_NAMES.values()], np.uint8)[None]
    lab = cv2.cvtColor(table.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    return list(_NAMES)[int(np.linalg.norm(lab[1:] - lab[0], axis=-1).argmin())]
