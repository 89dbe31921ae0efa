"""Moving pictures: what steers a video beside what came of it. Pixels grow whole, never blurred."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.methods.finetune.pages import at_height
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz import canvas, panels, tracks

Frames = UInt8[np.ndarray, "T H W 3"]
Picture = UInt8[np.ndarray, "t h w 3"]  # of Frames, of another size
# Points that are drawn at most: of a dense grid a spread of it is enough to see what moves.
MOST = 400
POINTS = tracks.TrailStyle(head_radius=2.2, head_width=2.4, tail_width=1.2)
PATH = tracks.TrailStyle(head_radius=3.0, head_width=1.8, tail_width=1.8)
AIM = (255, 255, 255)


def control_panels(
    image: UInt8[np.ndarray, "H W 3"],
    steering: Trajectories,
    controls: Sequence[Frames],
    height: int,
) -> list[panels.Panel]:
    """The image with the points that steer it, and the condition videos that they become.

    Args:
      image: the first frame.
      steering: points, those invisible that are not given.
      controls: identities and colours, or nothing; black colours are left out.
      height: of each picture, px.
    """
    still = np.repeat(image[None], steering.num_frames, axis=0)
    drawn = with_points(still, steering, height)
    shown = [panels.Panel("points", drawn, panels.counters(drawn), accent=canvas.THEME.history)]
    for label, video in zip(("identities", "colours"), controls, strict=False):
        if label == "identities" or video.any():
            shown.append(panels.Panel(label, at_height(video, height)))
    return shown


def with_points(frames: Frames, steering: Trajectories, height: int) -> Picture:
    """Frames, enlarged, with the points that are visible, and where they came from."""
    seen = steering.visibility
    some = np.flatnonzero(seen.any(1))
    some = some[tracks.subset(len(some), MOST)]
    # A point that jumps from key frame to key frame leaves no trail between them.
    return tracks.draw_trails(
        at_height(frames, height),
        steering.tracks[some],
        seen[some],
        size_hw=tuple(steering.size_hw),
        style=POINTS,
    )


def with_aim(
    frames: Frames,
    places: Float[np.ndarray, "S T 2"],
    shown: Bool[np.ndarray, "S T"],
    height: int,
) -> Picture:
    """Frames, enlarged, with white dots where objects should be, and the paths of these.

    Args:
      frames: of a video.
      places: px of them.
      shown: where the dots are drawn.
      height: of the result, px.
    """
    size_hw = tuple(frames.shape[1:3])
    colours = np.broadcast_to(np.array(AIM, np.uint8), (len(places), 3))
    return tracks.draw_trails(
        at_height(frames, height),
        places.astype(np.float32),
        shown,
        size_hw=size_hw,
        colors=colours,
        style=PATH,
    )
