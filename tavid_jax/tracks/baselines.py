"""Forecasts without learning: a polynomial through the last frames of the history.

Each point is continued from its anchor frame a. Without `visibility`, a is the last history frame
for every point, seen or not: the forecast then reads the same coordinates as a model does, and
velocity is x[a] - x[a-1], acceleration x[a] - 2 x[a-1] + x[a-2]. With `visibility`, a is the last
frame that is visible together with the frames before it which the order needs (real trackers drift
behind an occluder), and time is counted from there; points never so visible use the last frame.
"""

import numpy as np
from jaxtyping import Bool, Float, Num

from tavid_jax.tracks.coordinates import AnyArray, clip_to_frame, namespace


def extrapolate(
    history: Num[AnyArray, "*n T 2"],
    frames: int,
    order: int,
    visibility: Bool[AnyArray, "*n T"] | None = None,
    clip_hw: tuple[int, int] | None = None,
) -> Float[AnyArray, "*n F 2"]:
    """Continues the polynomial of `order` through the frames a, a-1, .., a-order.

    Args:
      history: (x, y) in pixels of the T history frames.
      frames: F, frames to forecast; the first follows the last history frame.
      order: 0 position, 1 velocity, 2 acceleration.
      visibility: see above.
      clip_hw: move the forecast into this frame (see `coordinates.clip_to_frame`); None lets
        points leave.

    Raises:
      ValueError: fewer than order + 1 history frames, or an order other than 0, 1, 2.
    """
    xp = namespace(history, visibility)
    length = history.shape[-2]
    if order not in (0, 1, 2):
        raise ValueError(f"no forecast of order {order}: use 0, 1 or 2")
    if length <= order:
        raise ValueError(f"a forecast of order {order} needs {order + 1} frames, got {length}")
    history = xp.asarray(history, np.float32)
    anchor = _anchor(history, visibility, order, xp)[..., None]
    at = [xp.take_along_axis(history, (anchor - k)[..., None], axis=-2) for k in range(order + 1)]
    # Frames since the anchor: (..., F, 1).
    ahead = (length - anchor + np.arange(frames))[..., None].astype(np.float32)
    # Newton's backward differences: exact for motions of that order.
    forecast = at[0] + 0 * ahead
    if order >= 1:
        forecast = forecast + ahead * (at[0] - at[1])
    if order == 2:
        forecast = forecast + ahead * (ahead + 1) / 2 * (at[0] - 2 * at[1] + at[2])
    return forecast if clip_hw is None else clip_to_frame(forecast, clip_hw)


def _anchor(history, visibility, order, xp):
    """Index of the frame that each point is continued from."""
    length = history.shape[-2]
    if visibility is None:
        return xp.full(history.shape[:-2], length - 1)
    usable = visibility[..., order:]
    for k in range(1, order + 1):
        usable = usable & visibility[..., order - k : length - k]
    index = xp.where(usable, np.arange(order, length), -1).max(axis=-1)
    return xp.where(index < 0, length - 1, index)


def stand_still(
    history: Num[AnyArray, "*n T 2"],
    frames: int,
    visibility: Bool[AnyArray, "*n T"] | None = None,
    clip_hw: tuple[int, int] | None = None,
) -> Float[AnyArray, "*n F 2"]:
    """Every point stays where it was in its anchor frame. See `extrapolate`."""
    return extrapolate(history, frames, 0, visibility, clip_hw)


def constant_velocity(
    history: Num[AnyArray, "*n T 2"],
    frames: int,
    visibility: Bool[AnyArray, "*n T"] | None = None,
    clip_hw: tuple[int, int] | None = None,
) -> Float[AnyArray, "*n F 2"]:
    """Every point keeps the velocity of its anchor frame. See `extrapolate`."""
    return extrapolate(history, frames, 1, visibility, clip_hw)


def constant_acceleration(
    history: Num[AnyArray, "*n T 2"],
    frames: int,
    visibility: Bool[AnyArray, "*n T"] | None = None,
    clip_hw: tuple[int, int] | None = None,
) -> Float[AnyArray, "*n F 2"]:
    """Every point keeps the acceleration of its anchor frame. See `extrapolate`."""
    return extrapolate(history, frames, 2, visibility, clip_hw)


BASELINES = {
    "stand_still": stand_still,
    "constant_velocity": constant_velocity,
    "constant_acceleration": constant_acceleration,
}
