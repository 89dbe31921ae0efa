"""Large pictures in overlapping tiles, one after the other, with their seams blended."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

_ROWS, _COLUMNS = 2, 3  # axes of (B, T, H, W, C)


@dataclasses.dataclass(frozen=True)
class Cut:
    """Tiles of an input and the blend of their outputs, each (rows, columns).

    Attributes:
      size_hw: of a tile of the input; tiles at the lower and right edge are smaller.
      stride_hw: from one tile of the input to the next.
      kept_hw: what a blended tile of the output contributes, from its top left corner.
      blend_hw: over how much of the output two neighbours are mixed.
    """

    size_hw: tuple[int, int]
    stride_hw: tuple[int, int]
    kept_hw: tuple[int, int]
    blend_hw: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Overlapping tiles of a picture, in pixels.

    Attributes:
      size_hw: height and width of a tile.
      stride_hw: from one tile to the next, at most the size; the rest overlaps and is blended.

    Raises:
      ValueError: a stride that is not within 1..size.
    """

    size_hw: tuple[int, int]
    stride_hw: tuple[int, int]

    def __post_init__(self):
        for name, size, stride in zip(
            ("height", "width"), self.size_hw, self.stride_hw, strict=True
        ):
            if not 1 <= stride <= size:
                raise ValueError(
                    f"tiles of {name} {size} every {stride} pixels: the stride is within 1..{size}"
                )

    def down(self, stride: int) -> Cut:
        """Tiles of pixels, for an encoder that makes one latent position of `stride` pixels.

        Raises:
          ValueError: sizes that `stride` does not divide.
        """
        size, step, overlap = self._latent(stride)
        return Cut(self.size_hw, self.stride_hw, step, overlap)

    def up(self, stride: int) -> Cut:
        """Tiles of latents, for a decoder that makes `stride` pixels of one latent position.

        Raises:
          ValueError: sizes that `stride` does not divide.
        """
        size, step, _ = self._latent(stride)
        return Cut(size, step, self.stride_hw, _difference(self.size_hw, self.stride_hw))

    def _latent(self, stride: int) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        for what, pair in (("size", self.size_hw), ("stride", self.stride_hw)):
            if any(length % stride for length in pair):
                near = tuple(max(1, round(length / stride)) * stride for length in pair)
                raise ValueError(
                    f"the tiles' {what} {pair} is no multiple of {stride} pixels, the stride of "
                    f"the autoencoder: use {near}"
                )
        size, step = (_divide(pair, stride) for pair in (self.size_hw, self.stride_hw))
        return size, step, _difference(size, step)


def tiled(
    fn: Callable[[Array], Array], x: Shaped[Array, "B T H W C"], cut: Cut
) -> Shaped[Array, "B U R S D"]:
    """fn on every tile of x, the results blended at their seams and joined.

    A picture that fits into one tile is given to fn as a whole. Otherwise tiles start at all
    multiples of the stride inside the picture. Each is mixed with the already blended one above
    it, then with the already blended one on its left, linearly over the overlap; this is how the
    published autoencoders do it. Every tile of the result is in memory at once, but fn works on
    one at a time: tiles of one size share a loop, whose body is compiled once. A stride of at
    least half a tile leaves at most nine sizes, four where the last tile reaches beyond the
    overlap.

    Args:
      fn: scales rows and columns by the fixed factor that `cut` stands for; the same for every
        size of tile.
      x: pixels or latents.
      cut: from `Tiles.down` or `Tiles.up`.
    """
    if x.shape[_ROWS] <= cut.size_hw[0] and x.shape[_COLUMNS] <= cut.size_hw[1]:
        return fn(x)
    tops, lefts = (
        range(0, x.shape[axis], step)
        for axis, step in zip((_ROWS, _COLUMNS), cut.stride_hw, strict=True)
    )
    tiles = _run(fn, x, cut.size_hw, [(top, left) for top in tops for left in lefts])
    above: list[Array] = []
    strips = []
    for top in tops:
        row: list[Array] = []
        for column, left in enumerate(lefts):
            tile = tiles[top, left]
            if above:
                tile = _blend(above[column], tile, _ROWS, cut.blend_hw[0])
            if row:
                tile = _blend(row[-1], tile, _COLUMNS, cut.blend_hw[1])
            row.append(tile)
        kept = [tile[:, :, : cut.kept_hw[0], : cut.kept_hw[1]] for tile in row]
        strips.append(jnp.concatenate(kept, axis=_COLUMNS))
        above = row
    return jnp.concatenate(strips, axis=_ROWS)


def _run(
    fn: Callable[[Array], Array],
    x: Array,
    size_hw: tuple[int, int],
    corners: Sequence[tuple[int, int]],
) -> dict[tuple[int, int], Array]:
    """{top left corner: fn of the tile there}."""
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for top, left in corners:
        shape = (min(size_hw[0], x.shape[2] - top), min(size_hw[1], x.shape[3] - left))
        groups.setdefault(shape, []).append((top, left))
    results: dict[tuple[int, int], Array] = {}
    for (rows, columns), members in groups.items():
        # Cut out inside the loop: stacked inputs would be a second copy of the video.
        def one(corner: Array, rows: int = rows, columns: int = columns) -> Array:
            part = jax.lax.dynamic_slice_in_dim(x, corner[0], rows, _ROWS)
            return fn(jax.lax.dynamic_slice_in_dim(part, corner[1], columns, _COLUMNS))

        outputs = jax.lax.map(one, np.asarray(members, np.int32))
        results.update(zip(members, outputs, strict=True))
    return results


def _blend(before: Array, tile: Array, axis: int, extent: int) -> Array:
    """tile, its first `extent` entries faded in over the last ones of `before`."""
    extent = min(extent, before.shape[axis], tile.shape[axis])
    if not extent:
        return tile
    weight = np.arange(extent, dtype=np.float32) / extent
    weight = weight.reshape([-1 if d == axis else 1 for d in range(tile.ndim)])
    length = before.shape[axis]
    old = jax.lax.slice_in_dim(before, length - extent, length, axis=axis)
    new = jax.lax.slice_in_dim(tile, 0, extent, axis=axis)
    # Written so that equal neighbours are reproduced exactly.
    mixed = (old + (new - old) * weight).astype(tile.dtype)
    rest = jax.lax.slice_in_dim(tile, extent, tile.shape[axis], axis=axis)
    return jnp.concatenate([mixed, rest], axis=axis)


def _divide(pair: tuple[int, int], by: int) -> tuple[int, int]:
    return pair[0] // by, pair[1] // by


def _difference(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] - b[0], a[1] - b[1]
