"""Maps from a few rows of attention equal those of the dense softmax, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers import probe as probe_module
from tavid_jax.models.layers.attention import Part, Query
from tavid_jax.models.layers.ports import Ports, Probe
from tavid_jax.models.layers.probe import Seen, attention_map, observe
from tavid_jax.models.layers.walk import walk_blocks

BATCH, HEADS, HEAD_DIM = 2, 6, 8
TEXT, VIDEO, CONDITION = 5, 18, 6
# Stored tokens of each stream; what is beyond the real ones is padding.
STORED = {"text": TEXT, "video": VIDEO + 2, "condition": CONDITION + 1}
REAL = {"text": TEXT, "video": VIDEO, "condition": CONDITION}
ROWS = (2, 11)
DIRECTIONS = ("video_to_text", "text_to_video")


def _tokens(rng, names, dtype=jnp.float32):
    shapes = {name: (BATCH, STORED[name], HEADS, HEAD_DIM) for name in names}
    return {name: jnp.asarray(rng.normal(size=s), dtype) for name, s in shapes.items()}


@pytest.fixture
def queries(rng):
    return _tokens(rng, ("text", "video"))


@pytest.fixture
def keys(rng):
    return _tokens(rng, ("text", "video", "condition"))


@pytest.fixture
def columns(rng):
    """Several positions with weight, some without."""
    weights = rng.normal(size=(BATCH, TEXT)) * (np.arange(TEXT) % 2)
    return jnp.asarray(weights, jnp.float32)


def _seen(queries, keys):
    return Seen(
        queries={name: Query(q) for name, q in queries.items()},
        parts={name: Part(k, k, length=REAL[name]) for name, k in keys.items()},
    )


def _probe(columns, direction="video_to_text", rows=ROWS, score=lambda a: jnp.sum(jnp.sin(3 * a))):
    return Probe(layers=jnp.ones(1), columns=columns, score=score, rows=rows, direction=direction)


def _dense(queries, keys, columns, direction):
    """The map from the whole probability matrix over the keys text | video | condition."""
    asking = direction.split("_")[0]
    k = jnp.concatenate([keys[n][:, : REAL[n]] for n in ("text", "video", "condition")], axis=1)
    logits = jnp.einsum("bqkd,bskd->bkqs", queries[asking], k) / np.sqrt(HEAD_DIM)
    p = jnp.mean(jax.nn.softmax(logits.astype(jnp.float32), axis=-1), axis=1)
    if asking == "video":
        return jnp.einsum("bns,bs->bn", p[:, slice(*ROWS), :TEXT], columns)
    return jnp.einsum("bsn,bs->bn", p[:, :, TEXT:], columns)[:, slice(*ROWS)]


# All at once; heads in groups; one head; one head in pieces of rows that do not divide it.
@pytest.mark.parametrize("most", [2**25, 2000, 600, 150])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_equals_the_dense_softmax(monkeypatch, queries, keys, columns, direction, most):
    monkeypatch.setattr(probe_module, "MAX_LOGITS", most)
    probe = _probe(columns, direction)

    def ours(q, k):
        seen = attention_map(probe, _seen(q, k))
        return jnp.sum(jnp.sin(3 * seen)), seen

    def dense(q, k):
        seen = _dense(q, k, columns, direction)
        return jnp.sum(jnp.sin(3 * seen)), seen

    got = jax.jit(jax.grad(ours, (0, 1), has_aux=True))(queries, keys)
    want = jax.jit(jax.grad(dense, (0, 1), has_aux=True))(queries, keys)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=0), got, want)


def _dense_maps(queries, keys, columns, direction, among):
    """Several maps from whole matrices: over all keys, or over those of the other stream alone."""
    if direction == "both":
        ways = [_dense_maps(queries, keys, columns, way, among) for way in DIRECTIONS]
        return jnp.concatenate(ways, axis=1)
    asking, answering = direction.split("_to_")
    names = ("text", "video", "condition") if among == "all" else (answering,)
    k = jnp.concatenate([keys[n][:, : REAL[n]] for n in names], axis=1)
    logits = jnp.einsum("bqkd,bskd->bkqs", queries[asking], k) / np.sqrt(HEAD_DIM)
    p = jnp.mean(jax.nn.softmax(logits.astype(jnp.float32), axis=-1), axis=1)
    if asking == "video":
        return jnp.einsum("bns,bms->bmn", p[:, slice(*ROWS), :TEXT], columns)
    behind = TEXT if among == "all" else 0
    maps = jnp.einsum("bsn,bms->bmn", p[:, :, behind : behind + VIDEO], columns)
    return maps[..., slice(*ROWS)]


MAPS = 3


@pytest.fixture
def many(rng):
    """Weights of several maps."""
    return jnp.asarray(rng.normal(size=(BATCH, MAPS, TEXT)), jnp.float32)


@pytest.mark.parametrize(
    ("direction", "most"),
    [("video_to_text", 2**25), ("text_to_video", 2**25), ("both", 600), ("both", 150)],
)
@pytest.mark.parametrize("among", ["all", "own"])
def test_several_maps_equal_the_dense_softmax(
    monkeypatch, queries, keys, many, direction, among, most
):
    monkeypatch.setattr(probe_module, "MAX_LOGITS", most)
    probe = _probe(many, direction).replace(among=among)

    def ours(q, k, columns):
        seen = attention_map(probe.replace(columns=columns), _seen(q, k))
        return jnp.sum(jnp.sin(3 * seen)), seen

    def dense(q, k, columns):
        seen = _dense_maps(q, k, columns, direction, among)
        return jnp.sum(jnp.sin(3 * seen)), seen

    got = jax.jit(jax.grad(ours, (0, 1, 2), has_aux=True))(queries, keys, many)
    want = jax.jit(jax.grad(dense, (0, 1, 2), has_aux=True))(queries, keys, many)
    assert got[1].shape == (BATCH, MAPS * (2 if direction == "both" else 1), ROWS[1] - ROWS[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6, rtol=0), got, want)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("among", ["all", "own"])
def test_each_of_several_maps_is_that_of_its_columns(queries, keys, many, direction, among):
    seen = _seen(queries, keys)
    probe = _probe(many, direction).replace(among=among)
    together = attention_map(probe, seen)
    for i in range(MAPS):
        alone = attention_map(probe.replace(columns=many[:, i]), seen)
        np.testing.assert_allclose(together[:, i], alone, atol=1e-6)


def test_both_directions_of_one_map(queries, keys, columns):
    seen = _seen(queries, keys)
    both = attention_map(_probe(columns, "both"), seen)
    ways = [attention_map(_probe(columns, way), seen) for way in DIRECTIONS]
    np.testing.assert_array_equal(both, np.stack(ways, axis=1))


def test_among_their_own_keys_rows_sum_to_one(queries, keys):
    seen = _seen(queries, keys)
    all_text = _probe(jnp.ones((BATCH, TEXT))).replace(among="own")
    np.testing.assert_allclose(attention_map(all_text, seen), 1.0, atol=1e-6)
    one = jnp.zeros((BATCH, TEXT)).at[:, 3].set(1.0)
    all_video = _probe(one, "text_to_video", (0, VIDEO)).replace(among="own")
    np.testing.assert_allclose(jnp.sum(attention_map(all_video, seen), axis=1), 1.0, atol=1e-6)


def test_all_keys_get_a_gradient(queries, keys, columns):
    probe = _probe(columns)
    grads = jax.grad(lambda k: observe(probe, _seen(queries, k)))(keys)
    for name, grad in grads.items():
        per_key = jnp.max(jnp.abs(grad), axis=(0, 2, 3))
        assert np.all(per_key[: REAL[name]] > 1e-5), name
        assert np.all(per_key[REAL[name] :] == 0), name


def test_a_row_sums_to_one(queries, keys):
    parts = {"text": keys["text"], "video": keys["video"]}
    to_text = attention_map(_probe(jnp.ones((BATCH, TEXT))), _seen(queries, parts))
    # The video's keys in the role of the text: what is left for each row.
    video = Part(keys["video"], keys["video"], length=VIDEO)
    swapped = Seen(
        queries={"video": Query(queries["video"])},
        parts={"text": video, "image": Part(keys["text"], keys["text"])},
    )
    to_video = attention_map(_probe(jnp.ones((BATCH, VIDEO))), swapped)
    np.testing.assert_allclose(to_text + to_video, 1.0, atol=1e-6)
    assert float(jnp.max(to_text)) < 0.99


def test_text_rows_sum_to_one(queries, keys):
    one = jnp.zeros((BATCH, TEXT)).at[:, 3].set(1.0)
    only = {"video": keys["video"]}
    seen = attention_map(_probe(one, "text_to_video", (0, VIDEO)), _seen(queries, only))
    np.testing.assert_allclose(jnp.sum(seen, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_huge_logits_stay_finite(queries, keys, columns, direction):
    queries = {name: 1e4 * q for name, q in queries.items()}
    probe = _probe(columns, direction)
    value, grads = jax.value_and_grad(lambda k: observe(probe, _seen(queries, k)))(keys)
    assert np.isfinite(value)
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_bfloat16_inputs_give_float32_maps(queries, keys, columns, direction):
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (queries, keys))
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), low)
    probe = _probe(columns, direction)
    got = attention_map(probe, _seen(*low))
    assert got.dtype == jnp.float32
    # The products of bfloat16 numbers are exact in float32.
    np.testing.assert_allclose(got, attention_map(probe, _seen(*exact)), atol=1e-6)
    grads = jax.grad(lambda k: observe(probe, _seen(low[0], k)))(low[1])
    want = jax.grad(lambda k: observe(probe, _seen(exact[0], k)))(exact[1])
    for name, grad in grads.items():
        assert grad.dtype == jnp.bfloat16
        largest = float(jnp.max(jnp.abs(want[name])))
        np.testing.assert_allclose(grad.astype(jnp.float32), want[name], atol=2e-2 * largest)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_heads_by_rows_by_keys_never_exist(monkeypatch, rng, direction):
    rows, text, video = 60, 40, 400
    monkeypatch.setattr(probe_module, "MAX_LOGITS", 8000)
    q, k = (
        {
            name: jnp.asarray(rng.normal(size=(1, n, 4, 2)), jnp.float32)
            for name, n in (("text", text), ("video", video))
        }
        for _ in range(2)
    )
    probe = _probe(jnp.ones((1, text)), direction, (0, rows))

    def score(q, k):
        queries = {name: Query(x) for name, x in q.items()}
        return observe(probe, Seen(queries, {name: Part(x, x) for name, x in k.items()}))

    program = jax.make_jaxpr(jax.value_and_grad(score, (0, 1)))(q, k)
    sizes = [v.aval.size for eqn in _equations(program.jaxpr) for v in eqn.outvars]
    assert max(sizes) <= 8000
    assert max(sizes) < min(rows, text) * (text + video)  # not even those of one head


def _equations(jaxpr):
    """Every equation of a program and of those within it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for param in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(param):
                yield from _equations(getattr(param, "jaxpr", param))


