"""Large convolutions as matrix products, for CPUs.

XLA's own convolution reaches 0.3 to 0.7 of oneDNN's speed there, and a thirtieth of it where
there are few output channels; its matrix product is as fast as any. So the work is cut into
blocks that stay in the caches and each block becomes matrix products, in one of three ways:

  few output channels: one product with all taps, then the taps' results are shifted and added;
  3 x 3 taps in space, stride 1: Winograd's F(2 x 2, 3 x 3) (Lavin and Gray, arXiv:1509.09308),
    2.25 times fewer multiplications; its rounding error is about twice that of the plain sum;
  otherwise: the values under the window are copied beside each other.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

# Below these numbers of multiplications the simple program that compiles sooner is good enough.
WORTH = 2**28
WORTH_FEW_OUTPUTS = 2**24
FEW_OUTPUTS = 16
# Winograd: of fewer channels the transforms, of fewer positions the kernel's transform cost more.
WINOGRAD_CHANNELS = 32
WINOGRAD_POSITIONS = 512
# Output positions per block of Winograd, and floats of a block otherwise: both measured.
WINOGRAD_BLOCK = 1024
BLOCK = 2**20

Frames = Float[Array, "T H W I"]
Way = Callable[..., Array]


# Of pictures and of clips, for XLA's own convolution.
NAMES = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def convolve(
    x: Float[Array, "B *S I"],
    kernel: Float[Array, "*K I O"],
    strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
) -> Float[Array, "B *R O"]:
    """The convolution of pictures or clips, as `lax.conv_general_dilated` has it."""
    if x.ndim == 4:  # pictures are the frames of one clip, under a window of one frame
        return convolve(x[None], kernel[None], (1, *strides), ((0, 0), *padding))[0]
    out = [
        (n + before + after - k) // s + 1
        for n, (before, after), k, s in zip(
            x.shape[1:4], padding, kernel.shape, strides, strict=False
        )
    ]
    way = choose((x.shape[0], *out, kernel.shape[-1]), kernel.shape, strides)
    if way is None:
        return _plain(x, kernel, strides, padding)
    return way(jnp.pad(x, ((0, 0), *padding, (0, 0))), kernel, strides)


def _plain(x: Array, kernel: Array, strides: Sequence[int], padding: Sequence) -> Array:
    names = NAMES[kernel.ndim - 2]
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=names)


@functools.partial(convolve.defjvp, symbolic_zeros=True)
def _derivative(strides: tuple, padding: tuple, primals: tuple, tangents: tuple) -> tuple:
    """By XLA's own convolutions: differentiated, a loop over blocks would keep all of them."""
    x, kernel = primals
    of_x, of_kernel = tangents
    tangent = []
    if not isinstance(of_x, SymbolicZero):
        tangent.append(_plain(of_x, kernel, strides, padding))
    if not isinstance(of_kernel, SymbolicZero):
        tangent.append(_plain(x, of_kernel, strides, padding))
    return convolve(x, kernel, strides, padding), sum(tangent)


