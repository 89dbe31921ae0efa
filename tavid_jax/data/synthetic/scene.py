"""A scene: which sprites, how they look and where they are in every frame."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tavid_jax.data.synthetic import affine, casting, looks, motions, shapes
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.dice import Dice, steady, uniforms


class Layout(NamedTuple):
    """Geometry of B scenes with S slots for sprites: all that exact tracks need.

    Attributes:
      shape: (B, S) index into `shapes.SHAPES` of each slot, -1 where the slot is empty. A later
        slot lies in front.
      place: (B, S, T, 2, 3) shape coordinates -> world px.
      camera: (B, T, 2, 3) world px -> screen px; identity at frame 0.
    """

    shape: Int[np.ndarray, "B S"]
    place: Float[np.ndarray, "B S T 2 3"]
    camera: Float[np.ndarray, "B T 2 3"]


@dataclasses.dataclass(frozen=True)
class Scene:
    """One scene with S sprites, numbered 1..S from back to front; 0 is the background.

    Attributes:
      config: distribution that it was drawn from.
      seed: its seed.
      shapes, kinds, objects: shape, motion and appearance of each sprite.
      place: (S, T, 2, 3) shape coordinates -> world px.
      camera: (T, 2, 3) world px -> screen px.
      ground: appearance of the background plane.
      camera_moves: whether the camera was given a motion.
      actor, target: numbers of the acting and the aimed-at sprite, -1 if none.
      contact_frame: first frame in which actor and target touch, -1 if none.
      deed: what the actor does to the target, e.g. "pushes"; "" if none.
      says_target: whether a short caption calls the target by that word.
    """

    config: SceneConfig
    seed: int
    shapes: tuple[str, ...]
    kinds: tuple[str, ...]
    objects: tuple[looks.Look, ...]
    place: Float[np.ndarray, "S T 2 3"]
    camera: Float[np.ndarray, "T 2 3"]
    ground: looks.Ground
    camera_moves: bool = False
    actor: int = -1
    target: int = -1
    contact_frame: int = -1
    deed: str = ""
    says_target: bool = False

    @property
    def layout(self) -> Layout:
        """The geometry as a batch of one scene."""
        return Layout(shapes.indices(self.shapes)[None], self.place[None], self.camera[None])


# Columns of dice: for the scene, then per sprite.
_SCENE_COLUMNS = 16
_SPRITE_COLUMNS = 8 + looks.COLUMNS + motions.COLUMNS


def sample_cameras(config: SceneConfig, dice: Dice, seeds) -> tuple[np.ndarray, np.ndarray]:
    """Slow sinusoidal pan, zoom and roll, all zero at frame 0; optionally a small shake.

    Args:
      config: amplitudes.
      dice: one row per scene; 13 columns are used.
      seeds: of the scenes (for the shake).

    Returns:
      (B, T, 2, 3) world -> screen, and (B,) bool: does the camera move.
    """
    t = np.arange(config.num_frames) * config.tempo
    moves = dice.chance(config.camera)
    paths = []
    for most in (config.pan * config.unit, config.pan * config.unit, config.zoom, config.roll):
        amplitude = np.where(moves, dice.uniform(0.0, most), 0.0)[:, None]
        rate = 2.0 * np.pi / dice.uniform(24.0, 70.0)[:, None]
        phase = dice.uniform(0.0, 2.0 * np.pi)[:, None]
        paths.append(amplitude * (np.sin(rate * t + phase) - np.sin(phase)))
    pan_x, pan_y, zoom, roll = paths
    if config.shake > 0.0:
        jitter = uniforms(seeds, 2 * config.num_frames, stream=1).reshape(-1, 2, config.num_frames)
        jitter = (2.0 * jitter - 1.0) * config.shake * config.unit
        jitter[:, :, 0] = 0.0
        pan_x, pan_y = pan_x + jitter[:, 0], pan_y + jitter[:, 1]
        moves = np.ones_like(moves)
    height, width = config.size_hw
    middle = np.array([(width - 1) / 2.0, (height - 1) / 2.0])
    pan = np.stack([pan_x, pan_y], axis=-1)
    return affine.about(middle, pan, steady(np.exp(zoom)), roll), moves


class _Draws(NamedTuple):
    """Everything that is sampled about B free (not interacting) scenes."""

    layout: Layout
    kind: Int[np.ndarray, "B S"]
    look: Float[np.ndarray, "B S columns"]
    ground: Float[np.ndarray, "B columns"]
    colours: Int[np.ndarray, "B colours"]
    camera_moves: np.ndarray


def _draw(config: SceneConfig, seeds) -> _Draws:
    """Samples and evaluates B scenes at once."""
    B, S, T = len(seeds), config.max_objects, config.num_frames
    scene_columns = _SCENE_COLUMNS + len(looks.PALETTE) + looks.COLUMNS
    numbers = uniforms(seeds, scene_columns + S * _SPRITE_COLUMNS)
    per_scene = Dice(numbers[:, :scene_columns])
    camera, camera_moves = sample_cameras(config, per_scene, seeds)
    colours = per_scene.order(len(config.colours))
    ground = per_scene.columns(looks.COLUMNS)

    dice = Dice(numbers[:, scene_columns:].reshape(B * S, _SPRITE_COLUMNS))
    present = dice.chance(config.presence)
    kind = dice.choice(len(config.kinds))
    shape = dice.choice(len(config.shapes))
    share = dice.uniform()  # of the range of radii
    squeeze = np.sqrt(dice.uniform(*config.stretch))
    look = dice.columns(looks.COLUMNS)
    cast = casting.Cast(*(part.reshape(B, S) for part in (present, kind, shape)))
    cast = casting.recast(config, seeds, colours, cast)
    least, greatest = casting.radii(config, cast.present)
    radius = (least + (greatest - least) * share.reshape(B, S)) * config.unit
    radii = radius[..., None] * np.stack([squeeze, 1.0 / squeeze], axis=-1).reshape(B, S, 2)
    shape = shapes.indices(config.shapes)[cast.shape]
    poses = casting.least_overlap(
        config, seeds, cast, shapes.half_sides()[shape] * radii, dice.columns(motions.COLUMNS)
    )
    place = affine.place(poses, radii.reshape(B * S, 2)).reshape(B, S, T, 2, 3)
    layout = Layout(np.where(cast.present, shape, -1), place, camera)
    return _Draws(layout, cast.kind, look.reshape(B, S, -1), ground, colours, camera_moves)


def sample_layouts(config: SceneConfig, seeds) -> tuple[Layout, Int[np.ndarray, "B S"]]:
    """Geometry alone of many free scenes at once, for tracks by the thousand.

    Args:
      config: distribution (without `interaction`).
      seeds: B seeds.

    Returns:
      Layout, and (B, S) index into `casting.kinds(config)` of each slot. Slots are not renumbered:
      empty ones stay in place with shape -1.
    """
    if config.interaction:
        raise ValueError(
            "sample_layouts samples free scenes: use sample_scene for interaction=True"
        )
    draws = _draw(config, seeds)
    return draws.layout, draws.kind


def sample_scenes(config: SceneConfig, seeds) -> list[Scene]:
    """Scenes of the given seeds; `sample_scene` for many."""
    if config.interaction:
        from tavid_jax.data.synthetic import interaction  # it builds on this module

        return [interaction.sample_interaction(config, int(seed)) for seed in seeds]
    draws = _draw(config, seeds)
    scenes = []
    for b, seed in enumerate(seeds):
        slots = np.flatnonzero(draws.layout.shape[b] >= 0)
        names = tuple(config.colours[c] for c in draws.colours[b])
        scenes.append(
            Scene(
                config=config,
                seed=int(seed),
                shapes=tuple(shapes.SHAPES[draws.layout.shape[b, s]] for s in slots),
                kinds=tuple(casting.kinds(config)[draws.kind[b, s]] for s in slots),
                objects=tuple(
                    looks.sample_look(config.textures, names[s % len(names)], draws.look[b, s])
                    for s in slots
                ),
                place=draws.layout.place[b, slots],
                camera=draws.layout.camera[b],
                ground=looks.sample_ground(config.backgrounds, draws.ground[b]),
                camera_moves=bool(draws.camera_moves[b]),
            )
        )
    return scenes


def sample_scene(config: SceneConfig, seed: int) -> Scene:
    """The scene of a seed: the same on every machine, in every process, in any batch.

    Args:
      config: distribution of scenes.
      seed: non-negative integer; training uses seeds below `seeds.TEST_START`.

    Returns:
      Scene (parameters only: nothing is rendered).
    """
    return sample_scenes(config, [seed])[0]
