"""Models whose blocks' kernels are kept in 8 bits: outputs, scans, adapters, gradients, memory."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_reference import VISION, images

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.cogvideox.transformer import param_shapes as cogvideox_shapes
from tavid_jax.models.layers.lora import LoraRule, attach, init_lora, merge
from tavid_jax.models.text.config import T5Config
from tavid_jax.models.text.t5 import T5Encoder
from tavid_jax.models.text.t5 import param_shapes as t5_shapes
from tavid_jax.models.vision.clip import CLIPVision
from tavid_jax.models.vision.clip import param_shapes as vision_shapes
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.models.wan.transformer import Wan
from tavid_jax.models.wan.transformer import param_shapes as wan_shapes
from tavid_jax.weights import quantised
from tests.models.cogvideox.tiny import random_tree

pytest.importorskip("qwix")

WAN = WanConfig(
    num_heads=3, head_dim=16, ffn_dim=80, num_layers=3, in_channels=4, out_channels=4,
    freq_dim=16, text_dim=24, text_length=9, max_positions=32,
)  # fmt: skip
COGVIDEOX = CogVideoXConfig(
    num_heads=3, head_dim=16, num_layers=3, in_channels=4, out_channels=4, time_embed_dim=24,
    text_dim=24, text_length=5, sample_hw=(4, 6), sample_frames=9, rotary=True,
)  # fmt: skip
T5 = T5Config(vocab_size=97, dim=48, num_heads=3, head_dim=20, ffn_dim=64, num_layers=3)
LORA = (LoraRule("blocks/attn/(q|v)", 2), LoraRule("blocks/mlp/fc2", 3, name="mlp"))


class Case(NamedTuple):
    """A model, its parameters' shapes, and inputs."""

    model: Any
    shapes: Any
    inputs: tuple


