"""Attention over eight devices equals attention on one, in values and gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers.attention import Part, Query, attention, chunked, sharded, splash
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import padded_tokens

RING = {"fsdp": 1, "context": 8}  # 12 heads do not divide by 8
HEADS = {"fsdp": 2, "context": 2, "tensor": 2}  # 6 heads per tensor shard divide by 2


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def streams(batch=2, heads=12, d=8, real=21, length=5):
    """Text, which every device has, and video, split: 24 tokens of which `real` are real."""
    text, video = (batch, 6, heads, d), (batch, 24, heads, d)
    queries = [Query(normal(0, *text)), Query(normal(1, *video), split=True)]
    parts = [
        Part(normal(2, *text), normal(3, *text), length=length),
        Part(normal(4, *video), normal(5, *video), length=real, split=True),
    ]
    return queries, parts


def some_biases(batch=2, heads=12):
    return {(1, 0): normal(6, 1, heads, 1, 6), (1, 1): normal(7, batch, 1, 24, 24)}


def loss(queries, parts, biases, implementation):
    outs = attention(queries, parts, biases=biases, implementation=implementation)
    return sum(jnp.sum(jnp.sin(out) * normal(20 + i, *out.shape)) for i, out in enumerate(outs))


value_and_grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)), static_argnums=3)


def assert_equal_to_one_device(axes, queries, parts, biases=None, implementation="chunked"):
    args = (queries, parts, biases or {}, implementation)
    want = value_and_grad(*args[:3], "xla")
    with jax.set_mesh(make_mesh(axes)):
        got = value_and_grad(*args)
    np.testing.assert_allclose(got[0], want[0], atol=1e-4)
    for ours, theirs in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-6)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks per device, and a shorter last one."""
    monkeypatch.setattr(chunked, "choose_blocks", lambda *_: chunked.Blocks(rows=5, keys=2))


@pytest.mark.parametrize("axes, how", [(RING, "ring"), (HEADS, "heads")])
def test_how_tokens_are_brought_together(axes, how):
    queries, parts = streams()
    with jax.set_mesh(make_mesh(axes)):
        assert sharded.exchange(queries, parts, ring=True) == how
        assert sharded.exchange(queries, parts[:1], ring=True) == "own"
        assert sharded.exchange(queries, parts, ring=False) == how.replace("ring", "gather")


@pytest.mark.parametrize("axes, ways", [(RING, 8), (HEADS, 8), ({"fsdp": 8}, 1)])
def test_scores_are_divided(axes, ways):
    queries, parts = streams()  # two samples do not divide by 8
    with jax.set_mesh(make_mesh(axes)):
        assert sharded.divided_by(queries, parts) == ways


@pytest.mark.parametrize("axes", [RING, HEADS, {"replica": 2, "fsdp": 1, "context": 4}])
def test_text_and_video(axes):
    assert_equal_to_one_device(axes, *streams())


@pytest.mark.parametrize(
    "given",
    [
        {"real": 24, "length": None},  # nothing is padding
        {"real": 8},  # most devices hold nothing but padding
        {"batch": 3, "heads": 5},  # nothing but the tokens divides
    ],
)
def test_ring_with_other_lengths_and_counts(given):
    assert_equal_to_one_device(RING if "batch" not in given else HEADS, *streams(**given))


@pytest.mark.parametrize("axes", [RING, HEADS])
def test_with_biases(axes):
    assert_equal_to_one_device(axes, *streams(), some_biases(), "xla")


@pytest.mark.parametrize("axes", [RING, HEADS])
@pytest.mark.parametrize("rows, keys", [([1], [1]), ([0], [1]), ([1], [0]), ([0], [0])])
def test_some_of_the_streams(axes, rows, keys):
    """Condition tokens among themselves; text asking video; cross-attention; text alone."""
    queries, parts = streams()
    assert_equal_to_one_device(axes, [queries[i] for i in rows], [parts[i] for i in keys])


def test_two_split_parts():
    queries, parts = streams()
    condition = Part(normal(8, 2, 16, 12, 8), normal(9, 2, 16, 12, 8), length=11, split=True)
    assert_equal_to_one_device(RING, queries, [*parts, condition])


@pytest.mark.parametrize("axes", [RING, HEADS])
def test_splash_kernel(axes):
    with splash.interpreted():
        assert_equal_to_one_device(axes, *streams(d=64), implementation="splash")


@pytest.mark.parametrize("axes", [RING, HEADS])
def test_inside_a_rematerialised_scan(axes):
    queries, parts = streams()

    def run(q, parts):
        def block(x, _):
            text, video = attention([queries[0], Query(x, split=True)], parts)
            return x + video + jnp.mean(text, axis=1, keepdims=True), None

        x, _ = jax.lax.scan(jax.checkpoint(block), q, length=3)
        return jnp.sum(x**2)

    grad = jax.grad(run, argnums=(0, 1))
    want = jax.jit(grad)(queries[1].q, parts)
    with jax.set_mesh(make_mesh(axes)):
        got = jax.jit(lambda *args: grad(*args))(queries[1].q, parts)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_no_device_holds_all_keys_in_the_ring():
    queries, parts = streams()
    with jax.set_mesh(make_mesh(RING)):
        text = value_and_grad.lower(queries, parts, {}, "chunked").as_text()
    assert "collective_permute" in text
    assert not re.search(r"stablehlo\.all_(gather|to_all)", text)


def test_tokens_that_do_not_divide():
    queries, parts = streams()
    short = [Part(parts[1].k[:, :20], parts[1].v[:, :20], split=True)]
    with jax.set_mesh(make_mesh(RING)):
        assert [padded_tokens(n) for n in (1, 8, 20)] == [8, 8, 24]
        with pytest.raises(
            ValueError,
            match=r"parts\[0\].k with 20 tokens .* context=8: pad it to padded_tokens\(20\) = 24 "
            r"and give its real length, or set the mesh axis context to 2 or 4",
        ):
            attention(queries, short)