def _is_jaxpr(x) -> bool:
    return hasattr(x, "eqns")


DEPTH, WIDTH = 4, HEADS * HEAD_DIM


def _block(params, tokens, plugs):
    """A block that does nothing but ask."""
    heads = {
        name: (x @ params["w"]).reshape(BATCH, -1, HEADS, HEAD_DIM) for name, x in tokens.items()
    }
    seen = Seen(
        queries={name: Query(x) for name, x in heads.items()},
        parts={name: Part(x, x) for name, x in heads.items()},
    )
    seen, score = plugs.probe(seen)
    return {n: jnp.tanh(x @ params["w"]) for n, x in tokens.items()}, seen.parts, score


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_in_a_walk(rng, columns, direction, scan, remat):
    weights = jnp.array([0.5, 0.0, 2.0, 0.0])
    stack = {"w": jnp.asarray(rng.normal(size=(DEPTH, WIDTH, WIDTH)) * 0.15, jnp.float32)}
    tokens = {
        name: jnp.asarray(rng.normal(size=(BATCH, n, WIDTH)), jnp.float32)
        for name, n in (("text", TEXT), ("video", VIDEO))
    }

    def score(a):
        return {"sum": jnp.sum(jnp.sin(3 * a)), "map": a}

    probe = Probe(layers=weights, columns=columns, score=score, rows=ROWS, direction=direction)
    lengths = {"text": TEXT, "video": VIDEO}

    def walked(stack):
        total = walk_blocks(_block, stack, tokens, Ports(probe=probe), lengths, scan, remat).probe
        return total["sum"], total["map"]

    def by_hand(stack):
        total, x = 0.0, tokens
        for layer in range(DEPTH):
            w = stack["w"][layer]
            heads = {n: (y @ w).reshape(BATCH, -1, HEADS, HEAD_DIM) for n, y in x.items()}
            keys = {**heads, "condition": jnp.zeros((BATCH, 0, HEADS, HEAD_DIM))}
            seen = _dense(heads, keys, columns, direction)
            total = jax.tree.map(
                lambda t, s, layer=layer: t + weights[layer] * s,
                total or {"sum": 0.0, "map": 0.0},
                score(seen),
            )
            x = {n: jnp.tanh(y @ w) for n, y in x.items()}
        return total["sum"], total["map"]

    got = jax.jit(jax.value_and_grad(walked, has_aux=True))(stack)
    want = jax.jit(jax.value_and_grad(by_hand, has_aux=True))(stack)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), got, want)
    assert np.all(got[1]["w"][3] == 0)  # behind the last layer that is looked at


