"""Motions that a constant-velocity guess gets wrong, as centre, angle and size over time.

Each kind is a plain function of dice (one row per sprite), of time and of the stage; its
numbers are pixels of a 64-pixel frame and frames.  All kinds but `enter` and `leave` are
determined by their past: a forecaster that has seen half of the clip can know the rest.

`left`, `right`, `up`, `down`, `still`, `drift` and `roam` are the simple ones, for small models:
they take the whole clip, however long it is, and never leave the frame. So is `travel`, which may
be out of it on the way.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tavid_jax.data.synthetic.dice import Dice

# Columns of dice that a motion may use.
COLUMNS = 8

WALL = 8.0  # px from the frame's sides where moving sprites are reflected
FLOOR = 10.0  # px of the floor above the frame's lower side


class Stage(NamedTuple):
    """Where motions take place, and who moves there.

    Attributes:
      width, height: sides of the frame in px.
      unit: px per px of a 64-pixel frame.
      room: (n, 2) half sides in px of the box that each sprite fills; nothing if None.
      ends: (n, 2, 2) centres of each sprite in the first and the last frame, for `travel`; None
        leaves them to the dice.
    """

    width: float
    height: float
    unit: float
    room: Float[np.ndarray, "n 2"] | None = None
    ends: Float[np.ndarray, "n 2 2"] | None = None


class Poses(NamedTuple):
    """Motion of n sprites over T frames.

    Attributes:
      centre: (n, T, 2) world px, xy.
      angle: (n, T) radian, clockwise on screen (x towards y).
      size: (n, T) factor of the sprite's radius.
    """

    centre: Float[np.ndarray, "n T 2"]
    angle: Float[np.ndarray, "n T"]
    size: Float[np.ndarray, "n T"]


def _poses(x, y, angle=None, size=None) -> Poses:
    angle = np.zeros_like(x) if angle is None else np.broadcast_to(angle, x.shape)
    size = np.ones_like(x) if size is None else np.broadcast_to(size, x.shape)
    return Poses(np.stack([x, y], axis=-1), angle, size)


def _home(dice: Dice, stage: Stage, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """A place inside the frame, at least `margin` (of 64 px) away from its sides."""
    m = margin * stage.unit
    return dice.uniform(m, stage.width - m)[:, None], dice.uniform(m, stage.height - m)[:, None]


def _reflect(position, low: float, high: float):
    """Folds a free path into [low, high]: elastic reflection at both walls."""
    span = high - low
    phase = np.mod(position - low, 2.0 * span)
    return low + np.where(phase > span, 2.0 * span - phase, phase)


def orbit(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Circle of radius 6-16 px, period 18-45 frames; half of the sprites turn with it."""
    x, y = _home(dice, stage, 14.0)
    radius = dice.uniform(6.0, 16.0)[:, None] * stage.unit
    rate = (dice.sign() * 2.0 * np.pi / dice.uniform(18.0, 45.0))[:, None]
    phase = dice.uniform(0.0, 2.0 * np.pi)[:, None]
    turns = dice.chance(0.5)[:, None]
    angle = rate * t + phase
    return _poses(
        x + radius * np.cos(angle), y + radius * np.sin(angle), np.where(turns, rate * t, 0.0)
    )


