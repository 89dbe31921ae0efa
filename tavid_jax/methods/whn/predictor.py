"""WHN as a `Predictor`: how a model of one picture answers for any clip, grid and length.

Neither WHN's authors nor TrajLoom's say how it was run on 81 frames of 480x832. The protocol here:

1. The picture is the last frame of the past, squashed to WHN's size; coordinates go with it.
2. Frame 0 of WHN is that picture, so that F frames of future are its frames 1..F. The sampling's
   `horizon` says where they come from: "extend" runs the nets on F + 1 frames with the sinusoid of
   times continued (published tables are exact sinusoids); "interp" runs them on the frames they
   were trained for and stretches those linearly over the future; "native24" does not stretch, and
   refuses more.
3. How far each point of WHN's own grid has moved since frame 0 is a field over the picture. It is
   read bilinearly where the clip's points are in the last frame of the past, and added to them.
4. It predicts no visibility: all points count as visible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.methods.whn.forecaster import WhnForecaster
from tavid_jax.methods.whn.regrid import places_in, read_field, resize_motion
from tavid_jax.tracks.forecasting import Future, Past
from tavid_jax.tracks.grid import grid_shape, query_points

# What is reconstructed comes without a picture: it is shown a grey one.
GREY = 128


class WhnPredictor:
    """A `tracks.forecasting.Predictor` around a `WhnForecaster`.

    Args:
      forecaster: weights and compiled programs.
      facts: what its answers depend on that the forecaster does not know, such as hashes.
      clips: (size_hw, stride) of the grid of points whose tracks are reconstructed where they are
        not WHN's own; default: TrajLoom's.
      name: for tables.
    """

    def __init__(
        self,
        forecaster: WhnForecaster,
        facts: Mapping[str, Any] | None = None,
        clips: tuple[tuple[int, int], int] = ((480, 832), 32),
        name: str = "WHN",
    ):
        self.forecaster, self.name, self._clips = forecaster, name, clips
        window = forecaster.settings.window
        self.facts: dict[str, Any] = {
            **forecaster.sampling.facts(),
            "trained_frames": window.frames,
            "picture": "last frame of the past",
            "size_hw": list(window.size_hw),
            "grid_hw": list(window.grid_hw),
            "read_at": "positions in the last frame of the past, bilinear",
            "visibility": "all visible",
            "reconstruction_picture": "first of the window if given, else grey",
            "features": forecaster.settings.features.name,
            "start": "sample of the posterior",
            **(facts or {}),
        }

    def predict(self, past: Past, frames: int, samples: int = 1, seed: int = 0) -> Future:
        """K futures of one clip; see `tracks.forecasting.Predictor`.

        Raises:
          ValueError: a past without video, more frames than the horizon allows, or a forecast that
            is not finite.
        """
        if past.video is None:
            raise ValueError(f"{self.name} tells motion from a picture: the past needs its video")
        window = self.forecaster.settings.window
        moved = self._motion(past.video[-1], frames, samples, seed)
        last = np.asarray(past.tracks[:, -1], np.float32)
        read = read_field(moved, window, places_in(last, past.size_hw, window))
        read = resize_motion(np.swapaxes(read, 1, 2), window.size_hw, past.size_hw)
        tracks = last[None, :, None] + read
        if not np.isfinite(tracks).all():
            raise ValueError("the forecast is not finite: the weights or the clip are damaged")
        return Future(tracks, np.ones(tracks.shape[:-1], bool))

    def reconstruct(
        self,
        tracks: Float[np.ndarray, "N T 2"],
        picture: UInt8[np.ndarray, "H W 3"] | None = None,
    ) -> Float[np.ndarray, "N T 2"] | None:
        """Tracks of one window (pixels) through the VAE and back, for any number of frames.

        Tracks of another grid than WHN's become motion since the window's first frame on WHN's own
        grid; what comes back is the tracks plus the VAE's error there, read where the points set
        out. So the way between the grids adds no error, and a perfect VAE has none.

        Args:
          tracks: of WHN's own grid, or of the one of `clips`.
          picture: of the window's first frame; None shows the VAE a grey one.

        Raises:
          ValueError: another number of points.
        """
        if self.forecaster.settings.space.vae is None:
            return None
        window = self.forecaster.settings.window
        if picture is None:
            picture = np.full((*window.size_hw, 3), GREY, np.uint8)
        rows, columns = window.grid_hw
        count, frames = tracks.shape[:2]
        tracks = np.asarray(tracks, np.float32)
        if count == rows * columns:
            size_hw, seeds = window.size_hw, window.start.reshape(-1, 2)
            motion = (tracks - seeds[:, None]).swapaxes(0, 1).reshape(frames, rows, columns, 2)
        else:
            size_hw, stride = self._clips
            if count != np.prod(grid_shape(size_hw, stride)):
                raise ValueError(
                    f"tracks of {count} points: {self.name} reconstructs the {rows * columns} of "
                    f"its own grid, or those of {size_hw[0]}x{size_hw[1]} every {stride} px"
                )
            seeds = places_in(query_points(size_hw, stride), size_hw, window)
            motion = self._regridded(tracks - tracks[:, :1], size_hw, stride)
        own = window.start + motion
        error = np.asarray(self.forecaster.reconstruct(own, picture)) - own
        error = read_field(error, window, seeds)
        return tracks + resize_motion(error, window.size_hw, size_hw).swapaxes(0, 1)

    def _motion(
        self, picture: np.ndarray, frames: int, samples: int, seed: int
    ) -> Float[np.ndarray, "K F gh gw 2"]:
        """How far WHN's points have moved from their start in each frame of the future."""
        window, horizon = self.forecaster.settings.window, self.forecaster.sampling.horizon
        trained = window.frames
        if frames < 1 or (horizon == "native24" and frames > trained - 1):
            raise ValueError(
                f"{frames} frames asked for: {self.name} forecasts 1 to {trained - 1} without "
                'stretching; take horizon="extend" or "interp" for more'
            )
        rng, extend = jax.random.key(seed), horizon == "extend"
        tracks = self.forecaster(picture, frames + 1 if extend else trained, rng, samples)
        moved = np.asarray(tracks) - window.start
        if horizon == "interp":
            return _stretched(moved, frames)
        return moved[:, 1 : frames + 1]

    def _regridded(
        self, motion: Float[np.ndarray, "N T 2"], size_hw: tuple[int, int], stride: int
    ) -> Float[np.ndarray, "T gh gw 2"]:
        """Motion of the points of a clip, at the places of WHN's own."""
        window = self.forecaster.settings.window
        theirs = type(window)(size_hw, stride, "topleft", max(2, motion.shape[1]))
        field = motion.swapaxes(0, 1).reshape(-1, *theirs.grid_hw, 2)
        places = places_in(window.start.reshape(-1, 2), window.size_hw, theirs)
        read = read_field(field, theirs, places).reshape(-1, *window.grid_hw, 2)
        return resize_motion(read, size_hw, window.size_hw)


def _stretched(
    moved: Float[np.ndarray, "K T gh gw 2"], frames: int
) -> Float[np.ndarray, "K F gh gw 2"]:
    """Frames 0..T-1 spread evenly over 0..F, linear between them; frame 0 is left out."""
    at = np.arange(1, frames + 1) * ((moved.shape[1] - 1) / frames)
    low = np.minimum(np.floor(at).astype(int), moved.shape[1] - 2)
    share = (at - low).astype(np.float32)[:, None, None, None]
    return moved[:, low] * (1 - share) + moved[:, low + 1] * share
