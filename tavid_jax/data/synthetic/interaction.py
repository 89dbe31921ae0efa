"""Scenes in which an actor walks to one of several look-alikes and does something to it."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.data.synthetic import affine, looks, shapes
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.dice import Dice, uniforms
from tavid_jax.data.synthetic.motions import Poses
from tavid_jax.data.synthetic.scene import Scene, sample_cameras, sample_scene

_TRIES = 40  # layouts tried before everything is made a little smaller
_SHRINK = 0.93
_CHUNK = 8  # distances tried at once


class _Cast(NamedTuple):
    """Who plays: drawn once for both scenes of a pair."""

    actors: tuple[str, str]  # shapes of the actor and of the other one
    actor_looks: tuple[looks.Look, looks.Look]
    target: str
    target_look: looks.Look
    count: int  # target and look-alikes
    deed: str
    contact_at: float  # frame in which the walk ends


def _cast(config: SceneConfig, dice: Dice) -> _Cast:
    fewest, most = config.lookalikes
    colours = [config.colours[i] for i in dice.order(len(config.colours))]
    first, second = dice.order(max(2, len(config.actors)))[:2] % len(config.actors)
    target = config.targets[int(dice.choice(len(config.targets)))]
    numbers = dice.columns(3 * looks.COLUMNS).reshape(3, -1)
    # With a short palette colours repeat; the target's differs from both actors' if it can.
    look = [
        looks.sample_look(config.textures, colours[k % len(colours)], row)
        for k, row in enumerate(numbers)
    ]
    return _Cast(
        actors=(config.actors[first], config.actors[second]),
        actor_looks=(look[1], look[2]),
        target=target,
        target_look=look[0],
        count=1 + fewest + int(dice.choice(most - fewest + 1)),
        deed=config.deeds[int(dice.choice(len(config.deeds)))],
        contact_at=max(1.0, float(dice.uniform(*config.contact)) * (config.num_frames - 1)),
    )


def _length(vectors: Float[np.ndarray, "*any 2"]) -> Float[np.ndarray, "*any"]:
    return np.hypot(vectors[..., 0], vectors[..., 1])


def _clearance(
    spots: Float[np.ndarray, "tries n 2"], actor_reach: float, target_reach: float
) -> Float[np.ndarray, " tries"]:
    """Least free distance (px) of layouts; row 0 is the actor, row 1 the target.

    Counts the gaps at frame 0, and between look-alikes and the actor's straight way.
    """
    start, targets = spots[:, :1], spots[:, 1:]
    gaps = [_length(targets - start) - actor_reach - target_reach]
    one, other = np.triu_indices(targets.shape[1], 1)
    gaps.append(_length(targets[:, one] - targets[:, other]) - 2.0 * target_reach)
    way, others = targets[:, :1] - start, targets[:, 1:] - start
    along = np.clip((others * way).sum(-1) / (way * way).sum(-1), 0.0, 1.0)
    passing = _length(others - along[..., None] * way)
    gaps.append(passing - 0.8 * (actor_reach + target_reach))
    return np.concatenate(gaps, axis=1).min(1)


class _Spots(NamedTuple):
    actor: Float[np.ndarray, "2"]
    targets: Float[np.ndarray, "count 2"]
    actor_radius: float
    target_radius: float


def _spots(config: SceneConfig, seed: int, cast: _Cast) -> _Spots:
    """A layout in which nothing touches; radii shrink until one is found."""
    height, width = config.size_hw
    factor = 1.0
    for attempt in range(100):
        numbers = uniforms([seed], 2 + _TRIES * 2 * (cast.count + 1), stream=10 + attempt)[0]
        dice = Dice(numbers)
        actor_radius = config.radius[0] * config.unit * dice.uniform(0.8, 1.1) * factor
        target_radius = config.radius[0] * config.unit * dice.uniform(0.7, 0.95) * factor
        actor_reach = actor_radius * max(shapes.reach(name) for name in cast.actors)
        target_reach = target_radius * shapes.reach(cast.target)
        margin = np.full((cast.count + 1, 1), target_reach + 1.0)
        margin[0] = actor_reach + 1.0
        room = np.array([width, height]) - 1.0 - 2.0 * margin
        factor *= _SHRINK
        if (room <= 0).any():
            continue
        draws = dice.columns(_TRIES * 2 * (cast.count + 1)).reshape(_TRIES, cast.count + 1, 2)
        layouts = margin + draws * room
        free = _clearance(layouts, actor_reach, target_reach) > config.gap * config.unit * factor
        if free.any():
            spots = layouts[np.argmax(free)]
            return _Spots(spots[0], spots[1:], float(actor_radius), float(target_radius))
    raise ValueError(
        f"SceneConfig.size_hw={config.size_hw}: no room for an actor and {cast.count} targets; "
        "use a larger frame or fewer lookalikes"
    )


@functools.cache
def _border(name: str) -> Float[np.ndarray, "P 2"]:
    """Points just inside the border of a shape, in shape coordinates."""
    axis = np.linspace(-shapes.EXTENT, shapes.EXTENT, shapes.CELLS + 1)
    i, j = np.nonzero((shapes.table(name) <= 0.0) & (shapes.table(name) > -0.04))
    return np.stack([axis[j], axis[i]], axis=-1)


def touching(
    shape: str,
    place: Float[np.ndarray, "*frames 2 3"],
    other_shape: str,
    other_place: Float[np.ndarray, "*frames 2 3"],
) -> Bool[np.ndarray, "*frames"]:
    """Whether two sprites overlap, per frame, by the silhouettes that are drawn.

    Args:
      shape, other_shape: silhouettes.
      place, other_place: shape coordinates -> world px.
    """
    reach = _radius(place) * shapes.reach(shape) + _radius(other_place) * shapes.reach(other_shape)
    near = _length(place[..., 2] - other_place[..., 2]) <= reach
    local = affine.compose(affine.invert(other_place[near]), place[near])
    points = affine.apply(local[..., None, :, :], _border(shape))
    hit = shapes.covers(shapes.indices((other_shape,)), points[..., 0], points[..., 1])
    near[near] = hit.any(-1)
    return near


def _radius(place: Float[np.ndarray, "*frames 2 3"]) -> Float[np.ndarray, "*frames"]:
    """The larger of a sprite's two radii, in px."""
    return np.sqrt((place[..., :2] ** 2).sum(-2)).max(-1)