def pendulum(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Arm 18-36 px, amplitude 0.4-0.9 rad, period 20-40 frames; the body turns with the arm."""
    x, y = _home(dice, stage, 14.0)
    arm = dice.uniform(18.0, 36.0)[:, None] * stage.unit
    swing = dice.uniform(0.4, 0.9)[:, None]
    rate = 2.0 * np.pi / dice.uniform(20.0, 40.0)[:, None]
    theta = swing * np.sin(rate * t + dice.uniform(0.0, 2.0 * np.pi)[:, None])
    return _poses(x + arm * np.sin(theta), y - arm + arm * np.cos(theta), -theta)


def bounce(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Falls (0.15-0.4 px/frame^2) and bounces without loss, drifting from wall to wall."""
    gravity = dice.uniform(0.15, 0.4)[:, None] * stage.unit
    apex = dice.uniform(10.0, 32.0)[:, None] * stage.unit
    fall = np.sqrt(2.0 * apex / gravity)  # frames from apex to floor
    phase = np.mod(t + dice.uniform()[:, None] * 2.0 * fall, 2.0 * fall) - fall
    y = stage.height - FLOOR * stage.unit - apex + 0.5 * gravity * phase**2
    wall = WALL * stage.unit
    start = dice.uniform(wall, stage.width - wall)[:, None]
    drift = dice.uniform(-1.3, 1.3)[:, None] * stage.unit
    return _poses(_reflect(start + drift * t, wall, stage.width - wall), y)


def billiard(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Straight at 0.8-2.2 px/frame, reflected 8 px before the sides, spinning slowly."""
    wall = WALL * stage.unit
    x, y = _home(dice, stage, WALL)
    speed = dice.uniform(0.8, 2.2)[:, None] * stage.unit
    heading = dice.uniform(0.0, 2.0 * np.pi)[:, None]
    spin = dice.uniform(-0.06, 0.06)[:, None]
    return _poses(
        _reflect(x + speed * np.cos(heading) * t, wall, stage.width - wall),
        _reflect(y + speed * np.sin(heading) * t, wall, stage.height - wall),
        spin * t,
    )


def accelerate(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Constant acceleration: slows down, stands still at frame 8-28 and returns."""
    x, y = _home(dice, stage, 14.0)
    apex = dice.uniform(8.0, 28.0)[:, None]
    length = dice.uniform(10.0, 24.0)[:, None] * stage.unit
    heading = dice.uniform(0.0, 2.0 * np.pi)[:, None]
    shift = length * (((t - apex) / 19.0) ** 2 - 0.5)
    return _poses(x + np.cos(heading) * shift, y + np.sin(heading) * shift)


def spin(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Turns at 0.08-0.22 rad/frame about a fixed centre and breathes by up to 22 %."""
    x, y = _home(dice, stage, 14.0)
    rate = (dice.sign() * dice.uniform(0.08, 0.22))[:, None]
    breath = dice.uniform(0.0, 0.22)[:, None]
    pace = 2.0 * np.pi / dice.uniform(18.0, 45.0)[:, None]
    size = 1.0 + breath * np.sin(pace * t + dice.uniform(0.0, 2.0 * np.pi)[:, None])
    return _poses(x + 0.0 * t, y + 0.0 * t, rate * t, size)


def enter(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Starts outside of the frame and comes in on a bent path."""
    return _pass_through(dice, t, stage, outside=-1.0)


def leave(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Starts inside of the frame and goes out on a bent path."""
    return _pass_through(dice, t, stage, outside=1.0)


def _pass_through(dice: Dice, t, stage: Stage, outside: float) -> Poses:
    """Straight line through a place inside, with a sideways bend; slow spin."""
    x, y = _home(dice, stage, 16.0)
    heading = dice.uniform(0.0, 2.0 * np.pi)[:, None]
    speed = dice.uniform(2.2, 3.2)[:, None] * stage.unit
    bend = dice.uniform(-0.04, 0.04)[:, None] * stage.unit
    spin_rate = dice.uniform(-0.06, 0.06)[:, None]
    # `enter` is inside at the end of a 34-frame clip, `leave` at its start.
    since = t if outside > 0 else t - 33.0
    along, side = speed * since, bend * since**2
    return _poses(
        x + np.cos(heading) * along - np.sin(heading) * side,
        y + np.sin(heading) * along + np.cos(heading) * side,
        spin_rate * t,
    )


def _progress(t: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """Share of the clip that has passed: 0 at the first, 1 at the last frame."""
    return t / max(t[-1], 1e-9)


def _inside(dice: Dice, path: Float[np.ndarray, "n T 2"], stage: Stage) -> Poses:
    """Paths moved to random places where the sprites stay in the frame (else to the middle)."""
    side = np.array([stage.width, stage.height])
    low = stage.room - 0.5 - path.min(1)
    high = side - 0.5 - stage.room - path.max(1)
    share = np.stack([dice.uniform(), dice.uniform()], axis=-1)
    start = np.where(high > low, low + share * (high - low), 0.5 * (low + high))
    path = path + start[:, None]
    return _poses(path[..., 0], path[..., 1])


def _straight(dice: Dice, t, stage: Stage, towards: tuple[int, int]) -> Poses:
    """17-26 px along an axis over the whole clip; less where the frame has no room for it."""
    axis = np.abs(towards) @ np.array([0, 1])
    free = (stage.width, stage.height)[axis] - 2.0 * stage.room[:, axis]
    way = np.minimum(dice.uniform(17.0, 26.0) * stage.unit, np.maximum(free, 0.0))
    path = way[:, None, None] * _progress(t)[:, None] * np.array(towards, np.float64)
    return _inside(dice, path, stage)


def left(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Straight to the left; see `_straight`."""
    return _straight(dice, t, stage, (-1, 0))


def right(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Straight to the right; see `_straight`."""
    return _straight(dice, t, stage, (1, 0))


def up(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Straight up; see `_straight`."""
    return _straight(dice, t, stage, (0, -1))


def down(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Straight down; see `_straight`."""
    return _straight(dice, t, stage, (0, 1))


def still(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """Stands still anywhere in the frame."""
    return _inside(dice, np.zeros((len(stage.room), len(t), 2)), stage)


def drift(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """17-26 px in any direction over the whole clip, bent sideways by up to 8 px (a parabola)."""
    way = dice.uniform(17.0, 26.0)[:, None] * stage.unit
    heading = dice.uniform(0.0, 2.0 * np.pi)[:, None]
    bend = dice.uniform(-8.0, 8.0)[:, None] * stage.unit
    p = _progress(t)
    along, side = way * p, bend * 4.0 * p * (1.0 - p)
    cos, sin = np.cos(heading), np.sin(heading)
    path = np.stack([cos * along - sin * side, sin * along + cos * side], axis=-1)
    return _inside(dice, _squeezed(path, stage), stage)


def roam(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """A winding path of 16-37 px over the whole clip, ever faster or slower; one of ten stands.

    The heading turns by up to 3 rad at an even rate, and sways by 0.3-1.4 rad about that.
    """
    share = dice.uniform()[:, None]
    way = np.where(share < 0.1, 0.0, 16.0 + 21.0 * (share - 0.1) / 0.9) * stage.unit
    heading = dice.uniform(0.0, 2.0 * np.pi)[:, None]
    turn, sway = dice.uniform(-3.0, 3.0)[:, None], dice.uniform(0.3, 1.4)[:, None]
    phase = dice.uniform(0.0, 2.0 * np.pi)[:, None]
    haste = dice.uniform(-0.7, 0.7)[:, None]
    p = _progress(t)
    middle = 0.5 * (p[1:] + p[:-1])
    pace = 1.0 + haste * np.cos(np.pi * middle)
    step = way * pace / pace.sum(1, keepdims=True)
    angle = heading + turn * middle + sway * np.sin(2.0 * np.pi * middle + phase)
    steps = step[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    path = np.concatenate([np.zeros_like(steps[:, :1]), np.cumsum(steps, axis=1)], axis=1)
    return _inside(dice, _squeezed(path, stage), stage)


def travel(dice: Dice, t: Float[np.ndarray, " T"], stage: Stage) -> Poses:
    """From one place in the frame to another on a bent path, ever faster or slower.

    The path is moved sideways by a parabola of up to 16 px and a sine of up to 8 px, so near the
    frame's sides it may leave the frame and come back.
    """
    bend, sway = dice.uniform(-16.0, 16.0)[:, None], dice.uniform(-8.0, 8.0)[:, None]
    haste = dice.uniform(-0.7, 0.7)[:, None]
    ends = stage.ends
    if ends is None:
        ends = np.stack([dice.uniform(), dice.uniform(), dice.uniform(), dice.uniform()], axis=-1)
        side = np.array([stage.width, stage.height])
        ends = stage.room[:, None] + ends.reshape(-1, 2, 2) * (side - 2.0 * stage.room[:, None])
        ends = ends - 0.5
    p = _progress(t)
    p = p + haste * p * (1.0 - p)
    side = (bend * 4.0 * p * (1.0 - p) + sway * np.sin(2.0 * np.pi * p)) * stage.unit
    way = ends[:, 1] - ends[:, 0]
    heading = np.arctan2(way[:, 1], way[:, 0])
    across = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
    path = ends[:, :1] + p[..., None] * way[:, None] + side[..., None] * across[:, None]
    return _poses(path[..., 0], path[..., 1])


def _squeezed(path: Float[np.ndarray, "n T 2"], stage: Stage) -> Float[np.ndarray, "n T 2"]:
    """Paths made narrower where the frame has no room for them."""
    free = np.array([stage.width, stage.height]) - 2.0 * stage.room
    extent = np.maximum(np.ptp(path, axis=1), 1e-9)
    return path * np.clip(free / extent, 0.0, 1.0)[:, None]


KINDS = {
    "orbit": orbit,
    "pendulum": pendulum,
    "bounce": bounce,
    "billiard": billiard,
    "accelerate": accelerate,
    "spin": spin,
    "enter": enter,
    "leave": leave,
    "left": left,
    "right": right,
    "up": up,
    "down": down,
    "still": still,
    "drift": drift,
    "roam": roam,
    "travel": travel,
}

# Kinds of the demo: every one is determined by the first half of the clip.
FORECAST_KINDS = ("orbit", "pendulum", "bounce", "billiard", "accelerate", "spin")

# Kinds that short captions name, and those that they are silent about.
SAID_KINDS = ("left", "right", "up", "down", "still")
UNSAID_KINDS = ("drift", "roam", "travel")

# What a caption says about each kind.
WORDS = {
    "orbit": "circles around",
    "pendulum": "swings like a pendulum",
    "bounce": "bounces up and down",
    "billiard": "glides from wall to wall",
    "accelerate": "slows down and returns",
    "spin": "spins on the spot",
    "enter": "comes into view",
    "leave": "moves out of view",
    "left": "moves left",
    "right": "moves right",
    "up": "moves up",
    "down": "moves down",
    "still": "stands still",
    "drift": "drifts about",
    "roam": "drifts about",
    "travel": "drifts about",
}


def move(
    kinds: Float[np.ndarray, " n"] | np.ndarray,
    names: tuple[str, ...],
    uniforms: Float[np.ndarray, "n columns"],
    t: Float[np.ndarray, " T"],
    stage: Stage,
) -> Poses:
    """Evaluates n sprites of mixed kinds.

    Args:
      kinds: (n,) index into `names`.
      names: kinds of motion that occur.
      uniforms: (n, COLUMNS) numbers in [0, 1).
      t: (T,) times in frames (already multiplied by the tempo).
      stage: frame geometry.

    Returns:
      Poses of all n sprites.
    """
    n, T = kinds.shape[0], t.shape[0]
    out = Poses(np.zeros((n, T, 2)), np.zeros((n, T)), np.ones((n, T)))
    room = np.zeros((n, 2)) if stage.room is None else stage.room
    for index, name in enumerate(names):
        rows = np.flatnonzero(kinds == index)
        if rows.size:
            ends = None if stage.ends is None else stage.ends[rows]
            mine = stage._replace(room=room[rows], ends=ends)
            for whole, part in zip(out, KINDS[name](Dice(uniforms[rows]), t, mine), strict=True):
                whole[rows] = part
    return out
