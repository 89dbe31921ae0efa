"""Rotary embeddings: definition, both pairings, relative positions, padding, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers.rotary import Rotary, pad_rotary, rotary_table, rotate

GRIDS = {
    "uneven": ((2, 3, 5), (4, 6, 2)),
    "one_frame": ((1, 4, 3), (8, 4, 4)),
    "two_axes": ((3, 7), (2, 10)),
    "one_axis": ((11,), (16,)),
}


def grid_of(shape, dims, theta=10000.0):
    return rotary_table([np.arange(n) for n in shape], dims, theta)


def draw(rng, tokens, dim, batch=2, heads=3):
    return jnp.asarray(rng.standard_normal((batch, tokens, heads, dim)), jnp.float32)


@pytest.mark.parametrize("theta", [10000.0, 256])
@pytest.mark.parametrize("name", GRIDS)
def test_table_token_by_token(name, theta):
    shape, dims = GRIDS[name]
    table = grid_of(shape, dims, theta)
    want = []
    for index in np.ndindex(*shape):  # the last axis runs fastest
        want.append(
            [
                p * theta ** (-2 * j / m)
                for p, m in zip(index, dims, strict=True)
                for j in range(m // 2)
            ]
        )
    assert table.cos.dtype == table.sin.dtype == np.float32
    np.testing.assert_allclose(table.cos, np.cos(want), atol=6e-8)
    np.testing.assert_allclose(table.sin, np.sin(want), atol=6e-8)


@pytest.mark.parametrize("name", GRIDS)
def test_interleaved_is_a_complex_product(rng, name):
    shape, dims = GRIDS[name]
    table, x = grid_of(shape, dims), draw(rng, np.prod(shape), sum(dims))
    turn = (table.cos + 1j * table.sin)[:, None]
    product = (np.asarray(x)[..., 0::2] + 1j * np.asarray(x)[..., 1::2]) * turn
    want = np.stack([product.real, product.imag], -1).reshape(x.shape)
    np.testing.assert_allclose(rotate(x, table), want, atol=1e-6)


@pytest.mark.parametrize("name", GRIDS)
def test_half_is_interleaved_on_reordered_channels(rng, name):
    shape, dims = GRIDS[name]
    dim = sum(dims)
    table, x = grid_of(shape, dims), draw(rng, np.prod(shape), dim)
    order = np.concatenate([np.arange(0, dim, 2), np.arange(1, dim, 2)])
    want = rotate(x, table)[..., order]
    np.testing.assert_allclose(rotate(x[..., order], table, "half"), want, atol=1e-6)
    assert np.abs(rotate(x, table, "half") - rotate(x, table)).max() > 0.1


@pytest.mark.parametrize("convention", ["interleaved", "half"])
def test_products_depend_on_differences_of_positions(rng, convention):
    q, k = (draw(rng, 3 * 4, 16) for _ in range(2))

    def scores(shift):
        lines = [np.arange(3) + shift[0], np.arange(4) + shift[1]]
        table = rotary_table(lines, (6, 10))
        turned = (rotate(a, table, convention) for a in (q, k))
        return jnp.einsum("bqkd,bskd->bkqs", *turned)

    np.testing.assert_allclose(scores((0, 0)), scores((5, 2)), atol=1e-5)


@pytest.mark.parametrize("convention", ["interleaved", "half"])
def test_gradient_turns_back(rng, convention):
    """The derivative of a rotation is its transpose: the rotation by the opposite angles."""
    table, x, y = grid_of((2, 3, 2), (4, 4, 2)), draw(rng, 12, 10), draw(rng, 12, 10)
    (got,) = jax.vjp(lambda x: rotate(x, table, convention), x)[1](y)
    want = rotate(y, Rotary(table.cos, -table.sin), convention)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_half_precision_is_turned_in_float32(rng):
    table, x = grid_of((40,), (8,)), draw(rng, 40, 8).astype(jnp.bfloat16)
    got = jax.jit(rotate)(x, table)
    assert got.dtype == jnp.bfloat16
    want = rotate(x.astype(jnp.float32), table).astype(jnp.bfloat16)
    np.testing.assert_array_equal(got.astype(np.float32), want.astype(np.float32))


def test_padding_is_not_turned(rng):
    table, x = grid_of((2, 3), (4, 6)), draw(rng, 10, 10)
    padded = pad_rotary(table, 10)
    got = rotate(x, padded)
    np.testing.assert_array_equal(got[:, 6:], x[:, 6:])
    np.testing.assert_array_equal(got[:, :6], rotate(x[:, :6], table))
    traced = jax.jit(lambda t: pad_rotary(t, 10))(table)
    np.testing.assert_array_equal(traced.cos, padded.cos)
    np.testing.assert_array_equal(pad_rotary(table, 6).sin, table.sin)


def test_refusals(rng):
    table, x = grid_of((2, 3), (4, 6)), draw(rng, 7, 10)
    with pytest.raises(ValueError, match="rotary table is 6x5 .* needs 7x5.*pad_rotary"):
        rotate(x, table)
    with pytest.raises(ValueError, match="needs 6x4"):
        rotate(x[:, :6, :, :8], table)
    with pytest.raises(ValueError, match="6 tokens cannot be padded to 5"):
        pad_rotary(table, 5)
    with pytest.raises(ValueError, match="2 axes of positions but 3 dims"):
        rotary_table([np.arange(2)] * 2, (2, 2, 2))
    with pytest.raises(ValueError, match="pairs of channels.*5"):
        rotary_table([np.arange(2)] * 2, (4, 5))


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("convention", ["interleaved", "half"])
def test_equals_diffusers(seed, convention):
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    import torch

    rng = np.random.default_rng(seed)
    length, dim = (int(n) for n in rng.integers((3, 2), (50, 20)))
    dim *= 2
    interleaved = convention == "interleaved"
    cos, sin = embeddings.get_1d_rotary_pos_embed(
        dim, length, use_real=True, repeat_interleave_real=interleaved, freqs_dtype=torch.float64
    )
    table = grid_of((length,), (dim,))
    x = draw(rng, length, dim)
    want = embeddings.apply_rotary_emb(
        torch.tensor(np.asarray(x)).transpose(1, 2),
        (cos, sin),
        use_real_unbind_dim=-1 if interleaved else -2,
    )
    np.testing.assert_allclose(rotate(x, table, convention), want.transpose(1, 2), atol=1e-6)
