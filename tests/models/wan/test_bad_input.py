"""What Wan refuses, and how it says so."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from wan_reference import BATCH, GRID, TOKENS

from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.ports import AttentionBias, Ports, Probe, Residuals
from tavid_jax.models.wan.transformer import Wan

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from wan_ports import (  # noqa: E402  (needs torch)
    CONDITION,
    CONFIG,
    DEPTH,
    LAYER_WEIGHTS,
    SUBSET,
    WIDTH,
    drawn,
    predict,
    replaced,
    score,
)


def cache_of(model: Wan, params, name: str):
    given = {**drawn(), **CONDITION}
    return jax.eval_shape(
        lambda p: predict(model, p, given, Ports(kv_out=(name,))).caches[name], params
    )


def bad_ports(params) -> dict[str, tuple[Ports, str]]:
    zeros = jnp.zeros
    condition, text = (cache_of(Wan(CONFIG), params, name) for name in ("condition", "text"))
    condition, text = (
        jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), cache) for cache in (condition, text)
    )
    shallow = jax.tree.map(lambda leaf: leaf[1:], condition)
    thrice = jax.tree.map(lambda leaf: leaf[:, [0, 0, 0]], condition)
    bias = functools.partial(AttentionBias, layers=LAYER_WEIGHTS)
    columns = zeros((BATCH, CONFIG.text_length))
    probe = functools.partial(Probe, layers=LAYER_WEIGHTS, columns=columns, score=score)
    cross = functools.partial(replaced, params, weight=0.5)
    short = cross(SUBSET).replace(layers=(1,))
    values = zeros((DEPTH, BATCH, TOKENS, WIDTH))
    return {
        "text twice": (Ports(kv_in={"text": text}), "text tokens, or their cache.*exactly one"),
        "image": (Ports(kv_in={"image": text}), "no image branch"),
        "video": (Ports(kv_in={"video": condition}), r"kv_in\['video'\].*image and condition"),
        "shallow": (Ports(kv_in={"condition": shallow}), "2 layers of 2 heads.*3 layers"),
        "thrice": (Ports(kv_in={"condition": thrice}), "of 3 examples, the batch has 2"),
        "out": (Ports(kv_out=("condition",)), "kv_out names 'condition'.*video, text"),
        "pair": (
            Ports(attention_bias=bias(zeros((1, 1, 1, 1)), query="text", key="video")),
            "text tokens do not attend to video tokens",
        ),
        "nobody": (
            Ports(attention_bias=bias(zeros((1, 1, 1, 1)), key="condition")),
            "no stream 'condition' among video, text",
        ),
        "bias": (
            Ports(attention_bias=bias(zeros((1, 1, TOKENS - 1, 1)))),
            "18 rows for the video queries and 9 columns",
        ),
        "weights": (
            Ports(attention_bias=AttentionBias(zeros((1, 1, 1, 1)), zeros((2,)))),
            "one weight for each of the 3 blocks",
        ),
        "rows": (Ports(probe=probe(rows=(0, 19))), "within the 18 video tokens"),
        "columns": (
            Ports(probe=probe(rows=(0, 6)).replace(columns=columns[:, 1:])),
            "one weight for each of the 9 text positions",
        ),
        "direction": (
            Ports(probe=probe(rows=(0, 6), direction="text_to_video")),
            "queries of the stream 'text'",
        ),
        "block": (Ports(residuals=Residuals(values[:1], (3,))), "block 3 of 3 does not exist"),
        "none": (Ports(residuals=Residuals(values[:0], ())), "no block chosen"),
        "copies": (Ports(cross_attention=short), "of which there are 1"),
        "residuals": (Ports(residuals=Residuals(values[:, :, 1:])), r"give \(3, 2, 18, 32\)"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def refused(params):
    return bad_ports(params)


PORTS = (
    "text twice", "image", "video", "shallow", "thrice", "out", "pair", "nobody", "bias",
    "weights", "rows", "columns", "direction", "block", "none", "copies", "residuals",
)  # fmt: skip


@pytest.mark.parametrize("name", PORTS)
def test_a_port_that_does_not_fit_is_refused(params, refused, name: str):
    assert set(refused) == set(PORTS)
    ports, message = refused[name]
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(predict, Wan(CONFIG)), params, drawn(), ports)


def test_other_bad_input_is_refused(params, with_image):
    def attempt(message: str, model=None, tree=None, base=None, **changes):
        given = {**(drawn() if base is None else base), **changes}
        given = {k: v for k, v in given.items() if v is not None}
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(functools.partial(predict, model or Wan(CONFIG)), tree or params, given)

    given = drawn()
    attempt("latents of 3 channels: this model reads 4", latents=given["latents"][..., :3])
    attempt("height 3 is not a multiple of 2", latents=given["latents"][:, :, :3])
    attempt(
        "4 timesteps per example for 18 video tokens", timestep=np.zeros((BATCH, 4), np.float32)
    )
    attempt("text tokens, or their cache", text=None)
    attempt("no image branch", image=np.zeros((BATCH, 5, 20), np.float32))
    attempt("2 extra channels: the config has 0", extra=np.zeros((BATCH, 3, 4, 6, 2), np.float32))
    attempt("'condition' has 17 tokens, the grid has 18", condition=CONDITION["condition"][:, 1:])
    config, tree, full = with_image
    attempt("image tokens, or their cache", Wan(config), tree, full, image=None)
    table = dataclasses.replace(config, image_tokens=10)
    placed = {**tree, "image_embed": {**tree["image_embed"], "pos_embed": np.zeros((10, 20))}}
    attempt("5 image tokens: this model reads 10", Wan(table), placed, full)
    tall = np.zeros((BATCH, 33, 2, 2, 4), np.float32)
    attempt("33x1x1 is longer than 32 positions", latents=tall,
            timestep=np.zeros((BATCH, 1), np.float32))  # fmt: skip
    unknown = Wan(CONFIG, lora=(LoraRule("blocks/attn/w", 2),))
    with pytest.raises(ValueError, match="no projection matches 'blocks/attn/w'"):
        jax.eval_shape(
            lambda: unknown.init(jax.random.key(0), given["latents"], given["timestep"],
                                 given["text"])
        )  # fmt: skip


def test_bad_streams_are_refused(params):
    model = Wan(CONFIG).bind({"params": params})
    tokens, time = jnp.zeros((1, TOKENS, WIDTH)), model.embed_time(jnp.zeros((1,)))
    text = {"text": jnp.zeros((1, 3, WIDTH))}
    with pytest.raises(ValueError, match="'sound': this model knows video, condition"):
        model.blocks({"sound": tokens}, {"sound": time}, text, GRID)
    with pytest.raises(ValueError, match="'video' has no timestep"):
        model.blocks({"video": tokens}, {}, text, GRID)
    with pytest.raises(ValueError, match="no stream to walk"):
        model.blocks({}, {}, text, GRID)


def test_an_adapter_of_an_unknown_stream_is_refused():
    with pytest.raises(ValueError, match="no stream 'conditon'; use all, video, text, condition"):
        LoraRule("blocks/attn/q", 2, stream="conditon")


@pytest.mark.parametrize(
    ("path", "stream", "others"),
    [
        ("blocks/attn/q", "text", "'video' or 'condition'"),
        ("blocks/cross/(k|v)|text_embed/fc1", "condition", "'text'"),
        ("time_proj", "condition", "'video'"),
    ],
)
def test_an_adapter_that_no_token_of_its_stream_passes_is_refused(path, stream, others):
    timestep = jnp.zeros((1,))

    def init(path):
        model = Wan(CONFIG, lora=(LoraRule(path, 2, stream=stream),))
        jax.eval_shape(lambda: model.init(jax.random.key(0), timestep, method="embed_time"))

    message = f"no {stream} tokens pass '.*', .* use stream {others}, or 'all'"
    with pytest.raises(ValueError, match=message):
        init(path)
    init(f"{path}|blocks/cross/(q|k)")  # it is enough that some of these are passed