def draw(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


CASES = {
    "wan": lambda: Case(
        Wan(WAN),
        wan_shapes(WAN),
        (draw(0, 2, 3, 4, 6, 4), jnp.array([900.0, 20.0]), draw(1, 2, 9, 24)),
    ),
    "cogvideox": lambda: Case(
        CogVideoX(COGVIDEOX),
        cogvideox_shapes(COGVIDEOX),
        (draw(0, 2, 3, 4, 6, 4), jnp.array([900, 20]), draw(1, 2, 5, 24)),
    ),
    "t5": lambda: Case(
        T5Encoder(T5),
        t5_shapes(T5),
        (
            jnp.asarray(np.random.default_rng(0).integers(0, 97, (2, 7))),
            jnp.arange(7)[None] < jnp.array([[7], [4]]),
        ),
    ),
    "clip": lambda: Case(CLIPVision(VISION), vision_shapes(VISION), (jnp.asarray(images(VISION)),)),
}
# The kernels differ by 0.006 of their size; measured are 0.010 (Wan), 0.005 (CogVideoX), 0.021
# (T5), 0.007 (CLIP).
BOUND = 0.03


@functools.partial(jax.jit, static_argnums=0)
def run(model, params, inputs):
    return model.apply({"params": params}, *inputs)


def difference(got, want) -> float:
    """rms(got - want) / rms(want)."""
    return float(jnp.linalg.norm(got - want) / jnp.linalg.norm(want))


@pytest.fixture(scope="module")
def cases():
    """(case, parameters, the same with kernels in 8 bits) by name."""

    @functools.cache
    def make(name: str):
        case = CASES[name]()
        params = random_tree(case.shapes, seed=3)
        if name == "t5":  # the scale of its logits is in the queries' kernels
            queries = params["blocks"]["attn"]["q"]
            queries["kernel"] = queries["kernel"] * T5.head_dim**-0.5
        return case, params, quantised.quantise(params)

    return make


@pytest.mark.parametrize("name", CASES)
def test_outputs_stay_within_a_few_hundredths(cases, name: str):
    case, params, narrow = cases(name)
    want = run(case.model, params, case.inputs)
    got = run(case.model, narrow, case.inputs)
    assert got.shape == want.shape
    assert 1e-4 < difference(got, want) < BOUND
    # It is the weights that differ, not what is done with them.
    wide = run(case.model, quantised.dequantise(narrow), case.inputs)
    assert difference(got, wide) < 1e-6


@pytest.mark.parametrize("name", ["wan", "t5"])
def test_scan_equals_unrolled(cases, name: str):
    case, _, narrow = cases(name)
    unrolled = case.model.clone(scan=False)
    assert difference(
        run(unrolled, narrow, case.inputs), run(case.model, narrow, case.inputs)
    ) < 1e-5  # fmt: skip


@pytest.mark.parametrize("name", ["cogvideox", "clip"])
def test_bfloat16(cases, name: str):
    case, params, narrow = cases(name)
    half = case.model.clone(dtype=jnp.bfloat16)
    want = run(case.model, params, case.inputs)
    assert difference(run(half, narrow, case.inputs).astype(jnp.float32), want) < 0.05


@pytest.mark.parametrize("name", CASES)
def test_kernels_take_a_quarter_of_the_memory(cases, name: str):
    _, params, narrow = cases(name)
    blocks = dict(quantised.walk(params["blocks"]))
    kernels = sum(leaf.nbytes for path, leaf in blocks.items() if path.endswith("kernel"))
    others = quantised.num_bytes(params) - kernels
    # Beside each column of 24 to 80 values lies a scale of 4 bytes.
    assert 3.4 < kernels / (quantised.num_bytes(narrow) - others) < 4


@pytest.fixture(scope="module")
def adapted(cases):
    """Wan with adapters beside a base in 8 bits: (model, base, adapters, inputs)."""
    case, params, narrow = cases("wan")
    model = case.model.clone(lora=LORA)
    adapters = random_tree(
        jax.eval_shape(lambda: init_lora(jax.random.key(0), params, LORA)), seed=5
    )
    return model, narrow, adapters, case.inputs


def test_adapters_beside_8_bits(adapted):
    model, narrow, adapters, inputs = adapted
    got = run(model, {**narrow, "lora": adapters}, inputs)
    wide = quantised.dequantise(narrow)
    merged = merge({**wide, "lora": adapters}, LORA)
    assert difference(got, run(model.clone(lora=()), merged, inputs)) < 1e-5
    assert difference(got, run(model.clone(lora=()), narrow, inputs)) > 0.05


def test_gradients_reach_adapters_through_8_bits(adapted):
    model, narrow, adapters, inputs = adapted
    model = model.clone(remat="full")

    @jax.jit
    def gradients(base, adapters):
        def loss(adapters):
            return jnp.mean(jnp.square(run(model, {**base, "lora": adapters}, inputs)))

        return jax.grad(loss)(adapters)

    got = gradients(narrow, adapters)
    want = gradients(quantised.dequantise(narrow), adapters)
    for path, leaf in quantised.walk(want):
        assert float(jnp.linalg.norm(leaf)) > 0, path
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), got, want)


def test_merging_into_8_bits_is_refused(adapted):
    _, narrow, adapters, _ = adapted
    with pytest.raises(ValueError, match="'default': blocks/attn/q is kept in 8 bits"):
        merge({**narrow, "lora": adapters}, LORA)
    attach(narrow, adapters, LORA)


def test_parameters_of_another_size_are_still_refused(cases):
    case, params, narrow = cases("wan")
    other = Wan(dataclasses.replace(WAN, ffn_dim=72))
    with pytest.raises(Exception, match="shape"):
        run(other, params, case.inputs)
    message = r"blocks.*fc1.*bias.* has shape \(3, 80\), this model's is \(3, 72\)"
    with pytest.raises(ValueError, match=message):
        run(other, narrow, case.inputs)
