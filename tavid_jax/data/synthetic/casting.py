"""How many sprites a scene has, which (shape, motion) they get, and paths that keep them apart."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from tavid_jax.data.synthetic import combinations, motions
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.dice import Dice, uniforms

_RIM = 8.0 / 3.0  # px of a 64-pixel frame that boxes should stay apart


class Cast(NamedTuple):
    """Who plays in B scenes of S slots.

    Attributes:
      present: whether the slot is filled.
      kind: index into `kinds(config)`.
      shape: index into `config.shapes`.
    """

    present: Bool[np.ndarray, "B S"]
    kind: Int[np.ndarray, "B S"]
    shape: Int[np.ndarray, "B S"]


def kinds(config: SceneConfig) -> tuple[str, ...]:
    """Kinds of motion that may occur: those of the config, and `drift` where none is said."""
    return (*config.kinds, "drift") if config.unsaid > 0.0 else config.kinds


def recast(config: SceneConfig, seeds, colours: Int[np.ndarray, "B colours"], cast: Cast) -> Cast:
    """Replaces what `counts`, `combinations` and `unsaid` decide; by default nothing.

    Args:
      config: distribution of scenes.
      seeds: of the B scenes.
      colours: order of the config's colours in each scene; slot s has the s-th, in turn.
      cast: independent draws.
    """
    if not config.counts and config.combinations == "all" and config.unsaid == 0.0:
        return cast
    (present, kind, shape), slots = cast, cast.present.shape[1]
    dice = Dice(uniforms(seeds, 2 + slots, stream=4))
    count, silent = dice.uniform(), dice.chance(config.unsaid)
    which = dice.columns(slots)
    if config.counts:
        more = np.cumsum(config.counts)[:-1]
        present = np.arange(slots) <= (count[:, None] >= more).sum(1)[:, None]
    if config.combinations != "all":
        table, known = combinations.pairs(
            config.combinations, len(config.colours), len(config.shapes), len(config.kinds)
        )
        colour = colours[:, np.arange(slots) % colours.shape[1]]
        pick = table[colour, (which * known[colour]).astype(np.int64)]
        shape, kind = pick[..., 0], pick[..., 1]
    if config.unsaid > 0.0:
        kind = np.where(silent[:, None], len(config.kinds), kind)
    return Cast(present, kind, shape)


def radii(config: SceneConfig, present: Bool[np.ndarray, "B S"]) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest radius (px of 64) of the sprites of each scene, (B, 1)."""
    company = (present.sum(1, keepdims=True) > 1) & bool(config.company)
    alone, beside = config.radius, config.company or config.radius
    return np.where(company, beside[0], alone[0]), np.where(company, beside[1], alone[1])


def least_overlap(
    config: SceneConfig,
    seeds,
    cast: Cast,
    room: Float[np.ndarray, "B S 2"],
    numbers: Float[np.ndarray, "n columns"],
) -> motions.Poses:
    """Paths of all slots; of `config.placings` draws those on which boxes overlap least.

    Args:
      config: distribution of scenes.
      seeds: of the B scenes.
      cast: who plays.
      room: half sides in px of every slot's box.
      numbers: (B S, motions.COLUMNS) dice of the first draw.

    Returns:
      Poses of the B S slots.
    """
    (B, S), tries = cast.present.shape, config.placings
    t = np.arange(config.num_frames) * config.tempo
    height, width = config.size_hw
    ends = _ends(config, seeds, room)
    stage = motions.Stage(float(width), float(height), config.unit, room.reshape(-1, 2), ends)
    if tries == 1:
        return motions.move(cast.kind.ravel(), kinds(config), numbers, t, stage)
    more = uniforms(seeds, (tries - 1) * S * motions.COLUMNS, stream=5)
    numbers = np.concatenate([numbers.reshape(B, -1), more], axis=1)
    numbers = numbers.reshape(B, tries, S, motions.COLUMNS)
    stage = stage._replace(room=np.repeat(room[:, None], tries, axis=1).reshape(-1, 2))
    if ends is not None:
        ends = np.repeat(ends.reshape(B, 1, S, 2, 2), tries, axis=1).reshape(-1, 2, 2)
        stage = stage._replace(ends=ends)
    kind = np.repeat(cast.kind[:, None], tries, axis=1).ravel()
    poses = motions.move(kind, kinds(config), numbers.reshape(-1, motions.COLUMNS), t, stage)
    poses = [part.reshape(B, tries, S, *part.shape[1:]) for part in poses]
    best = np.argmin(_overlap(poses[0], cast.present, room, _RIM * config.unit), axis=1)
    return motions.Poses(
        *(part[np.arange(B), best].reshape(B * S, *part.shape[3:]) for part in poses)
    )


def _ends(
    config: SceneConfig, seeds, room: Float[np.ndarray, "B S 2"]
) -> Float[np.ndarray, "n 2 2"] | None:
    """First and last centres of sprites that travel, (B S, 2, 2) px; None where none may.

    The frame is cut into equal cells, at least as many as sprites. Each begins in a cell of its
    own and ends in a cell of its own, so that nothing hides anything at either end.
    """
    if "travel" not in config.kinds:
        return None
    (B, S), side = room.shape[:2], np.array(config.size_hw[::-1], np.float64)
    rows = math.ceil(math.sqrt(S))
    dice = Dice(uniforms(seeds, 2 * rows**2 + 4 * S, stream=7))
    cells = np.stack([dice.order(rows**2)[:, :S] for _ in range(2)], axis=2)
    corner = np.stack([cells % rows, cells // rows], axis=-1) * side / rows - 0.5
    free = np.maximum(side / rows - 2.0 * room, 0.0)[:, :, None]
    share = dice.columns(4 * S).reshape(B, S, 2, 2)
    middle = corner + 0.5 * side / rows
    return (middle + (share - 0.5) * free).reshape(-1, 2, 2)


def _overlap(
    centre: Float[np.ndarray, "B tries S T 2"],
    present: Bool[np.ndarray, "B S"],
    room: Float[np.ndarray, "B S 2"],
    rim: float,
) -> Float[np.ndarray, "B tries"]:
    """How deep boxes with a rim (px) reach into each other, summed over pairs and frames."""
    total = np.zeros(centre.shape[:2])
    for one in range(centre.shape[2]):
        for other in range(one):
            distance = np.abs(centre[:, :, one] - centre[:, :, other])
            gap = (distance - (room[:, one] + room[:, other])[:, None, None]).max(-1)
            both = (present[:, one] & present[:, other])[:, None]
            total += np.where(both, np.maximum(rim - gap, 0.0).sum(-1), 0.0)
    return np.round(total, 6)  # the same choice on every machine
