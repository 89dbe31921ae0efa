"""Convolutions: every way to compute one gives XLA's, in values and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tavid_jax.models.layers import conv_cpu
from tavid_jax.models.layers.conv import causal_conv, conv
from tavid_jax.parallel.sharding import compiling_for

# (kernel, frames rows columns with padding, strides); sizes that no block divides.
WINOGRAD = [
    ((3, 3, 3, 5, 7), (5, 9, 12), (1, 1, 1)),
    ((1, 3, 3, 3, 4), (1, 5, 4), (1, 1, 1)),
    ((3, 3, 3, 4, 5), (7, 8, 11), (2, 1, 1)),
    ((2, 3, 3, 2, 3), (9, 3, 3), (1, 1, 1)),
]
FEW = [
    ((3, 3, 3, 6, 3), (4, 9, 8), (1, 1, 1)),
    ((1, 1, 1, 6, 2), (3, 5, 7), (1, 1, 1)),
    ((3, 5, 1, 4, 2), (8, 9, 8), (2, 1, 1)),
]
PATCHES = [
    *WINOGRAD,
    *FEW,
    ((1, 3, 3, 4, 5), (3, 10, 13), (1, 2, 2)),
    ((3, 1, 1, 4, 5), (9, 6, 7), (2, 1, 1)),
    ((2, 3, 4, 3, 5), (8, 11, 17), (3, 2, 3)),
]
CASES = [
    *((conv_cpu.winograd, *case) for case in WINOGRAD),
    *((conv_cpu.few_outputs, *case) for case in FEW),
    *((conv_cpu.patches, *case) for case in PATCHES),
]
# So many output positions per block, that blocks are: parts of rows, of frames, several frames.
LIMITS = [1, 40, 10_000]


def draw(rng, *shapes):
    return (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)


def plain(x, kernel, strides, padding="VALID"):
    names = conv_cpu.NAMES[kernel.ndim - 2]
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=names)


@pytest.fixture
def anything_is_worth_it(monkeypatch):
    """Unit tests are too small for the blocks otherwise."""
    for name in ("WORTH", "WORTH_FEW_OUTPUTS", "WINOGRAD_CHANNELS", "WINOGRAD_POSITIONS"):
        monkeypatch.setattr(conv_cpu, name, 1)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("way", "kernel", "size", "strides"), CASES)
def test_ways(rng, monkeypatch, way, kernel, size, strides, limit):
    monkeypatch.setattr(conv_cpu, "WINOGRAD_BLOCK", limit)
    monkeypatch.setattr(conv_cpu, "BLOCK", 8 * limit)
    x, kernel = draw(rng, (2, *size, kernel[3]), kernel)
    want = plain(x, kernel, strides)
    got = way(x, kernel, strides)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.std(want))


def test_rounding_of_winograd(rng):
    """Less than four times that of the plain sum, against float64."""
    x, kernel = draw(rng, (1, 4, 34, 34, 64), (3, 3, 3, 64, 32))
    patches = np.lib.stride_tricks.sliding_window_view(np.float64(x), (3, 3, 3), (1, 2, 3))
    want = np.einsum("bthwiklm,klmio->bthwo", patches, np.float64(kernel), optimize=True)

    def error(y):
        return np.sqrt(np.mean((y - want) ** 2))

    ours, plainly = conv_cpu.winograd(x, kernel, (1, 1, 1)), plain(x, kernel, (1, 1, 1))
    assert error(ours) < 4 * error(plainly)


@pytest.mark.parametrize(
    ("kernel", "out", "strides", "way"),
    [
        ((3, 3, 3, 96, 96), (1, 4, 64, 64, 96), (1, 1, 1), conv_cpu.winograd),
        ((1, 3, 3, 96, 96), (1, 4, 64, 64, 96), (1, 1, 1), conv_cpu.winograd),
        ((3, 3, 3, 96, 96), (1, 4, 4, 4, 96), (1, 1, 1), None),  # a unit test
        ((3, 3, 3, 640, 640), (1, 4, 8, 8, 640), (1, 1, 1), conv_cpu.patches),  # wide, not large
        ((1, 3, 3, 96, 96), (1, 8, 64, 64, 96), (1, 2, 2), conv_cpu.patches),
        ((3, 1, 1, 192, 192), (1, 4, 64, 64, 192), (1, 1, 1), conv_cpu.patches),
        ((3, 3, 3, 3, 96), (1, 4, 128, 128, 96), (1, 1, 1), conv_cpu.patches),
        ((3, 3, 3, 96, 3), (1, 4, 64, 64, 3), (1, 1, 1), conv_cpu.few_outputs),
        ((1, 3, 3, 96, 3), (1, 32, 64, 64, 3), (1, 2, 2), conv_cpu.patches),
        ((3, 3, 3, 8, 3), (1, 4, 16, 16, 3), (1, 1, 1), None),
    ],
)
def test_which_way(kernel, out, strides, way):
    assert conv_cpu.choose(out, kernel, strides) is way


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize(
    ("taps", "size", "strides", "padding"),
    [
        ((3, 3, 3), (4, 6, 7), 1, ((2, 0), (1, 1), (1, 1))),
        ((3, 3), (6, 7), 1, ((1, 1), (0, 2))),
        ((3, 3), (7, 6), 2, ((0, 1), (0, 1))),
        ((3, 1, 1), (5, 4, 3), (2, 1, 1), None),
    ],
)
def test_conv_and_its_derivatives(rng, anything_is_worth_it, few, taps, size, strides, padding):
    """Of a model's convolution: against XLA's, forward and backward, for each argument alone."""
    outputs = 3 if few else 17  # FEW_OUTPUTS lies between
    x, kernel, bias = draw(rng, (2, *size, 18), (*taps, 18, outputs), (outputs,))
    steps = (strides,) * len(taps) if isinstance(strides, int) else strides
    zeros = padding or ((0, 0),) * len(taps)

    def ours(x, kernel, bias):
        return conv(
            {"kernel": kernel, "bias": bias}, x, jnp.float32, strides=strides, padding=padding
        )

    def xlas(x, kernel, bias):
        return plain(x, kernel, steps, zeros) + bias

    args = (x, kernel, bias)
    np.testing.assert_allclose(ours(*args), xlas(*args), rtol=0, atol=1e-4)
    for wanted in [(0,), (1,), (2,), (0, 1, 2)]:
        got, want = (
            jax.jit(jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), wanted))(*args)
            for f in (ours, xlas)
        )
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.std(b))
    got, want = (jax.jvp(f, args, args)[1] for f in (ours, xlas))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.std(want))


@pytest.mark.parametrize(("platform", "dtype", "own"), [
    ("cpu", "float32", True), ("cpu", "bfloat16", False), ("tpu", "float32", False),
    ("gpu", "float32", False),
])  # fmt: skip
def test_only_cpus_in_float32(anything_is_worth_it, platform, dtype, own):
    params = {"kernel": jnp.ones((3, 3, 3, 4, 20)), "bias": jnp.ones(20)}
    with compiling_for(platform):
        program = str(jax.make_jaxpr(lambda x: conv(params, x, dtype))(jnp.ones((1, 4, 8, 8, 4))))
    assert ("conv_general_dilated" not in program) == own


def test_other_precision_on_a_cpu(rng, anything_is_worth_it):
    x, kernel = draw(rng, (1, 4, 8, 8, 4), (3, 3, 3, 4, 20))
    params = {"kernel": kernel, "bias": jnp.zeros(20)}
    got = conv(params, x, jnp.bfloat16)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        got.astype(jnp.float32), conv(params, x, jnp.float32), rtol=0, atol=0.3
    )


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_causal_chunks(rng, anything_is_worth_it, cut):
    """In two chunks what it is in one."""
    x, kernel, bias, past = draw(rng, (2, 5, 6, 7, 4), (3, 3, 3, 4, 18), (18,), (2, 2, 6, 7, 4))
    params = {"kernel": kernel, "bias": bias}
    whole, end = causal_conv(params, x, past, jnp.float32)
    first, kept = causal_conv(params, x[:, :cut], past, jnp.float32)
    second, kept = causal_conv(params, x[:, cut:], kept, jnp.float32)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(kept, end)


def test_under_vmap_and_checkpoint(rng, anything_is_worth_it):
    x, kernel = draw(rng, (3, 1, 4, 6, 6, 4), (3, 3, 3, 4, 18))

    def f(x):
        y = conv({"kernel": kernel, "bias": jnp.zeros(18)}, x, jnp.float32)
        return jnp.sum(jnp.square(y))

    got = jax.vmap(jax.grad(jax.checkpoint(f)))(x)
    want = jax.vmap(jax.grad(lambda x: jnp.sum(jnp.square(plain(x, kernel, (1, 1, 1))))))(x)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.std(want))
