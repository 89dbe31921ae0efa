"""The same motion by another actor: what a scene's clip has as its partner."""

import dataclasses

import numpy as np
from jaxtyping import Float

from tavid_jax.data.synthetic import casting, looks, shapes
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.dice import Dice, steady, uniforms
from tavid_jax.data.synthetic.scene import Scene

_ASIDE = 8.0  # px of a 64-pixel frame that a twin's paths are moved at most


def sample_twin(scene: Scene) -> Scene:
    """A scene of other sprites that move as those of a scene do, beside their paths.

    Each has another shape and colour as far as the config has others, a radius of its own and the
    kind, path and timing of its model. All are moved aside alike, by up to 8 px (of 64), but none
    out of the frame if its model stays in it. The background looks different, the camera is equal.

    Args:
      scene: a free scene (not of an interaction).

    Returns:
      The twin, a function of the scene alone.
    """
    config, count = scene.config, len(scene.shapes)
    own = 3 + looks.COLUMNS
    columns = 2 + looks.COLUMNS + len(config.colours)
    numbers = uniforms([scene.seed], columns + count * own, stream=6)[0]
    dice = Dice(numbers[:columns])
    aside = np.stack([dice.uniform(-1.0, 1.0), dice.uniform(-1.0, 1.0)]) * _ASIDE * config.unit
    ground = looks.sample_ground(config.backgrounds, dice.columns(looks.COLUMNS))
    colours = _other_colours(scene, [config.colours[i] for i in dice.order(len(config.colours))])

    dice = Dice(numbers[columns:].reshape(count, own))
    names = tuple(map(_other_shape, [config] * count, scene.shapes, dice.uniform()))
    radii = _radii(config, dice)
    numbers = dice.columns(looks.COLUMNS)
    return dataclasses.replace(
        scene,
        shapes=names,
        objects=tuple(map(looks.sample_look, [config.textures] * count, colours, numbers)),
        place=_moved(scene, radii, shapes.half_sides()[shapes.indices(names)] * radii, aside),
        ground=ground,
    )


def _other_shape(config: SceneConfig, shape: str, share: float) -> str:
    others = [name for name in config.shapes if name != shape] or [shape]
    return others[int(share * len(others))]


def _other_colours(scene: Scene, order: list[str]) -> list[str]:
    """For each sprite a colour that is not its own: those that the scene lacks come first."""
    used = [look.colour for look in scene.objects]
    order = sorted(order, key=used.__contains__)
    chosen: list[str] = []
    for own in used:
        others = [name for name in order if name != own] or [own]
        free = [name for name in others if name not in chosen]
        chosen.append((free or others)[0])
    return chosen


def _radii(config: SceneConfig, dice: Dice) -> Float[np.ndarray, "S 2"]:
    """Radii in px along both axes of every sprite."""
    share, squeeze = dice.uniform(), np.sqrt(dice.uniform(*config.stretch))
    least, greatest = casting.radii(config, np.ones((1, len(share)), bool))
    radius = (least[0] + (greatest[0] - least[0]) * share) * config.unit
    return radius[:, None] * np.stack([squeeze, 1.0 / squeeze], axis=-1)


def _moved(
    scene: Scene,
    radii: Float[np.ndarray, "S 2"],
    room: Float[np.ndarray, "S 2"],
    aside: Float[np.ndarray, "2"],
) -> Float[np.ndarray, "S T 2 3"]:
    """Places with other radii (px at frame 0), moved aside by as much as the frame has room for.

    `room`: half sides of the box that each sprite fills.
    """
    place, path = scene.place.copy(), scene.place[..., 2]
    before = np.sqrt((place[:, :1, :, :2] ** 2).sum(2, keepdims=True))
    place[..., :2] = steady(place[..., :2] * (radii[:, None, None] / before))
    side = np.array(scene.config.size_hw[::-1])
    low, high = room - 0.5 - path.min(1), side - 0.5 - room - path.max(1)
    inside = np.where(low <= high, np.clip(aside, low, high), 0.5 * (low + high))
    most = _ASIDE * scene.config.unit
    place[..., 2] += steady(np.clip(inside, -most, most))[:, None]
    return place
