"""Which video tokens lie around a trajectory, and how near: from pixels to the latent grid."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# floor: the token that holds the point; continuous: the point's own place between tokens.
CENTRES = ("floor", "continuous")
REGIONS = ("disc", "square")
# Of which frame a latent frame takes the place: the last of those that it stands for, or the mean.
TIMES = ("sample", "mean")
# owner: the nearest trajectory has the token; blend: mean of their outputs, weighted by nearness;
# concat: the token reads the texts of all of them.
OVERLAPS = ("owner", "blend", "concat")
# A token of the transformer, a position of the latent, or a pixel.
UNITS = ("token", "latent", "pixel")
# Pixel frames of a latent frame behind the first, which stands for one.
STRIDE_T = 4


@dataclasses.dataclass(frozen=True)
class Rule:
    """What counts as the neighbourhood of a trajectory (TGT, the paper's B_r and G_t).

    Attributes:
      radius: of the neighbourhood, in `unit`; 0 is the centre's token alone.
      sigma: of the Gaussian, in `unit`.
      unit: one of `UNITS`.
      centre: one of `CENTRES`.
      region: one of `REGIONS`.
      time: one of `TIMES`.
      overlap: one of `OVERLAPS`.
      per_object: whether radius and sigma of each trajectory grow with its object: they are then
        those of an object as large as a disc of `radius`, see `neighbourhoods(scale=...)`.

    Raises:
      ValueError: a value out of range, by name.
    """

    radius: float | int = 2.0
    sigma: float | int = 1.0
    unit: str = "token"
    centre: str = "floor"
    region: str = "disc"
    time: str = "sample"
    overlap: str = "owner"
    per_object: bool = False


class Pairs(NamedTuple):
    """(token, trajectory) pairs, ascending by token, so that a device that holds a range of tokens
    finds its own in one piece. S of them, static; those that are unused stand at the end.

    Attributes:
      token: index in the frame-major grid; F h w where the pair is unused.
      owner: which trajectory; 0 where unused.
      gauss: G of the token, (0, 1]; 1 where unused.
      share: weight of this pair in its token's output: 1 for "owner", adds up to 1 over a token's
        pairs for "blend"; for "concat" 1 (attention decides); 0 where unused.
    """

    token: Int[np.ndarray, " S"]
    owner: Int[np.ndarray, " S"]
    gauss: Float[np.ndarray, " S"]
    share: Float[np.ndarray, " S"]
