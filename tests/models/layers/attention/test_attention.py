"""All implementations against the definition written out in numpy, and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers.attention import Part, Query, attention, chunked, splash

B, K, D = 2, 3, 64
TOLERANCE = 1e-5


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def queries_and_parts(d=D):
    """Two queries, three parts, the first with padding."""
    queries = [Query(normal(0, B, 7, K, d)), Query(normal(1, B, 12, K, d))]
    shapes = [(B, 9, K, d), (B, 1, K, d), (B, 133, K, d)]
    parts = [Part(normal(2 + i, *s), normal(12 + i, *s)) for i, s in enumerate(shapes)]
    parts[0] = parts[0].replace(length=5)
    return queries, parts


def some_biases():
    """For one query only, and not for all parts; broadcast in different dimensions."""
    return {(1, 0): normal(6, 1, K, 1, 9), (1, 2): normal(7, B, 1, 12, 133)}


def by_definition(queries, parts, biases, scale):
    outs = []
    for i, query in enumerate(queries):
        logits, values = [], []
        for j, part in enumerate(parts):
            logit = scale * np.einsum("bqkd,bskd->bkqs", query.q, part.k)
            logit = logit + np.asarray(biases.get((i, j), 0))
            logits.append(logit[..., : part.real])
            values.append(part.v[:, : part.real])
        weights = np.exp(np.concatenate(logits, -1))
        weights /= weights.sum(-1, keepdims=True)
        outs.append(np.einsum("bkqs,bskd->bqkd", weights, np.concatenate(values, 1)))
    return outs


def loss(queries, parts, biases, implementation):
    outs = attention(queries, parts, biases=biases, implementation=implementation)
    return sum(jnp.sum(jnp.sin(out) * normal(20 + i, *out.shape)) for i, out in enumerate(outs))


def relative(got, want):
    return float(jnp.abs(got - want).max() / jnp.sqrt(jnp.mean(jnp.square(want))))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_reference_is_the_definition(biased, scale):
    queries, parts = queries_and_parts()
    biases = some_biases() if biased else {}
    outs = attention(queries, parts, biases=biases, scale=scale, implementation="xla")
    for got, want in zip(
        outs, by_definition(queries, parts, biases, scale or D**-0.5), strict=True
    ):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.fixture
def small_blocks(monkeypatch):
    """Many blocks, and a shorter last one, in both directions."""
    monkeypatch.setattr(chunked, "choose_blocks", lambda *_: chunked.Blocks(rows=5, keys=32))
    monkeypatch.setattr(splash, "BLOCKS", {"": splash.Blocks(128, 128)})


@pytest.mark.parametrize(
    "implementation, biased", [("chunked", False), ("chunked", True), ("splash", False)]
)
def test_implementations_agree_in_values_and_gradients(implementation, biased, small_blocks):
    queries, parts = queries_and_parts()
    args = (queries, parts, some_biases() if biased else {})
    value_and_grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)), static_argnums=3)
    with splash.interpreted():
        got, want = value_and_grad(*args, implementation), value_and_grad(*args, "xla")
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1]), strict=True):
        assert relative(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("implementation", ["xla", "chunked"])
def test_padding_is_never_seen(implementation):
    queries, parts = queries_and_parts()
    nan = [parts[0].replace(k=parts[0].k.at[:, 5:].set(jnp.nan), v=parts[0].v.at[:, 5:].set(9e9))]
    grads = jax.grad(loss, argnums=1)(queries, nan + parts[1:], {}, implementation)
    want = jax.grad(loss, argnums=1)(queries, parts, {}, implementation)
    for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.any(grads[0].k[:, 5:]) and not np.any(grads[0].v[:, 5:])


@pytest.mark.parametrize("implementation", ["xla", "chunked"])
def test_a_part_may_be_all_padding(implementation):
    queries, parts = queries_and_parts()
    got = attention(queries, [parts[0].replace(length=0), parts[2]], implementation=implementation)
    want = attention(queries, [parts[2]], implementation="xla")
    np.testing.assert_allclose(got[0], want[0], atol=1e-6)


@pytest.mark.parametrize("implementation", ["xla", "chunked"])
def test_a_bias_of_minus_infinity_hides_keys(implementation, small_blocks):
    queries, parts = queries_and_parts()
    hide = jnp.where(jnp.arange(133) < 70, -jnp.inf, 0.0).reshape(1, 1, 1, 133)
    got = attention(queries[:1], parts[2:], biases={(0, 0): hide}, implementation=implementation)
    shown = Part(parts[2].k[:, 70:], parts[2].v[:, 70:])
    np.testing.assert_allclose(got[0], attention(queries[:1], [shown])[0], atol=1e-5)


@pytest.mark.parametrize("implementation", ["xla", "chunked"])
def test_low_precision_is_close_and_keeps_the_values_dtype(implementation):
    queries, parts = queries_and_parts()
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (queries, parts))
    got, want = attention(*low, implementation=implementation), attention(queries, parts)
    assert all(out.dtype == jnp.bfloat16 for out in got)
    assert all(relative(a, b) < 0.06 for a, b in zip(got, want, strict=True))


def test_double_precision():
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(jnp.float64), queries_and_parts())
        got, want = (attention(*wide, implementation=i)[1] for i in ("chunked", "xla"))
        assert relative(got, want) < 1e-13


def test_large_scores_do_not_overflow():
    queries, parts = queries_and_parts()
    big = [query.replace(q=1e4 * query.q) for query in queries]
    for implementation in ("xla", "chunked"):
        outs = attention(big, parts, implementation=implementation)
        assert all(np.isfinite(out).all() for out in outs)


def test_chunked_never_holds_the_scores():
    """4096 x 4096 scores of one head are 64 MiB; forward and backward get by with far less."""
    tokens = 4096
    x = jax.ShapeDtypeStruct((1, tokens, 1, D), jnp.float32)

    def run(q, k, v):
        return jnp.sum(attention([Query(q)], [Part(k, v)], implementation="chunked")[0] ** 2)

    compiled = jax.jit(jax.grad(run, argnums=(0, 1, 2))).lower(x, x, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * tokens**2 / 2