def _posed(centre, angle, radii) -> Float[np.ndarray, "T 2 3"]:
    """Matrices of one sprite from its path."""
    centre = np.asarray(centre, np.float64)
    angle = np.broadcast_to(np.asarray(angle, np.float64), centre.shape[:1])
    poses = Poses(centre[None], angle[None], np.ones((1, len(centre))))
    return affine.place(poses, np.asarray(radii, np.float64)[None])[0]


def _contact_distance(cast: _Cast, spots: _Spots, away, radii) -> float:
    """Distance of the centres at which both possible actors touch the target."""
    distance = np.linspace(0.0, 2.0 * shapes.EXTENT * max(spots[2:]), 240)
    approach = _posed(spots.targets[0] + distance[:, None] * away, 0.0, radii)
    still = _posed(np.repeat(spots.targets[:1], len(distance), 0), 0.0, (spots.target_radius,) * 2)
    return (
        min(_farthest(name, approach, cast.target, still, distance) for name in set(cast.actors))
        - 0.3
    )


def _farthest(name: str, approach, target: str, still, distance) -> float:
    """Greatest of the ascending distances at which two sprites touch, tried from afar."""
    reach = _radius(approach[:1]) * shapes.reach(name) + _radius(still[:1]) * shapes.reach(target)
    stop = int(np.searchsorted(distance, reach[0], side="right"))
    while stop > 0:
        some = slice(max(0, stop - _CHUNK), stop)
        hit = touching(name, approach[some], target, still[some])
        if hit.any():
            return float(distance[some][hit].max())
        stop -= _CHUNK
    return 0.0


def _ease(time) -> np.ndarray:
    """Smooth step from 0 to 1 over [0, 1]."""
    time = np.clip(time, 0.0, 1.0)
    return time * time * (3.0 - 2.0 * time)


