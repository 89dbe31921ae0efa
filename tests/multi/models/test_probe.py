"""Maps over eight devices equal those on one; of the video, only the asked rows are gathered."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers import probe as probe_module
from tavid_jax.models.layers import streams
from tavid_jax.models.layers.ports import Ports, Probe
from tavid_jax.models.layers.probe import Seen, observe
from tavid_jax.models.layers.walk import walk_blocks
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import constrain

BATCH, HEADS, HEAD_DIM = 4, 4, 8
TEXT, VIDEO, STORED = 6, 253, 256
ROWS = (0, 50)
# Mesh, direction, logits at once: of all heads, of pieces of one.
CASES = (
    ({"fsdp": 2, "context": 4}, "video_to_text", 400),
    ({"fsdp": 2, "context": 4}, "text_to_video", 2**25),
    ({"fsdp": 2, "context": 2, "tensor": 2}, "video_to_text", 2**25),
    ({"fsdp": 2, "context": 2, "tensor": 2}, "text_to_video", 400),
    ({"fsdp": 1, "context": 8}, "video_to_text", 2**25),
)


@pytest.fixture
def heads():
    """{(role, stream): array}; the last video tokens are padding."""
    rng = np.random.default_rng(0)
    return {
        role: {
            name: jnp.asarray(rng.normal(size=(BATCH, n, HEADS, HEAD_DIM)), jnp.float32)
            for name, n in (("text", TEXT), ("video", STORED))
        }
        for role in "qk"
    }


def _laid_out(x, name):
    return constrain(x, "batch", "tokens" if name in streams.SPLIT else None, "heads", None)


def _gradient(direction):
    columns = jnp.linspace(-1.0, 2.0, BATCH * TEXT).reshape(BATCH, TEXT)
    probe = Probe(
        layers=jnp.ones(1),
        columns=columns,
        score=lambda a: {"loss": jnp.sum(jnp.sin(3 * a)), "map": a},
        rows=ROWS,
        direction=direction,
    )

    def score(heads):
        q, k = (
            {name: _laid_out(x, name) for name, x in heads[role].items()} for role in ("q", "k")
        )
        lengths = {"text": TEXT, "video": VIDEO}
        seen = Seen(
            queries={name: streams.query(name, x) for name, x in q.items()},
            parts={name: streams.part(name, x, x, lengths[name]) for name, x in k.items()},
        )
        found = observe(probe, seen)
        return found["loss"], found["map"]

    return jax.jit(jax.value_and_grad(score, has_aux=True))


@pytest.mark.parametrize("axes, direction, most", CASES, ids=str)
def test_eight_devices_agree_with_one(monkeypatch, heads, axes, direction, most):
    monkeypatch.setattr(probe_module, "MAX_LOGITS", most)
    gradient = _gradient(direction)
    want = gradient(heads)
    with jax.set_mesh(make_mesh(axes)):
        laid_out = {
            role: {name: jax.jit(_laid_out, static_argnums=1)(x, name) for name, x in there.items()}
            for role, there in heads.items()
        }
        program = gradient.lower(laid_out).compile()
        got = program(laid_out)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), got, want)
    # The keys stay where they are: what is gathered is the asked rows (filled up) of all heads at
    # most, a fifth of the keys.
    moved = re.findall(r"= f32\[([\d,]*)\]\S* (?:all-gather|all-to-all)", program.as_text())
    sizes = [math.prod(int(n) for n in dims.split(",") if n) for dims in moved]
    assert max(sizes, default=0) <= BATCH * (ROWS[1] + 7) * HEADS * HEAD_DIM


DEPTH, WIDTH = 3, HEADS * HEAD_DIM


def test_in_a_rematerialised_scan_over_a_mesh():
    """With a layer that is left out: the collectives stand inside a conditional."""
    rng = np.random.default_rng(1)
    stack = {"w": jnp.asarray(rng.normal(size=(DEPTH, WIDTH, WIDTH)) * 0.15, jnp.float32)}
    tokens = {
        name: jnp.asarray(rng.normal(size=(BATCH, n, WIDTH)), jnp.float32)
        for name, n in (("text", TEXT), ("video", VIDEO))
    }
    lengths = {name: x.shape[1] for name, x in tokens.items()}
    columns = jnp.ones((BATCH, TEXT)) / TEXT

    def block(params, tokens, plugs):
        heads = {n: (x @ params["w"]).reshape(*x.shape[:2], HEADS, -1) for n, x in tokens.items()}
        seen = Seen(
            queries={n: streams.query(n, x) for n, x in heads.items()},
            parts={n: streams.part(n, x, x, lengths[n]) for n, x in heads.items()},
        )
        seen, found = plugs.probe(seen)
        tokens = {n: jnp.tanh(x @ params["w"]) for n, x in tokens.items()}
        return tokens, seen.parts, found

    @jax.jit
    @jax.value_and_grad
    def score(stack, layers):
        probe = Probe(layers, columns, lambda a: jnp.sum(jnp.sin(9 * a)), rows=ROWS)
        padded = streams.pad_all(tokens, jnp.float32)
        return walk_blocks(block, stack, padded, Ports(probe=probe), lengths, True, "full").probe

    layers = jnp.array([1.0, 0.0, 0.5])
    want = score(stack, layers)
    with jax.set_mesh(make_mesh({"fsdp": 2, "context": 4})):
        got = score(stack, layers)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), got, want)