@pytest.mark.parametrize(
    ("direction", "several", "scan"),
    [
        ("video_to_text", False, True),
        ("text_to_video", True, True),
        ("both", True, False),
        ("both", False, True),
    ],
)
def test_each_layer_alone_and_their_sum(rng, columns, many, direction, several, scan):
    weights = jnp.array([0.5, 0.0, 2.0, 1.0])
    stack = {"w": jnp.asarray(rng.normal(size=(DEPTH, WIDTH, WIDTH)) * 0.15, jnp.float32)}
    tokens = {
        name: jnp.asarray(rng.normal(size=(BATCH, n, WIDTH)), jnp.float32)
        for name, n in (("text", TEXT), ("video", VIDEO))
    }
    probe = Probe(
        layers=weights,
        columns=many if several else columns,
        score=lambda a: {"map": a, "sum": jnp.sum(a)},
        rows=ROWS,
        direction=direction,
    )

    @jax.jit
    def walked(probe):
        lengths = {"text": TEXT, "video": VIDEO}
        return walk_blocks(_block, stack, tokens, Ports(probe=probe), lengths, scan, "none").probe

    each = walked(probe.replace(each=True))
    assert each["map"].shape[0] == DEPTH and np.all(each["map"][1] == 0)
    total = walked(probe)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a.sum(0), b, atol=1e-5), each, total)
    for layer in (0, 2, 3):
        alone = walked(probe.replace(layers=jnp.eye(DEPTH)[layer]))
        scaled = jax.tree.map(lambda a, w=weights[layer]: w * a, alone)
        jax.tree.map(
            lambda a, b, i=layer: np.testing.assert_allclose(a[i], b, atol=1e-5), each, scaled
        )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"columns": jnp.ones((BATCH, MAPS, TEXT + 1))}, r"shape \(2, 3, 6\): .*\(B, M, L\)"),
        ({"columns": jnp.ones((1, MAPS, TEXT))}, r"shape \(1, 3, 5\)"),
        ({"columns": jnp.ones((BATCH, 1, MAPS, TEXT))}, r"shape \(2, 1, 3, 5\)"),
        ({"rows": (0, VIDEO + 1)}, r"rows=\(0, 19\) must lie within the 18 video tokens"),
        ({"rows": (-1, 4)}, "must lie within"),
        ({"rows": (4, 4)}, "must lie within"),
        ({"columns": jnp.ones((BATCH, TEXT + 1))}, r"shape \(2, 6\): .* the 5 text positions of 2"),
        ({"columns": jnp.ones((1, TEXT))}, r"shape \(1, 5\)"),
    ],
)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_probe_that_does_not_fit(queries, keys, columns, direction, change, message):
    probe = _probe(columns, direction).replace(**change)
    with pytest.raises(ValueError, match=message):
        attention_map(probe, _seen(queries, keys))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("direction", "probe.direction='up': choose one of .*text_to_video, both"),
        ("among", "probe.among='up': choose one of all, own"),
    ],
)
def test_an_unknown_choice(queries, keys, columns, field, message):
    probe = _probe(columns)
    object.__setattr__(probe, field, "up")  # types are not checked outside of tests
    with pytest.raises(ValueError, match=message):
        attention_map(probe, _seen(queries, keys))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("missing", ["text", "video"])
def test_a_probe_without_its_streams(queries, keys, columns, direction, missing):
    queries, keys = ({n: x for n, x in y.items() if n != missing} for y in (queries, keys))
    with pytest.raises(ValueError, match=f"needs the (keys|queries) of the stream '{missing}'"):
        attention_map(_probe(columns, direction), _seen(queries, keys))
