"""What CogVideoX refuses, and what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.cogvideox.config import PRESETS
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.kv_cache import KVCache
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.ports import (
    AttentionBias,
    CrossAttention,
    Ports,
    Probe,
    Residuals,
)
from tests.models.cogvideox import tiny

CONFIG = tiny.config_of(in_channels=9, learned_positions=True)
ROTARY_ONLY = tiny.config_of(in_channels=9)
TOKENS, TEXT, DIM = 18, CONFIG.text_length, CONFIG.dim


def zeros(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


def array(*shape):
    return jnp.asarray(np.zeros(shape, np.float32))


def predict(config=CONFIG, lora=(), size=(3, 4, 6), channels=9, text=TEXT, **options):
    """Traces a call; nothing runs."""
    model = CogVideoX(config, lora=lora)
    given = dict(
        latents=zeros(2, *size, channels),
        timestep=zeros(2, dtype="int32"),
        text=zeros(2, text, config.text_dim),
    )

    def run(given, options):
        return model.init_with_output(jax.random.key(0), **given, **options, method="predict")

    return jax.eval_shape(run, given, options)[0]


def cache(layers=2, batch=2, heads=3, width=16, tokens=7):
    return KVCache(*(zeros(layers, batch, tokens, heads, width) for _ in "kv"))


def probe(layers=2, columns=(2, TEXT), rows=(0, 6)):
    return Ports(probe=Probe(array(layers), array(*columns), jnp.sum, rows))


def bias(*shape, layers=2, **names):
    return Ports(attention_bias=AttentionBias(array(*shape), array(layers), **names))


def residuals(*shape, layers=None):
    return Ports(residuals=Residuals(array(*shape), layers=layers))


CONDITION = zeros(2, TOKENS, DIM)
REFUSED = {
    "channels": (dict(channels=4), "latents of 4 channels: this model reads 9"),
    "rows": (dict(size=(3, 5, 6)), "height 5 is not a multiple of 2"),
    "size of the learned positions": (dict(size=(3, 6, 6)), "for latents of 4x6, got 6x6"),
    "text length": (dict(text=4), "text of 4 tokens: the learned positions are for 5, pad it"),
    "frames of 1.5": (
        dict(config=tiny.config_of(patch_size=(2, 2, 2), in_channels=9)),
        "frames 3 is not a multiple of 2",
    ),
    "too large for 1.5": (
        dict(config=tiny.config_of(patch_size=(2, 2, 2), in_channels=9), size=(2, 8, 8)),
        "4x4 exceeds the largest one, 2x3",
    ),
    "extra channels": (dict(extra=zeros(2, 3, 4, 6, 1)), "1 extra channels: the config has 0"),
    "no extra channels": (
        dict(config=tiny.config_of(in_channels=9, extra_channels=2)),
        "0 extra channels: the config has 2",
    ),
    "condition off the grid": (
        dict(condition=zeros(2, 12, DIM)),
        "stream 'condition' has 12 tokens, the grid has 18",
    ),
    "cache of another depth": (
        dict(ports=Ports(kv_in={"condition": cache(layers=3)})),
        r"kv_in\['condition'\] holds 3 layers of 3 heads of 16: this model has 2",
    ),
    "cache of other heads": (
        dict(ports=Ports(kv_in={"condition": cache(heads=4)})),
        "holds 2 layers of 4 heads of 16",
    ),
    "cache of another batch": (
        dict(ports=Ports(kv_in={"condition": cache(batch=3)})),
        "is of 3 examples, the batch has 2",
    ),
    "cache of an unknown stream": (
        dict(ports=Ports(kv_in={"image": cache()})),
        "kv_in names 'image': this model knows text, video, condition",
    ),
    "cache and tokens": (
        dict(condition=CONDITION, ports=Ports(kv_in={"condition": cache()})),
        "give condition tokens, or their cache in ports.kv_in: not both",
    ),
    "handing out what is not there": (
        dict(ports=Ports(kv_out=("condition",))),
        "kv_out names 'condition': the streams here are text, video",
    ),
    "handing out what came in": (
        dict(ports=Ports(kv_in={"condition": cache()}, kv_out=("condition",))),
        "which comes in through kv_in",
    ),
    "weights of probed layers": (dict(ports=probe(layers=3)), r"probe.layers has shape \(3,\)"),
    "rows of the probe": (dict(ports=probe(rows=(0, 19))), "must lie within the 18 video tokens"),
    "columns of the probe": (dict(ports=probe(columns=(2, 6))), "one weight for each of the 5"),
    "stream of a bias": (
        dict(ports=bias(1, 1, TOKENS, TOKENS, key="condition")),
        "no stream 'condition' among text, video",
    ),
    "size of a bias": (dict(ports=bias(1, 1, 17, TEXT)), r"\(1, 1, 17, 5\): give .*, 18 rows"),
    "rank of a bias": (dict(ports=bias(TOKENS, TEXT)), r"\(18, 5\): give \(batch, heads, rows"),
    "text of a bias": (dict(ports=bias(1, 1, 1, 4)), "and 5 columns for the text keys"),
    "layers of a bias": (
        dict(ports=bias(1, 1, 1, TEXT, layers=3)),
        r"attention_bias.layers has shape \(3,\): give one weight for each of the 2 blocks",
    ),
    "number of residuals": (
        dict(ports=residuals(1, 2, TOKENS, DIM)),
        r"residuals of shape \(1, 2, 18, 48\): give \(2, 2, 18, 48\)",
    ),
    "tokens of residuals": (
        dict(ports=residuals(1, 2, 17, DIM, layers=(1,))),
        r"give \(1, 2, 18, 48\)",
    ),
    "block of a residual": (
        dict(ports=residuals(1, 2, TOKENS, DIM, layers=(2,))),
        "block 2 of 2 does not exist",
    ),
    "block of two residuals": (
        dict(ports=residuals(2, 2, TOKENS, DIM, layers=(1, 1))),
        r"Residuals.layers: \(1, 1\) names a block twice",
    ),
    "cross-attention": (
        dict(ports=Ports(cross_attention=CrossAttention({}, {}, max))),
        "CogVideoX has no cross-attention to replace",
    ),
    "adapter of nothing": (
        dict(lora=(LoraRule("blocks/cross/q", 2),)),
        "no projection matches 'blocks/cross/q'; there are patch_embed, text_embed",
    ),
    "adapter of tokens that are elsewhere": (
        dict(lora=(LoraRule("patch_embed", 2, stream="condition"),)),
        "no condition tokens pass 'patch_embed', .* use stream 'video', or 'all'",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    options, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        predict(**options)


def test_the_same_without_the_fault():
    """So that no case above is refused for another reason."""
    out = predict(
        condition=CONDITION,
        ports=Ports(
            probe=probe().probe,
            attention_bias=bias(1, 1, TOKENS, TEXT).attention_bias,
            residuals=residuals(1, 2, TOKENS, DIM, layers=(1,)).residuals,
            kv_out=("condition",),
        ),
    )
    assert out.sample.shape == (2, 3, 4, 6, 4)
    assert out.caches["condition"].k.shape == (2, 2, TOKENS, 3, 16)
    assert predict(ports=Ports(kv_in={"condition": cache(batch=1)})).probe is None
    assert predict(ROTARY_ONLY, size=(1, 6, 8), text=3).sample.shape == (2, 1, 6, 8, 4)


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        (("image",), "stream 'image': this model knows text, video, condition"),
        (("text",), "stream 'text' has no timestep"),
        ((), "no stream to walk"),
    ],
)
def test_streams_of_blocks(streams, message):
    model = CogVideoX(ROTARY_ONLY)

    def run(tokens):
        return model.init_with_output(
            jax.random.key(0), tokens, {}, (3, 2, 3), Ports(), method="blocks"
        )

    with pytest.raises(ValueError, match=message):
        jax.eval_shape(run, {name: CONDITION for name in streams})


def test_probe_needs_both_streams():
    model = CogVideoX(ROTARY_ONLY)

    def run(tokens, times, ports):
        return model.init_with_output(
            jax.random.key(0), tokens, times, (3, 2, 3), ports, method="blocks"
        )

    given = {"condition": CONDITION}, {"condition": zeros(2, 10)}, probe()
    with pytest.raises(ValueError, match="a probe needs text and video tokens, here are condition"):
        jax.eval_shape(run, *given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(head_dim=24), "head_dim=24: .* multiple of 16"),
        (dict(rotary=False, learned_positions=True), "set rotary=True"),
    ],
)
def test_configs(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny.config_of(**changes)


def test_published_learned_positions_at_another_size():
    with pytest.raises(ValueError, match="for latents of 60x90, got 48x84: use that size"):
        predict(PRESETS["cogvideox-5b-i2v"], size=(13, 48, 84), channels=32, text=226)
