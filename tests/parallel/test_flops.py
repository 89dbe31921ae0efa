"""Counts against numbers worked out by hand. Letters: B batch, I in, O out, L layers."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from tavid_jax.parallel.flops import Count, count
from tavid_jax.parallel.mesh import make_mesh

B, I, O, L = 3, 5, 7, 4  # noqa: E741
X = jax.ShapeDtypeStruct((B, I), jnp.float32)
W = jax.ShapeDtypeStruct((I, O), jnp.float32)
SQUARE = jax.ShapeDtypeStruct((I, I), jnp.float32)
STACK = jax.ShapeDtypeStruct((L, I, I), jnp.float32)
PRODUCT = 2 * B * I * I  # of X with one square


def layer(x, w):
    return jnp.sin(x @ w)


def layers(x, stack, body=layer):
    return jax.lax.scan(lambda x, w: (body(x, w), None), x, stack)[0]


@pytest.mark.parametrize(
    ("subscripts", "shapes", "expected"),
    [
        ("bi,io->bo", [(B, I), (I, O)], 2 * B * I * O),
        ("i,i->", [(I,), (I,)], 2 * I),
        ("lbi,lio->lbo", [(L, B, I), (L, I, O)], 2 * L * B * I * O),
        ("lbi,lbi->l", [(L, B, I), (L, B, I)], 2 * L * B * I),
    ],
)
def test_products(subscripts, shapes, expected):
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    assert count(lambda *a: jnp.einsum(subscripts, *a), *arrays) == Count(expected, {})


def test_arithmetic_without_products_is_free():
    assert count(lambda x: jnp.sin(x) + x**2, X) == Count(0, {})


def test_gradient_of_a_product_is_two_products():
    def loss(x, w):
        return jnp.sum(layer(x, w))

    once = 2 * B * I * O
    assert count(jax.value_and_grad(loss, argnums=(0, 1)), X, W).flops == 3 * once
    assert count(jax.value_and_grad(loss, argnums=1), X, W).flops == 2 * once


def test_scan_counts_every_round_and_its_gradient():
    assert count(layers, X, STACK).flops == L * PRODUCT
    grad = jax.value_and_grad(lambda x, w: jnp.sum(layers(x, w)), argnums=(0, 1))
    assert count(grad, X, STACK).flops == 3 * L * PRODUCT


def test_recomputation_counts_and_dead_work_does_not():
    remat = jax.checkpoint(layer)
    grad = jax.value_and_grad(lambda x, w: jnp.sum(layers(x, w, remat)), argnums=(0, 1))
    assert count(grad, X, STACK).flops == 4 * L * PRODUCT
    # Two products under remat: the second's result is not needed to go back through it.
    pair = jax.checkpoint(lambda x, w: (layer(x, w) @ w).sum())
    assert count(jax.value_and_grad(pair), X, SQUARE).flops == (2 + 1 + 2) * PRODUCT
    assert count(lambda x, w: (x @ w, x)[1], X, W).flops == 0


def test_custom_gradients():
    @jax.custom_vjp
    def twice(x, w):
        return layer(layer(x, w), w)

    # Its gradient is declared to cost one product.
    twice.defvjp(lambda x, w: (twice(x, w), w), lambda w, g: (g @ w, None))
    assert count(twice, X, SQUARE).flops == 2 * PRODUCT
    assert count(jax.value_and_grad(lambda x, w: twice(x, w).sum()), X, SQUARE).flops == 3 * PRODUCT


def test_the_dearest_branch_counts():
    def branches(x, w):
        return jax.lax.switch(x[0, 0].astype(int), [lambda: x, lambda: x @ w, lambda: x @ w @ w])

    assert count(branches, X, SQUARE).flops == 2 * PRODUCT


def looking(x, w, weight):
    """A layer that does a further product in some rounds."""
    with jax.named_scope("taken_2_of_4"):
        seen = jax.lax.cond(weight != 0, lambda: (x @ w).sum() * weight, lambda: 0.0)
    return layer(x, w), seen


def looked(x, stack, weights, body):
    def step(carry, layer):
        x, total = carry
        x, seen = body(x, *layer)
        return (x, total + seen), None

    (x, total), _ = jax.lax.scan(step, (x, 0.0), (stack, weights))
    return x.sum() + total


def test_a_branch_that_is_taken_in_some_rounds_of_a_loop():
    """Its share counts, and so do that of its gradient and of what is computed anew for it."""
    weights = jax.ShapeDtypeStruct((L,), jnp.float32)
    loss = lambda x, stack, weights: looked(x, stack, weights, looking)  # noqa: E731
    once = L * PRODUCT + 2 * PRODUCT  # all four layers, and two of four branches
    assert count(loss, X, STACK, weights).flops == once
    assert count(jax.value_and_grad(loss, (0, 1)), X, STACK, weights).flops == 3 * once
    again = lambda x, stack, weights: looked(  # noqa: E731
        x, stack, weights, jax.checkpoint(looking)
    )
    grad = jax.value_and_grad(again, (0, 1))
    # The product of the branch is linear: going back needs it no second time.
    assert count(grad, X, STACK, weights).flops == 4 * L * PRODUCT + 3 * 2 * PRODUCT
    unnamed = count(lambda x, w, a: jax.lax.cond(a != 0, lambda: x @ w, lambda: x), X, SQUARE, 1.0)
    assert unnamed.flops == PRODUCT


def test_a_loop_of_unknown_length_counts_as_often_as_its_scope_says():
    def some(x, w, rounds):
        with jax.named_scope("rounds_3_of_2"):
            return jax.lax.fori_loop(0, rounds, lambda _, x: x @ w, x)

    found = count(some, X, SQUARE, jax.ShapeDtypeStruct((), jnp.int32))
    assert found.flops == 3 * PRODUCT // 2 and not found.unknown


def test_jit_is_transparent():
    assert count(jax.jit(layers), X, STACK).flops == L * PRODUCT


@pytest.mark.parametrize(
    ("start", "stop", "step", "rounds"), [(0, 6, 1, 6), (1, 6, 2, 3), (6, 6, 1, 0)]
)
def test_counting_loops(start, stop, step, rounds):
    def loop(x, w):
        return jax.lax.while_loop(
            lambda c: c[0] < stop, lambda c: (c[0] + step, layer(c[1], w)), (start, x)
        )[1]

    assert count(loop, X, SQUARE) == Count(rounds * PRODUCT, {})


def test_loop_of_unknown_length_is_named():
    def loop(x, w):
        return jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: layer(x, w), x)

    assert count(loop, X, SQUARE) == Count(PRODUCT, {"while": 1})
    assert count(lambda x: jax.lax.while_loop(lambda x: x.sum() < 1, jnp.sin, x), X).unknown == {}


@pytest.mark.parametrize(
    ("stride", "groups", "out"), [(1, 1, 8), (2, 1, 4), (1, 2, 8)], ids=["plain", "stride", "group"]
)
def test_convolutions_and_their_gradients(stride, groups, out):
    x = jax.ShapeDtypeStruct((B, 8, 8, 4), jnp.float32)
    w = jax.ShapeDtypeStruct((3, 3, 4 // groups, 6), jnp.float32)

    def conv(x, w):
        return jax.lax.conv_general_dilated(
            x,
            w,
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    once = 2 * (B * out * out * 6) * (3 * 3 * 4 // groups)
    assert count(conv, x, w).flops == once
    grad = jax.value_and_grad(lambda x, w: (conv(x, w) ** 2).sum(), argnums=(0, 1))
    assert count(grad, x, w).flops == 3 * once


def test_shard_map_counts_all_devices():
    mesh = make_mesh({"fsdp": 1}, devices=jax.devices()[:1])
    rows = PartitionSpec("fsdp")
    split = jax.shard_map(layer, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows)
    assert count(split, X, SQUARE).flops == PRODUCT


def test_kernels_are_named():
    from jax.experimental import pallas as pl

    def kernel(x_ref, o_ref):
        o_ref[...] = x_ref[...] @ x_ref[...].T

    out = jax.ShapeDtypeStruct((B, B), jnp.float32)
    call = pl.pallas_call(kernel, out_shape=out, interpret=True)
    assert count(call, X) == Count(0, {"pallas_call": 1})


def test_rest_of_a_known_model():
    """Attention and an MLP, forward: 4 projections, 2 products of S x S, 2 of width 4 D."""
    s, d = 6, 8

    def block(x, w):
        q, k, v = (x @ w[name] for name in "qkv")
        h = jax.nn.softmax(q @ k.T) @ v @ w["o"]
        return jax.nn.gelu(h @ w["up"]) @ w["down"]

    shapes = {
        "q": (d, d),
        "k": (d, d),
        "v": (d, d),
        "o": (d, d),
        "up": (d, 4 * d),
        "down": (4 * d, d),
    }
    w = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    x = jax.ShapeDtypeStruct((s, d), jnp.float32)
    assert count(block, x, w).flops == 2 * s * d * d * 4 + 2 * 2 * s * s * d + 2 * 2 * s * d * 4 * d