def sample_interaction(config: SceneConfig, seed: int, *, other_actor: bool = False) -> Scene:
    """A scene with an actor, a target among identical look-alikes, and a contact.

    The actor starts apart from everything, goes straight to the target (a smooth step in time)
    and touches it; then the target is pushed, tipped, lifted or left alone.  Which of the
    look-alikes is the target cannot be seen at frame 0.

    Args:
      config: with `interaction=True`.
      seed: of the scene.
      other_actor: the same motion with another actor (see `scene_pair`).

    Returns:
      Scene whose actor is the frontmost sprite; `contact_frame` is the first frame in which the
      silhouettes of actor and target overlap.

    Raises:
      ValueError: the frame has no room for the cast.
    """
    dice = Dice(uniforms([seed], 64 + len(config.colours) + len(config.actors), stream=2))
    camera, camera_moves = sample_cameras(config, dice, [seed])
    rest = Dice(dice.columns(50 + len(config.colours) + len(config.actors))[0])
    cast = _cast(config, rest)
    ground = looks.sample_ground(config.backgrounds, rest.columns(looks.COLUMNS))
    slot = int(rest.choice(cast.count))  # which number the target gets
    spots = _spots(config, seed, cast)

    t = np.arange(config.num_frames, dtype=np.float64)
    way = spots.targets[0] - spots.actor
    heading = way / np.hypot(*way)
    flip = -1.0 if heading[0] < 0 else 1.0  # creatures look to the right: mirror them
    radii = (flip * spots.actor_radius, spots.actor_radius)
    stop = _contact_distance(cast, spots, -heading, radii)
    end = spots.targets[0] - stop * heading
    walk, after = _ease(t / cast.contact_at), t - cast.contact_at
    centre = spots.actor + walk[:, None] * (end - spots.actor)
    # A gait: small hops and sway, fading out at both ends of the way.
    gait = config.gait * 4.0 * walk * (1.0 - walk)
    centre[:, 1] -= gait * np.abs(np.sin(np.pi * t / 4.0)) * 1.2 * config.unit
    sway = flip * 0.08 * gait * np.sin(np.pi * t / 4.0)

    reaction = _ease(after / max(1.0, 0.6 * (config.num_frames - 1 - cast.contact_at)))
    target_centre = np.repeat(spots.targets[:1], len(t), axis=0)
    target_angle = np.zeros(len(t))
    if cast.deed == "pushes":
        push = reaction[:, None] * heading * 9.0 * config.unit
        target_centre, centre = target_centre + push, centre + push
    elif cast.deed == "lifts":
        target_centre[:, 1] -= reaction * 10.0 * config.unit
    elif cast.deed == "tips":
        target_angle = flip * 1.3 * reaction

    still = (spots.target_radius, spots.target_radius)
    places = [_posed(np.repeat(spot[None], len(t), 0), 0.0, still) for spot in spots.targets[1:]]
    places.insert(slot, _posed(target_centre, target_angle, still))
    places.append(_posed(centre, sway, radii))
    index = int(other_actor)
    met = touching(cast.actors[index], places[-1], cast.target, places[slot])
    kinds = ["rest"] * cast.count + ["walk"]
    kinds[slot] = "react"
    return Scene(
        config=config,
        seed=int(seed),
        shapes=(cast.target,) * cast.count + (cast.actors[index],),
        kinds=tuple(kinds),
        objects=(cast.target_look,) * cast.count + (cast.actor_looks[index],),
        place=np.stack(places),
        camera=camera[0],
        ground=ground,
        camera_moves=bool(camera_moves[0]),
        actor=cast.count + 1,
        target=slot + 1,
        contact_frame=int(np.argmax(met)) if met.any() else -1,
        deed=cast.deed,
        says_target=bool(uniforms([seed], 1, stream=4)[0, 0] < config.says_target),
    )


def scene_pair(config: SceneConfig, seed: int) -> tuple[Scene, Scene]:
    """Two scenes with the same motion, camera and surroundings but another actor.

    With `config.interaction` the actor is exchanged; otherwise the frontmost sprite is.

    Args:
      config: distribution of scenes.
      seed: of the first scene, which is `sample_scene(config, seed)`.

    Returns:
      (scene, twin): equal `place` and `camera`, another shape or look of one sprite.

    Raises:
      ValueError: the scene of this seed has no sprite to exchange.
    """
    scene = sample_scene(config, seed)
    if config.interaction:
        return scene, sample_interaction(config, seed, other_actor=True)
    if not scene.shapes:
        raise ValueError(f"scene of seed {seed} has no sprite whose look could be exchanged")
    dice = Dice(uniforms([seed], 2 + looks.COLUMNS, stream=3)[0])
    used = {look.colour for look in scene.objects}
    names = (
        [c for c in config.colours if c not in used]
        or [c for c in config.colours if c != scene.objects[-1].colour]
        or list(config.colours)
    )
    other = [s for s in config.shapes if s != scene.shapes[-1]] or list(config.shapes)
    shape = other[int(dice.choice(len(other)))]
    colour = names[int(dice.choice(len(names)))]
    look = looks.sample_look(config.textures, colour, dice.columns(looks.COLUMNS))
    twin = dataclasses.replace(
        scene, shapes=(*scene.shapes[:-1], shape), objects=(*scene.objects[:-1], look)
    )
    return scene, twin
