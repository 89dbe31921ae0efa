"""What `auto` takes where, and what is refused with which words."""

import jax.numpy as jnp
import pytest

from tavid_jax.models.layers.attention import Part, Query, attention
from tavid_jax.models.layers.attention.choice import choose
from tavid_jax.parallel.sharding import compiling_for

SMALL, LARGE = 2**20, 2**34


def chosen(platform, *, implementation="auto", dtype=jnp.bfloat16, head_dim=64, **given):
    given = {"score_bytes": LARGE, "biased": False, **given}
    with compiling_for(platform):
        return choose(implementation, dtype=dtype, head_dim=head_dim, **given)


@pytest.mark.parametrize(
    "platform, given, want",
    [
        ("cpu", {}, "chunked"),
        ("cpu", {"score_bytes": SMALL}, "xla"),
        ("cpu", {"score_bytes": 4 * 8 * 2048 * 2274}, "chunked"),
        ("gpu", {}, "cudnn"),
        ("gpu", {"dtype": jnp.float32}, "chunked"),
        ("gpu", {"head_dim": 80}, "cudnn"),
        ("gpu", {"head_dim": 50}, "chunked"),
        ("gpu", {"biased": True}, "chunked"),
        ("gpu", {"score_bytes": SMALL}, "xla"),
        ("tpu", {}, "splash"),
        ("tpu", {"dtype": jnp.float32}, "splash"),
        ("tpu", {"head_dim": 128}, "splash"),
        ("tpu", {"head_dim": 80}, "chunked"),
        ("tpu", {"biased": True}, "chunked"),
        ("tpu", {"score_bytes": SMALL}, "xla"),
    ],
)
def test_auto(platform, given, want):
    assert chosen(platform, **given) == want


def test_auto_says_once_what_it_took(caplog):
    caplog.set_level("INFO", logger="absl")
    for _ in range(3):
        chosen("tpu", dtype=jnp.float16, head_dim=128)
    lines = [line for line in caplog.messages if "float16" in line]
    assert lines == ["attention: splash on tpu for large score tensors in float16"]


@pytest.mark.parametrize(
    "platform, implementation, given, words",
    [
        ("cpu", "flash", {}, "no implementation 'flash'; use auto, xla, chunked, cudnn, splash"),
        ("cpu", "cudnn", {}, "cudnn needs an NVIDIA GPU, not a cpu; use chunked"),
        ("gpu", "cudnn", {"dtype": jnp.float32}, "bfloat16 or float16, not float32; use chunked"),
        ("gpu", "cudnn", {"head_dim": 300}, "at most 128 that 8 divides, not 300; use chunked"),
        ("gpu", "splash", {}, "splash needs a TPU, not a gpu; use cudnn"),
        ("tpu", "splash", {"biased": True}, "splash takes no biases; use chunked"),
        ("tpu", "splash", {"head_dim": 80}, "head dim of 64 or 128, not 80; use chunked"),
    ],
)
def test_impossible_choices_say_what_works(platform, implementation, given, words):
    with pytest.raises(ValueError, match=words):
        chosen(platform, implementation=implementation, **given)


def stream(*shape):
    return jnp.zeros(shape)


def part(*shape, **given):
    return Part(stream(*shape), stream(*shape), **given)


QUERY = Query(stream(2, 5, 4, 8))


@pytest.mark.parametrize(
    "parts, biases, words",
    [
        ([], {}, "list of parts is empty"),
        ([part(2, 3, 4, 8), part(2, 3, 2, 8)], {}, r"parts\[1\].k has heads 2 .* has 4: repeat"),
        ([part(1, 3, 4, 8)], {}, r"parts\[0\].k has batch 1 but queries\[0\].q has 2"),
        ([part(2, 3, 4, 6)], {}, r"has head dim 6"),
        ([part(2, 3, 32)], {}, r"parts\[0\].k has shape \(2, 3, 32\): give \(B, tokens, heads, D"),
        ([Part(stream(2, 3, 4, 8), stream(2, 2, 4, 8))], {}, r"parts\[0\].k .* come in pairs"),
        ([part(2, 3, 4, 8, length=4)], {}, r"length is 4 but there are 3 keys: set it to 0 to 3"),
        ([part(2, 3, 4, 8, length=0)], {}, "no part has a real key"),
        ([part(2, 3, 4, 8)], {(0, 1): stream(1, 1, 1, 3)}, r"biases\[\(0, 1\)\] but .* 1 parts"),
        ([part(2, 3, 4, 8)], {(0, 0): stream(5, 3)}, r"shape \(5, 3\): .* = \(2, 4, 5, 3\)"),
        ([part(2, 3, 4, 8)], {(0, 0): stream(1, 1, 4, 3)}, r"shape \(1, 1, 4, 3\)"),
    ],
)
def test_shapes_that_do_not_belong_together(parts, biases, words):
    with pytest.raises(ValueError, match=words):
        attention([QUERY], parts, biases=biases)
