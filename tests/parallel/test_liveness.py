"""Memory of a function from its jaxpr, against counts by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.parallel.liveness import peak_bytes

N = 64
X = jax.ShapeDtypeStruct((N, N), jnp.float32)


def arrays(fn, *args, **options) -> float:
    """The peak in arrays of (N, N) float32."""

    def size_of(shape, dtype):
        return math.prod(shape) * np.dtype(dtype).itemsize

    return peak_bytes(fn, *args, size_of=size_of, **options) / (4 * N * N)


def test_what_is_read_later_is_kept():
    # The first product, kept for the sum, and the second.
    assert arrays(lambda x: (y := x @ x) + y @ y, X) == 3  # and the result
    # Elementwise work lies nowhere of its own.
    assert arrays(lambda x: jnp.exp(jnp.sin(x @ x) * 2.0), X) == 2
    # Two products one after the other: the first is there while the second is made.
    assert arrays(lambda x: (x @ x) @ x, X) == 2


def test_results_take_over_donated_memory():
    assert arrays(lambda x: x + 1.0, X) == 1
    assert arrays(lambda x: x + 1.0, X, replaced=X) == 0


def walk(kernels, x, *, remat):
    def body(c, w):
        return jnp.sin(c @ w) @ w, None

    body = jax.checkpoint(body, prevent_cse=False) if remat else body
    return jnp.sum(jax.lax.scan(body, x, kernels)[0] ** 2)


def test_a_loop_keeps_what_it_stacks_and_one_round():
    depth = 12
    kernels = jax.ShapeDtypeStruct((depth, N, N), jnp.float32)
    full, none = (arrays(jax.grad(lambda w, x, r=remat: walk(w, x, remat=r)), kernels, X)
                  for remat in (True, False))  # fmt: skip
    # The gradient of the kernels and the layers' inputs, and some arrays of one round.
    assert 2 * depth < full < 2 * depth + 12
    # Without remat also what the sine's and the products' gradients need.
    assert none >= full + depth

    # Of a layer's weights a chip may hold less than all, of its activations not.
    def shared(shape, dtype):
        whole = math.prod(shape) * np.dtype(dtype).itemsize
        return whole / 4 if shape == (depth, N, N) else whole

    grad = jax.grad(lambda w, x: walk(w, x, remat=True))
    assert peak_bytes(grad, kernels, X, size_of=shared) / (4 * N * N) < full - depth


def test_functions_called_twice_are_counted_twice():
    @jax.jit
    def product(x):
        return x @ x

    by_hand = arrays(lambda x: x @ x + (y := x + 1.0) @ y, X)
    assert arrays(lambda x: product(x) + product(x + 1.0), X) == by_hand
