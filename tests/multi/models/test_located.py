"""Location-aware cross-attention on eight devices equals that on one; no token travels for it."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers import streams
from tavid_jax.models.layers.located import Laca, cross_attention_port, init_laca
from tavid_jax.models.layers.located import pairs as located_pairs
from tavid_jax.models.layers.ports import Ports
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.models.wan.transformer import Wan
from tavid_jax.parallel.mesh import make_mesh
from tests.models.layers.located import cases


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    """These tests compile a lot and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    """So that a trajectory fills several."""
    monkeypatch.setattr(located_pairs, "TILE", 4)


# Six frames of three tokens: a device has a part of a frame, or of two; eight pad the tokens.
GRID = (6, 1, 3)
FORMS = {
    "published": (Laca(), {"fsdp": 2, "context": 2, "tensor": 2}),
    "concat": (Laca(overlap="concat"), {"fsdp": 1, "context": 8}),
    "skip": (Laca(outside="skip", overlap="blend", rank=2), {"fsdp": 2, "context": 4}),
    "segments": (Laca(gaussian="value", formulation="segments"), {"fsdp": 1, "context": 8}),
}


@pytest.mark.parametrize("name", FORMS)
def test_eight_devices_equal_one(name: str):
    laca, shape = FORMS[name]
    base, given = cases.cross_stack(), cases.drawn(GRID)
    where = cases.near(laca.overlap, GRID)
    params = cases.start(laca, base)
    cotangent = cases.normal(40, *given["x"].shape)

    def step(params, given, base, cotangent):
        tokens = given["x"].shape[1]

        def run(params, given):
            padded = {k: streams.pad("video", given[k]) for k in ("x", "published")}
            out = cases.answered(params, laca, {**given, **padded}, where, base, 1, GRID)
            return streams.place("video", out)[:, :tokens]

        out, back = jax.vjp(run, params, given)
        return out, back(cotangent)

    args = params, given, base, cotangent
    want = jax.jit(step)(*args)
    mesh = make_mesh(shape)
    with jax.set_mesh(mesh):
        placed = jax.device_put(args, jax.NamedSharding(mesh, jax.P()))
        got = jax.jit(lambda *args: step(*args))(*placed)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        theirs = np.asarray(theirs)
        size = max(np.sqrt(np.mean(theirs**2)), 1e-6)
        assert np.sqrt(np.mean((np.asarray(ours) - theirs) ** 2)) <= 1e-5 * size


@pytest.mark.parametrize("laca", [Laca(), Laca(outside="skip")])
def test_no_token_travels(laca: Laca):
    """Only self-attention moves any: in a ring."""
    config = WanConfig(
        num_heads=cases.HEADS,
        head_dim=16,
        ffn_dim=48,
        num_layers=1,
        in_channels=4,
        out_channels=4,
        freq_dim=16,
        text_dim=cases.WIDTH,
        text_length=cases.LENGTH,
    )
    model = Wan(config)
    frames, rows, cols = cases.GRID
    given = {**cases.drawn(), "latents": jnp.zeros((2, frames, 2 * rows, 2 * cols, 4))}
    names = ("latents", "time", "prompt")
    given["time"] = jnp.zeros(2)
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), *(given[name] for name in names))["params"]
    )
    own = jax.eval_shape(lambda cross: init_laca(cross, laca), shapes["blocks"]["cross"])
    texts = cases.local_texts(cases.near(), given["text"], cases.LENGTHS, given["strength"])

    def predict(params, own, given, texts):
        ports = None
        if own is not None:
            port = cross_attention_port(
                own, laca, texts, grid=cases.GRID, text_length=cases.LENGTH, **cases.SIZES
            )
            ports = Ports(cross_attention=port)
        inputs = (given[name] for name in names)
        return model.apply({"params": params}, *inputs, ports=ports, method=Wan.predict).sample

    mesh = make_mesh({"fsdp": 1, "context": 8})
    everywhere = functools.partial(
        jax.tree.map,
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=jax.NamedSharding(mesh, jax.P())),
    )

    def moves(own) -> list[str]:
        with jax.set_mesh(mesh):
            args = everywhere((shapes, own, given, texts))
            program = jax.jit(lambda *args: predict(*args)).lower(*args).compile()
        found = r"= \S+ (all-gather|all-to-all|collective-permute|all-reduce|reduce-scatter)"
        return sorted(re.findall(found, program.as_text()))

    assert "collective-permute" in (alone := moves(None))
    assert moves(own) == alone


def test_a_device_holds_few_pairs():
    """Those of the frames that its tokens touch, not all."""
    texts = cases.local_texts(cases.near(), None, cases.LENGTHS, np.zeros(2))
    with jax.set_mesh(make_mesh({"fsdp": 1, "context": 8})):
        way = jax.eval_shape(lambda texts: located_pairs.route(texts, cases.GRID), texts)
    # Nine tokens of frames of 24 lie in two of them at the most.
    assert way.token.shape == (2, 8 * 2 * texts.token.shape[1] // cases.GRID[0])
