"""Random numbers that are the same on every machine and may be drawn for many scenes at once."""

import numpy as np
from jaxtyping import Float, Int


class Dice:
    """Uniform numbers laid out in columns; each request takes the next column(s).

    The leading shape is whatever is sampled in one go (scenes, or scenes x sprites), so
    the same few lines sample one scene or a thousand, with equal results.

    Args:
      uniforms: numbers in [0, 1), shape (..., columns).
    """

    def __init__(self, uniforms: Float[np.ndarray, "*rows columns"]):
        self._uniforms = uniforms
        self._next = 0

    def columns(self, count: int) -> Float[np.ndarray, "*rows count"]:
        """The next `count` columns, unchanged."""
        start, self._next = self._next, self._next + count
        if self._next > self._uniforms.shape[-1]:
            raise ValueError(
                f"dice have {self._uniforms.shape[-1]} columns, {self._next} were asked for"
            )
        return self._uniforms[..., start : self._next]

    def uniform(self, low=0.0, high=1.0) -> np.ndarray | np.generic:
        """One number per row in [low, high)."""
        return low + (high - low) * self.columns(1)[..., 0]

    def chance(self, probability) -> np.ndarray | np.generic:
        """One bool per row."""
        return self.columns(1)[..., 0] < probability

    def sign(self) -> np.ndarray | np.generic:
        """-1.0 or +1.0 per row."""
        return np.where(self.chance(0.5), -1.0, 1.0)

    def choice(self, count: int) -> np.ndarray | np.generic:
        """One of 0..count-1 per row."""
        return (self.columns(1)[..., 0] * count).astype(np.int64)

    def order(self, count: int) -> Int[np.ndarray, "*rows count"]:
        """A permutation of 0..count-1 per row."""
        return np.argsort(self.columns(count), axis=-1, kind="stable")


def uniforms(seeds, count: int, *, stream: int = 0) -> Float[np.ndarray, "B count"]:
    """`count` uniform numbers for every seed.

    Uses the raw 64-bit output of PCG64, whose stream NumPy guarantees over versions and
    platforms, and not the Generator methods, for which it does not.

    Args:
      seeds: B non-negative integers.
      count: numbers per seed.
      stream: separate numbers for separate purposes of one seed.

    Raises:
      ValueError: a negative seed.
    """
    rows = []
    for seed in seeds:
        seed = int(seed)
        if seed < 0:
            raise ValueError(f"seed {seed}: seeds of scenes must not be negative")
        rows.append(np.random.PCG64([seed, stream]).random_raw(count))
    raw = np.stack(rows) if rows else np.zeros((0, count), np.uint64)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def steady(values: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Rounds to a multiple of 2^-24.

    sin, cos and exp differ in the last bit between processors; after this rounding all that
    follows is exact IEEE arithmetic, and tracks are equal bit for bit on every machine.
    """
    return np.round(values * 2.0**24) * 2.0**-24
