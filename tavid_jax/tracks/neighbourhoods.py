"""Which video tokens lie around a trajectory, and how near: from pixels to the latent grid.

A token (k, i, j) of the grid F h w stands for a patch of the frames 4k - 3 to 4k (the first for
frame 0 alone). Patch (i, j) covers the columns of pixels [j W/w, (j + 1) W/w), rows alike.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError

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
PATCH = 2  # latent positions along a side of a token

# (F, h, w): latent frames, rows and columns of tokens.
Grid = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What counts as the neighbourhood of a trajectory (TGT, the paper's B_r and G_t).

    Attributes:
      radius: of the neighbourhood, in `unit`. The token that holds the point always belongs to it,
        so that 0 is this token alone. A square has the side 2 radius.
      sigma: of the Gaussian, in `unit`.
      unit: one of `UNITS`.
      centre: one of `CENTRES`.
      region: one of `REGIONS`.
      time: one of `TIMES`.
      overlap: one of `OVERLAPS`.
      per_object: whether radius and sigma of each trajectory grow with its object: they are then
        those of an object as large as a disc of `radius`, see `neighbourhoods(scale=...)`.
      scale_range: least and most that they shrink and grow.

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
    scale_range: tuple[float | int, float | int] = (0.5, 2.0)

    def __post_init__(self):
        choices = {
            "unit": UNITS,
            "centre": CENTRES,
            "region": REGIONS,
            "time": TIMES,
            "overlap": OVERLAPS,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                _fail(f"{name} is {getattr(self, name)!r}: use one of {', '.join(known)}")
        if not 0 <= self.radius < math.inf:
            _fail(f"radius is {self.radius}: it must be 0 or more, and finite")
        if not 0 < self.sigma < math.inf:
            _fail(f"sigma is {self.sigma}: it must be above 0, and finite")
        least, most = self.scale_range
        if not 0 < least <= most < math.inf:
            _fail(f"scale_range is {self.scale_range}: give (least, most), 0 < least <= most")
        if self.per_object and not self.radius:
            _fail("per_object measures objects by the radius, which is 0: give one above 0")


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


def capacity(
    rule: Rule, points: int, grid: Grid, size_hw: tuple[int, int], patch: int = PATCH
) -> int:
    """S, the most pairs that so many trajectories can have, wherever they go.

    Args:
      rule: see `Rule`.
      points: N, with padding.
      grid: (F, h, w).
      size_hw: (H, W) px of the frames.
      patch: latent positions along a side of a token.

    Raises:
      ValueError: a frame that does not divide into such a grid.
    """
    frames, rows, cols = grid
    window = len(_offsets(rule, grid, _units(rule, _pitch(size_hw, grid), patch)))
    most = points * frames * min(window, rows * cols)
    return min(most, frames * rows * cols) if rule.overlap == "owner" else most


def neighbourhoods(
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "..."],
    size_hw: tuple[int, int],
    grid: Grid,
    rule: Rule,
    *,
    points: int | None = None,
    valid: Bool[np.ndarray, " N"] | None = None,
    scale: Num[np.ndarray, " N"] | None = None,
    patch: int = PATCH,
) -> Pairs:
    """The pairs of N trajectories with the tokens around them.

    A trajectory has none in a latent frame where it is not visible (see `Rule.time`); outside of
    the frame it is not. The Gaussian is exp(-d^2 / (2 sigma^2)) of the distance d, in `rule.unit`,
    between the centres of token and trajectory.

    Args:
      tracks: (x, y) px of `size_hw`, pixel centres at integers.
      visibility: (N, T), True = seen in that frame; other places are not read.
      size_hw: (H, W) px of the frames.
      grid: (F, h, w), where T = 4 (F - 1) + 1.
      rule: see `Rule`.
      points: how many trajectories there is room for (see `capacity`); None = N.
      valid: which are no padding; None = all.
      scale: size of each one's object, see `object_scales`; read for `rule.per_object` alone, None
        = 1 each.
      patch: latent positions along a side of a token.

    Raises:
      TrajectoryError: more trajectories than `points`, visibility of another shape, a T that is not
        the grid's, or a visible place that is not finite.
      ValueError: a frame that does not divide into such a grid, or a scale that is not positive.
    """
    points = len(tracks) if points is None else points
    _check(tracks, visibility, grid, points)
    pitch = _pitch(size_hw, grid)
    units = _units(rule, pitch, patch)
    used = visibility if valid is None else visibility & valid[:, None]
    places, seen = _latent_places(tracks, used, size_hw, rule.time)
    which, frame = np.nonzero(seen)
    scales = _scales(rule, scale, used.any(-1))[which]

    at = places[which, frame] / pitch
    own = np.minimum(np.floor(at).astype(np.int64), np.array(grid[1:]) - 1)
    # From the centre of the token that holds the point to the point, [-1/2, 1/2) of a token.
    rest = at - own - 0.5 if rule.centre == "continuous" else np.zeros_like(at)
    steps = _offsets(rule, grid, units)
    tokens = own[:, None] + steps
    away = (steps - rest[:, None]) * units
    near = _within(away, rule.region, (rule.radius * scales)[:, None]) | (steps == 0).all(-1)
    near &= ((tokens >= 0) & (tokens < grid[1:])).all(-1)
    falloff = (away**2).sum(-1) / (2 * (rule.sigma * scales) ** 2)[:, None]

    row, step = np.nonzero(near)
    y, x = tokens[row, step].T
    flat = (frame[row] * grid[1] + y) * grid[2] + x
    found = _overlapped(flat, which[row], falloff[row, step], rule.overlap)
    return _padded(found, capacity(rule, points, grid, size_hw, patch), math.prod(grid))


def owner_map(pairs: Pairs, tokens: int) -> tuple[Int[np.ndarray, " L"], Float[np.ndarray, " L"]]:
    """What a person looks at: whose each token is.

    Args:
      pairs: where a token has several trajectories, the nearest one counts.
      tokens: L = F h w.

    Returns:
      int32 (L,), 0 = nobody's, n + 1 = trajectory n's; G as float32 (L,), 1 where nobody's.
    """
    owner, gauss = np.zeros(tokens, np.int32), np.ones(tokens, np.float32)
    used = np.flatnonzero(pairs.token < tokens)
    token, whose, near = (part[used] for part in (pairs.token, pairs.owner, pairs.gauss))
    _, first = np.unique(token[order := np.lexsort((whose, -near, token))], return_index=True)
    best = order[first]
    owner[token[best]], gauss[token[best]] = whose[best] + 1, near[best]
    return owner, gauss


def inside(tracks: Float[np.ndarray, "N T 2"], size_hw: tuple[int, int]) -> Bool[np.ndarray, "N T"]:
    """Whether a place, (x, y) px, lies on one of the frame's pixels, which reach half a pixel
    around it."""
    edges = tracks.astype(np.float64) + 0.5
    return ((edges >= 0) & (edges < np.array(size_hw[::-1]))).all(-1)


def outside(trajectories: Trajectories) -> int:
    """How many places are said to be visible, but lie outside of the frame, where none is."""
    within = inside(trajectories.tracks, trajectories.size_hw)
    return int((trajectories.visibility & ~within).sum())


def mask_areas(
    masks: Bool[np.ndarray, "S H W"], segment: Int[np.ndarray, " N"]
) -> Int[np.ndarray, " N"]:
    """Pixels of the mask that each trajectory belongs to (k = masks[k - 1]); 0 where 0 = none."""
    areas = np.concatenate([[0], masks.sum((1, 2), dtype=np.int64)])
    return areas[segment]


def object_scales(
    areas: Num[np.ndarray, " N"],
    rule: Rule,
    size_hw: tuple[int, int],
    grid: Grid,
    patch: int = PATCH,
) -> Float[np.ndarray, " N"]:
    """Sizes of objects, as float32 (N,): 1 is a disc with `rule.radius`; lengths, not areas.

    Args:
      areas: px of `size_hw`; 0 = not known, scale 1.
      rule: its radius, above 0, and unit; `rule.scale_range` is applied by `neighbourhoods`.
      size_hw: (H, W) px of the frames.
      grid: (F, h, w).
      patch: latent positions along a side of a token.

    Raises:
      ValueError: a radius of 0, areas that are negative or not finite, or a frame that does not
        divide into such a grid.
    """
    if not rule.radius:
        _fail("radius is 0: objects are measured by it, give one above 0")
    areas = np.asarray(areas, np.float64)
    if not ((areas >= 0) & np.isfinite(areas)).all():
        _fail(f"areas must be finite and not negative, got {areas.tolist()}")
    pitch = _pitch(size_hw, grid)
    # Square px of a square of side 1 in the rule's unit.
    square = (pitch / _units(rule, pitch, patch)).prod()
    scales = np.sqrt(areas / (math.pi * rule.radius**2 * square))
    return np.where(areas > 0, scales, 1.0).astype(np.float32)


def _check(tracks: np.ndarray, visibility: np.ndarray, grid: Grid, points: int) -> None:
    count, total = tracks.shape[:2]
    if visibility.shape != (count, total):
        raise TrajectoryError(
            f"visibility must be (N, T) = {(count, total)}, as the tracks are, got "
            f"{visibility.shape}"
        )
    if count > points:
        raise TrajectoryError(
            f"{count} trajectories, there is room for {points}: leave some out or make more room"
        )
    wanted = STRIDE_T * (grid[0] - 1) + 1
    if total != wanted:
        raise TrajectoryError(
            f"tracks have {total} frames, the {grid[0]} latent frames stand for {wanted}: give "
            "tracks of so many"
        )


def _pitch(size_hw: tuple[int, int], grid: Grid) -> Float[np.ndarray, "2"]:
    """(y, x) px from token to token."""
    (height, width), (_, rows, cols) = size_hw, grid
    if min(grid) < 1 or height % rows or width % cols:
        _fail(
            f"a frame of {width}x{height} px does not divide into {cols}x{rows} tokens: give "
            "frames and grid that fit"
        )
    return np.array([height / rows, width / cols])


def _units(rule: Rule, pitch: np.ndarray, patch: int) -> Float[np.ndarray, "2"]:
    """(y, x) units from token to token."""
    return {"token": np.ones(2), "latent": np.full(2, float(patch)), "pixel": pitch}[rule.unit]


def _offsets(rule: Rule, grid: Grid, units: np.ndarray) -> Int[np.ndarray, "K 2"]:
    """Steps (y, x), in tokens, from the token that holds a point to any that can be near it."""
    reach = rule.radius * (rule.scale_range[1] if rule.per_object else 1)
    slack = 0.5 if rule.centre == "continuous" else 0.0
    ends = np.minimum(np.floor(reach / units + slack), np.array(grid[1:]) - 1).astype(int)
    y, x = (np.arange(-end, end + 1) for end in ends)
    steps = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    closest = np.maximum(np.abs(steps) - slack, 0) * units
    return steps[_within(closest, rule.region, reach)]


def _within(away: np.ndarray, region: str, radius: np.ndarray | float | int) -> np.ndarray:
    if region == "disc":
        return (away**2).sum(-1) <= radius**2
    return np.abs(away).max(-1) <= radius


def _latent_places(
    tracks: np.ndarray, visibility: np.ndarray, size_hw: tuple[int, int], time: str
) -> tuple[Float[np.ndarray, "N F 2"], Bool[np.ndarray, "N F"]]:
    """(y, x) px from the frame's upper left corner for each latent frame, and where there is one.

    With pixel centres at integers the first token's patch is [-1/2, 16 - 1/2): half a pixel is
    added, so that it is [0, 16) and its centre, where four pixels meet, lies at 8.
    """
    broken = visibility & ~np.isfinite(tracks).all(-1)
    if broken.any():
        n, t = np.argwhere(broken)[0]
        raise TrajectoryError(
            f"tracks: point {n} is visible in frame {t}, but its place is not finite; mark it "
            "invisible there"
        )
    tracks = np.where(visibility[..., None], tracks, 0)
    seen = visibility & inside(tracks, size_hw)
    edges = tracks[..., ::-1].astype(np.float64) + 0.5
    if time == "sample":
        return edges[:, ::STRIDE_T], seen[:, ::STRIDE_T]
    # Three frames that nobody sees before the first make its group as long as the others.
    before = ((0, 0), (STRIDE_T - 1, 0))
    groups = (len(tracks), -1, STRIDE_T)
    seen = np.pad(seen, before).reshape(groups)
    edges = np.pad(edges, (*before, (0, 0))).reshape(*groups, 2)
    count = seen.sum(-1)
    total = np.where(seen[..., None], edges, 0).sum(2)
    return total / np.maximum(count, 1)[..., None], count > 0


def _scales(
    rule: Rule, scale: np.ndarray | None, used: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    if not rule.per_object or scale is None:
        return np.ones(len(used))
    scale = np.where(used, scale, 1.0)  # padding may hold anything
    if not ((scale > 0) & np.isfinite(scale)).all():
        _fail(f"scale must be finite and above 0, got {scale.tolist()}")
    return np.clip(scale, *rule.scale_range)


def _overlapped(
    token: np.ndarray, owner: np.ndarray, falloff: np.ndarray, overlap: str
) -> tuple[np.ndarray, ...]:
    """(token, owner, G, share) in order, G = exp(-falloff); the falloff decides, for a small G may
    be none at all in float32."""
    keys = (owner, falloff, token) if overlap == "owner" else (owner, token)
    order = np.lexsort(keys)
    token, owner, falloff = token[order], owner[order], falloff[order]
    first = np.diff(token, prepend=-1) > 0
    if overlap == "owner":
        token, owner, falloff = token[first], owner[first], falloff[first]
    share = np.ones(len(token))
    if overlap == "blend" and len(token):
        starts, group = np.flatnonzero(first), np.cumsum(first) - 1
        share = np.exp(np.minimum.reduceat(falloff, starts)[group] - falloff)
        share /= np.add.reduceat(share, starts)[group]
    gauss = np.maximum(np.exp(-falloff), np.finfo(np.float32).tiny)
    return token, owner, gauss, share


def _padded(found: tuple[np.ndarray, ...], size: int, unused: int) -> Pairs:
    kinds = ((np.int32, unused), (np.int32, 0), (np.float32, 1), (np.float32, 0))
    made = [np.full(size, fill, dtype) for dtype, fill in kinds]
    for whole, values in zip(made, found, strict=True):
        whole[: len(values)] = values
    return Pairs(*made)


def _fail(what: str) -> None:
    raise ValueError(what)