def choose(out: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> Way | None:
    """The function that computes this convolution fast; None where XLA's own is good enough.

    Args:
      out: shape (B, T, H, W, O) of the result.
      kernel: shape (KT, KH, KW, I, O).
      strides: along T, H, W.
    """
    inputs, outputs = kernel[3:]
    positions = math.prod(out[:4])
    work = positions * math.prod(kernel)
    flat = tuple(strides[1:]) == (1, 1)
    if flat and outputs <= FEW_OUTPUTS < inputs and work >= WORTH_FEW_OUTPUTS:
        return few_outputs
    if work < WORTH:
        return None
    wide = min(inputs, outputs) >= WINOGRAD_CHANNELS and positions >= WINOGRAD_POSITIONS
    return winograd if flat and wide and tuple(kernel[1:3]) == (3, 3) else patches


def _by_blocks(
    block: Callable[[Frames], Float[Array, "t h w O"]],
    x: Float[Array, "B T H W I"],
    window: Sequence[int],
    strides: Sequence[int],
    *,
    limit: int,
    step: int = 1,
) -> Float[Array, "B R H2 W2 O"]:
    """block on overlapping parts of x, one after the other, its results joined.

    Args:
      block: what lies under the windows of some output positions -> these positions.
      x: features with all padding.
      window: taps along T, H, W.
      strides: along T, H, W.
      limit: output positions per block; one row of one frame where that is more.
      step: of which a block's rows and columns are multiples.
    """
    size = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:4], window, strides, strict=True)]
    columns = -(-size[2] // step)
    rows = -(-size[1] // step)
    row_blocks = -(-rows // max(1, limit // (columns * step**2)))
    rows = step * -(-rows // row_blocks)
    columns *= step
    most = limit // (rows * columns) if row_blocks == 1 else 1
    frames = max(f for f in range(1, size[0] + 1) if size[0] % f == 0 and f <= max(1, most))
    time_blocks = size[0] // frames
    whole = (size[0], row_blocks * rows, columns)
    ends = [(n - 1) * s + k for n, k, s in zip(whole, window, strides, strict=True)]
    more = [(0, end - n, 0) for end, n in zip(ends, x.shape[1:4], strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *more, (0, 0, 0)])
    part = (frames, rows, columns)
    part = [(n - 1) * s + k for n, k, s in zip(part, window, strides, strict=True)]

    def at(index: Array) -> Array:
        clip, index = jnp.divmod(index, time_blocks * row_blocks)
        time, row = jnp.divmod(index, row_blocks)
        start = (clip, time * frames * strides[0], row * rows * strides[1], 0, 0)
        return block(lax.dynamic_slice(x, start, (1, *part, x.shape[4]))[0])

    count = x.shape[0] * time_blocks * row_blocks
    y = lax.map(at, jnp.arange(count)) if count > 1 else at(jnp.zeros((), jnp.int32))
    return y.reshape(x.shape[0], *whole, y.shape[-1])[:, :, : size[1], : size[2]]


def patches(
    x: Float[Array, "B T H W I"], kernel: Float[Array, "KT KH KW I O"], strides: Sequence[int]
) -> Float[Array, "B R H2 W2 O"]:
    """All values under the window beside each other, times the kernel as one matrix."""
    *window, inputs, outputs = kernel.shape
    matrix = kernel.reshape(-1, outputs)
    taps = [(a, b, c) for a in range(window[0]) for b in range(window[1]) for c in range(window[2])]

    def block(part: Array) -> Array:
        def under(tap: tuple[int, ...]) -> Array:
            ends = [n - k + i + 1 for n, k, i in zip(part.shape[:3], window, tap, strict=True)]
            return lax.slice(part, (*tap, 0), (*ends, inputs), (*strides, 1))

        return jnp.concatenate([under(tap) for tap in taps], axis=-1) @ matrix

    return _by_blocks(block, x, window, strides, limit=BLOCK // matrix.shape[0])


def few_outputs(
    x: Float[Array, "B T H W I"], kernel: Float[Array, "KT KH KW I O"], strides: Sequence[int]
) -> Float[Array, "B R H2 W2 O"]:
    """Every position times all taps at once; then the taps' few results meet. Stride 1 in space."""
    times, rows, columns, inputs, outputs = kernel.shape
    matrix = jnp.transpose(kernel, (3, 1, 2, 0, 4)).reshape(inputs, -1)

    def block(part: Array) -> Array:
        high, wide = part.shape[1] - rows + 1, part.shape[2] - columns + 1
        products = (part @ matrix).reshape(*part.shape[:3], rows, columns, times * outputs)
        return sum(
            products[:, i : i + high, j : j + wide, i, j]
            for i in range(rows)
            for j in range(columns)
        )

    # Frames meet last, outside the blocks: no frame is multiplied twice.
    y = _by_blocks(block, x, (1, rows, columns), (1, 1, 1), limit=BLOCK // matrix.shape[1])
    y = y.reshape(*y.shape[:4], times, outputs)
    last = (x.shape[1] - times) // strides[0] * strides[0] + 1
    return sum(y[:, i : i + last : strides[0], :, :, i] for i in range(times))


def winograd(
    x: Float[Array, "B T H W I"], kernel: Float[Array, "KT 3 3 I O"], strides: Sequence[int]
) -> Float[Array, "B R H2 W2 O"]:
    """3 x 3 taps in space at stride 1: 16 products per 2 x 2 outputs in place of 36.

    Along one axis, the two outputs y of the four inputs d under the taps g are
      y0 = m0 + m1 + m2,  y1 = m1 - m2 - m3,
      m0 = (d0 - d2) g0,  m1 = (d1 + d2) (g0 + g1 + g2) / 2,
      m3 = (d1 - d3) g2,  m2 = (d2 - d1) (g0 - g1 + g2) / 2.
    With even and odd positions apart, m0 and m3 are one formula, "differences", and m1 and m2
    are one, "sums". Both axes together make four pairs of them, each a batch of four products,
    whose inner dimension holds the channels of all frames under the window.
    """
    times, inputs, outputs = kernel.shape[0], *kernel.shape[3:]
    width = times * inputs
    taps = jnp.transpose(kernel, (1, 2, 0, 3, 4)).reshape(3, 3, width, outputs)
    matrices = [
        pair.reshape(4, width, outputs) for half in _of_taps(taps, 0) for pair in _of_taps(half, 1)
    ]

    def block(part: Array) -> Array:
        t = (part.shape[0] - times) // strides[0] + 1
        h, w = part.shape[1] // 2 - 1, part.shape[2] // 2 - 1
        # Channels of the window's frames beside each other, as real copies: the four fusions
        # below run along them.
        windows = [part[i : i + (t - 1) * strides[0] + 1 : strides[0]] for i in range(times)]
        tiles = jnp.concatenate(windows, axis=-1).reshape(t, h + 1, 2, w + 1, 2, width)
        tiles = jnp.transpose(tiles, (2, 4, 0, 1, 3, 5))  # even and odd rows, columns, t h w C
        products = []
        pairs = [pair for half in _of_inputs(tiles, 0, 3) for pair in _of_inputs(half, 1, 4)]
        for pair, matrix in zip(pairs, matrices, strict=True):
            product = jnp.matmul(pair.reshape(4, t * h * w, width), matrix)
            products.append(product.reshape(2, 2, t, h, w, outputs))
        halves = [_to_outputs(*products[:2], 1), _to_outputs(*products[2:], 1)]
        y = jnp.transpose(_to_outputs(*halves, 0), (2, 3, 0, 4, 1, 5))
        return y.reshape(t, 2 * h, 2 * w, outputs)

    return _by_blocks(block, x, (times, 3, 3), strides, limit=WINOGRAD_BLOCK, step=2)


_slice = lax.slice_in_dim


def _of_taps(taps: Float[Array, "*s"], axis: int) -> tuple[Float[Array, "*d"], Float[Array, "*d"]]:
    """Along one axis of three taps, those of the (differences, sums); the last one is negated."""
    first, middle, last = (_slice(taps, i, i + 1, axis=axis) for i in range(3))
    ends = first + last
    return (
        jnp.concatenate([first, -last], axis),
        jnp.concatenate([(ends + middle) / 2, (ends - middle) / 2], axis),
    )


def _of_inputs(
    tiles: Float[Array, "*s"], parity: int, position: int
) -> tuple[Float[Array, "*d"], Float[Array, "*d"]]:
    """Along one axis of even and odd inputs, their (differences, sums)."""
    count = tiles.shape[position] - 1
    now, following = _slice(tiles, 0, count, axis=position), _slice(tiles, 1, None, axis=position)
    even, odd = _slice(following, 0, 1, axis=parity), _slice(now, 1, 2, axis=parity)
    return now - following, even + _signs(tiles, parity) * odd


def _to_outputs(
    differences: Float[Array, "*s"], sums: Float[Array, "*s"], axis: int
) -> Float[Array, "*s"]:
    """Products of one axis -> its even and odd outputs."""
    first, second = _slice(sums, 0, 1, axis=axis), _slice(sums, 1, 2, axis=axis)
    return differences + first + _signs(sums, axis) * second


def _signs(like: Array, axis: int) -> Float[Array, "*o"]:
    """(1, -1) along an axis."""
    shape = [1] * like.ndim
    shape[axis] = 2
    return jnp.array([1.0, -1.0], like.dtype).reshape(shape)
