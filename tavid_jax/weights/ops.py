"""Layout changes between PyTorch and this library, each with its exact inverse (numpy)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Op:
    """A layout change: `forward` from the checkpoint to the parameter, `backward` the inverse."""

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    backward: Callable[[np.ndarray], np.ndarray]
    source_rank: int | None = None


def _permutation(name: str, order: tuple[int, ...]) -> Op:
    inverse = tuple(int(i) for i in np.argsort(order))
    return Op(name, lambda a: a.transpose(order), lambda a: a.transpose(inverse), len(order))


COPY = Op("copy", lambda a: a, lambda a: a)
# Linear: (out, in) -> (in, out).
TRANSPOSE = _permutation("transpose", (1, 0))
# Conv1d: (out, in, k) -> (k, in, out).
CONV1D = _permutation("conv1d", (2, 1, 0))
# Patch embedding, a Conv2d with stride = kernel: (out, in, row, column) -> (row, column, in, out).
PATCH_CONV = _permutation("patch_conv", (2, 3, 1, 0))
# ConvTranspose1d: (in, out, k) -> (k, in, out) with the taps reversed, as Flax applies them.
CONV_TRANSPOSE1D = Op(
    "conv_transpose1d",
    lambda a: a.transpose(2, 0, 1)[::-1],
    lambda a: a[::-1].transpose(1, 2, 0),
    3,
)
# Conv1d with one tap, used as a linear layer: (out, in, 1) -> (in, out).
POINTWISE_CONV = Op(
    "pointwise_conv",
    lambda a: a[:, :, 0].transpose(1, 0),
    lambda a: a.transpose(1, 0)[..., None],
    3,
)


def squeeze(count: int) -> Op:
    """Drops `count` leading axes of size one."""

    def forward(a: np.ndarray) -> np.ndarray:
        return a.reshape(a.shape[count:]) if a.shape[:count] == (1,) * count else a

    return Op(f"squeeze({count})", forward, lambda a: a.reshape((1,) * count + a.shape))
