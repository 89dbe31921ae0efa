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


def _permutation(name: str, order: tuple[int, ...]) -> Op:
    inverse = tuple(int(i) for i in np.argsort(order))
    return Op(name, lambda a: a.transpose(order), lambda a: a.transpose(inverse))


COPY = Op("copy", lambda a: a, lambda a: a)
# Linear: (out, in) -> (in, out).
TRANSPOSE = _permutation("transpose", (1, 0))
# Conv1d: (out, in, k) -> (k, in, out).
CONV1D = _permutation("conv1d", (2, 1, 0))
# Patch embedding, a Conv2d with stride = kernel: (out, in, row, column) -> (row, column, in, out).
PATCH_CONV = _permutation("patch_conv", (2, 3, 1, 0))
# Conv2d: (out, in, row, column) -> (row, column, in, out).
CONV2D = _permutation("conv2d", (2, 3, 1, 0))
# Conv3d: (out, in, frame, row, column) -> (frame, row, column, in, out).
CONV3D = _permutation("conv3d", (2, 3, 4, 1, 0))
# ConvTranspose1d: (in, out, k) -> (k, in, out) with the taps reversed, as Flax applies them.
CONV_TRANSPOSE1D = Op(
    "conv_transpose1d",
    lambda a: a.transpose(2, 0, 1)[::-1],
    lambda a: a[::-1].transpose(1, 2, 0),
)


def pointwise_conv(axes: int) -> Op:
    """A convolution with one tap, used as a linear layer: (out, in, 1, ...) -> (in, out)."""
    return Op(
        f"pointwise_conv({axes})",
        lambda a: a.reshape(a.shape[:2]).T,
        lambda a: a.T.reshape(*a.shape[::-1], *axes * (1,)),
    )


POINTWISE_CONV = pointwise_conv(1)


def squeeze_end(count: int) -> Op:
    """Drops `count` trailing axes of size one."""
    return Op(
        f"squeeze_end({count})",
        lambda a: a.reshape(a.shape[: a.ndim - count]),
        lambda a: a.reshape(a.shape + (1,) * count),
    )


def squeeze(count: int) -> Op:
    """Drops `count` leading axes of size one."""
    return Op(
        f"squeeze({count})",
        lambda a: a.reshape(a.shape[count:]),
        lambda a: a.reshape((1,) * count + a.shape),
    )


# Patches: P = the number of positions (frame, row, column) in one. Our tokens are flattened with
# the channel fastest; convolutions, and CogVideoX's output, have the channel slowest.


def patch_linear(channels: int, taps: tuple[int, ...] = ()) -> Op:
    """A patch embedding -> kernel (P*channels, out), rows ordered (position, channel).

    Args:
      channels: of the input.
      taps: extents of the convolution's kernel, for a weight (out, channels, *taps); empty for a
        linear layer on patches with the channel slowest, (out, channels*P).
    """

    def forward(a: np.ndarray) -> np.ndarray:
        a = a.reshape(a.shape[0], channels, -1)
        return a.transpose(2, 1, 0).reshape(-1, a.shape[0])

    def backward(a: np.ndarray) -> np.ndarray:
        out = a.shape[-1]
        a = a.reshape(-1, channels, out).transpose(2, 1, 0)
        return a.reshape(out, channels, *taps) if taps else a.reshape(out, -1)

    return Op(f"patch_linear({channels}, {taps})", forward, backward)


def patch_output(channels: int) -> Op:
    """Columns of an output projection from (channel, position) to (position, channel).

    A weight (channels*P, in) -> kernel (in, P*channels); a bias (channels*P,) -> (P*channels,).
    """

    def forward(a: np.ndarray) -> np.ndarray:
        a = a.reshape(channels, -1, *a.shape[1:]).swapaxes(0, 1)
        return a.reshape(-1, *a.shape[2:]).T

    def backward(a: np.ndarray) -> np.ndarray:
        a = a.T
        a = a.reshape(-1, channels, *a.shape[1:]).swapaxes(0, 1)
        return a.reshape(-1, *a.shape[2:])

    return Op(f"patch_output({channels})", forward, backward)
