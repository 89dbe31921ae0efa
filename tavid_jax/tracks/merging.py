"""One set of points from two runs of a tracker: forward, and backward from the last frame.

The backward run finds what enters the view later. Most of its points were also tracked forward, so
only those far from all forward tracks are added.
"""

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError, joined_texts

# forward_file: as released, which reads only the forward run: both runs start from the same grid
# in the same order, so a forward track's first position is also the reverse track's last one.
# positions: reads the reverse run, so that the grids may differ.
RULES = ("forward_file", "positions")
DISTANCE = 11.0  # pixels of a frame of 480 x 720


def merge_two_way(
    forward: Trajectories,
    reverse: Trajectories,
    rule: str = "forward_file",
    distance: float | int = DISTANCE,
) -> Trajectories:
    """All forward points, then the reverse points that are new.

    Draw them with the codes "two_way", as released.

    Args:
      forward: points that start in the first frame; segments by the masks of that frame.
      reverse: points that start in the last frame, in the order of time (first frame first);
        segments by the masks of the last frame.
      rule: see `RULES`.
      distance: see `new_points`.

    Raises:
      TrajectoryError: the runs differ in frames, size, or in which fields they have; a segment of
        the reverse run that the forward run has not; or a rule that does not fit.
    """
    for name, a, b in (
        ("num_frames", forward.num_frames, reverse.num_frames),
        ("size_hw", forward.size_hw, reverse.size_hw),
    ):
        if a != b:
            raise TrajectoryError(f"{name}: forward tracks have {a}, reverse tracks {b}")
    if rule not in RULES:
        raise TrajectoryError(f"no rule {rule!r}: use one of {', '.join(RULES)}")
    if rule == "forward_file" and forward.num_points != reverse.num_points:
        raise TrajectoryError(
            f"{forward.num_points} forward and {reverse.num_points} reverse tracks do not start "
            "from one grid: use rule 'positions'"
        )
    starts = forward.tracks[:, 0] if rule == "forward_file" else reverse.tracks[:, -1]
    added = reverse.take(new_points(starts, forward.tracks[:, -1], distance))
    changes = {"segments": forward.segments}
    for name in ("tracks", "visibility", "depth", "segment", "colour"):
        parts = (getattr(forward, name), getattr(added, name))
        if (parts[0] is None) != (parts[1] is None):
            raise TrajectoryError(f"{name}: only one of forward and reverse tracks has it")
        changes[name] = None if parts[0] is None else np.concatenate(parts)
    return forward.replace(texts=joined_texts(forward, added), **changes)


def new_points(
    starts: Float[np.ndarray, "M 2"],
    ends: Float[np.ndarray, "N 2"],
    distance: float | int = DISTANCE,
) -> Bool[np.ndarray, " M"]:
    """Which starts lie further than `distance` px from every end."""
    # float32, and the square multiplied out: as released, also where a distance is near the bound.
    squares = (starts**2).sum(-1)[:, None] + (ends**2).sum(-1) - 2 * (starts @ ends.T)
    nearest = np.sqrt(np.maximum(squares, 0)).min(axis=1, initial=np.inf)
    return nearest > distance
