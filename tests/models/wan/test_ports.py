"""Every port of Wan against diffusers' blocks walked by hand; caches; parts of a call."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import relative_error
from wan_reference import BATCH, GRID, I2V, TOKENS, ported, torch_model

from tavid_jax.models.layers.ports import AttentionBias, Ports, Probe, Residuals
from tavid_jax.models.wan.transformer import Wan

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from wan_ports import (  # noqa: E402  (needs torch)
    CONDITION,
    CONDITION_RULE,
    CONFIG,
    DEPTH,
    HEADS,
    LAYER_WEIGHTS,
    SHARED_RULE,
    SUBSET,
    WIDTH,
    adapters_of,
    dense_score,
    drawn,
    normal,
    predict,
    replaced,
    score,
    torch_replaced,
    torch_terms,
    weighted,
)
from wan_walk import Walk, low_rank, tensor  # noqa: E402


def test_condition_tokens(published, params):
    given = {**drawn(), **CONDITION}
    got = predict(Wan(CONFIG), params, given)
    with torch.no_grad():
        want = Walk(published)(**given)
        without = Walk(published)(**drawn())
    assert relative_error(got.sample, want) <= 1e-5
    assert relative_error(without, want) > 1e-2


def test_adapters_of_the_condition_alone(published, params):
    given = {**drawn(), **CONDITION}
    model = Wan(CONFIG, lora=(CONDITION_RULE,))
    adapters = adapters_of(params, model.lora)
    got = predict(model, {**params, "lora": adapters}, given).sample
    with (
        torch.no_grad(),
        low_rank(torch_terms(published, adapters, CONDITION_RULE)[1], slice(TOKENS, None)),
    ):
        want = Walk(published)(**given)
    assert relative_error(got, want) <= 1e-5
    # Without a condition there is nothing for them to act on.
    np.testing.assert_array_equal(
        predict(model, {**params, "lora": adapters}, drawn()).sample,
        predict(Wan(CONFIG), params, drawn()).sample,
    )


def test_adapters_of_chosen_layers(published, params):
    model = Wan(CONFIG, lora=(SHARED_RULE,))
    adapters = adapters_of(params, model.lora)
    got = predict(model, {**params, "lora": adapters}, drawn()).sample
    with (
        torch.no_grad(),
        low_rank(torch_terms(published, adapters, SHARED_RULE)[1], slice(0, None)),
    ):
        want = Walk(published)(**drawn())
    assert relative_error(got, want) <= 1e-5


@pytest.mark.parametrize("kind", ["video to video", "video to condition", "video to text"])
def test_attention_bias(published, params, kind: str):
    query, _, key = kind.split()
    bias = normal(8, 1, HEADS, TOKENS, CONFIG.text_length if key == "text" else TOKENS, size=3)
    given = {**drawn(), **(CONDITION if key == "condition" else {})}
    port = AttentionBias(bias=bias, layers=LAYER_WEIGHTS, query=query, key=key)
    got = predict(Wan(CONFIG), params, given, Ports(attention_bias=port)).sample
    walk = Walk(published)
    if key == "text":
        walk.cross_bias = weighted(bias)
    elif key == "video":
        walk.self_bias = weighted(bias)
    else:
        walk.self_bias = weighted(bias, start_key=TOKENS, size=2 * TOKENS)
    with torch.no_grad():
        want, without = walk(**given), Walk(published)(**given)
    assert relative_error(got, want) <= 1e-5
    assert relative_error(without, want) > 1e-2


@pytest.mark.parametrize("layers", [None, SUBSET])
def test_residuals(published, params, layers):
    values = normal(9, DEPTH if layers is None else len(layers), BATCH, TOKENS, WIDTH, size=0.1)
    port = Residuals(values=values, layers=layers)
    got = predict(Wan(CONFIG), params, drawn(), Ports(residuals=port)).sample
    walk = Walk(published)
    chosen = range(DEPTH) if layers is None else layers
    walk.residuals = {layer: tensor(value) for layer, value in zip(chosen, values, strict=True)}
    with torch.no_grad():
        want = walk(**drawn())
    assert relative_error(got, want) <= 1e-5


@pytest.mark.parametrize("layers", [None, SUBSET, (1,)])
def test_cross_attention_is_replaced(published, params, layers):
    port = replaced(params, layers, 0.4)
    got = predict(Wan(CONFIG), params, drawn(), Ports(cross_attention=port)).sample
    walk = Walk(published)
    torch_replaced(walk, port)
    with torch.no_grad():
        want = walk(**drawn())
    assert relative_error(got, want) <= 1e-5
    silent = replaced(params, layers, 0.0)
    np.testing.assert_array_equal(
        predict(Wan(CONFIG), params, drawn(), Ports(cross_attention=silent)).sample,
        predict(Wan(CONFIG), params, drawn()).sample,
    )


@pytest.mark.parametrize("kind", ["text", "text and image"])
def test_probe_of_cross_attention(published, params, kind: str):
    config = CONFIG if kind == "text" else dataclasses.replace(I2V, num_layers=DEPTH)
    if config is not CONFIG:
        published = torch_model(config)
        params = ported(published, config)
    given = drawn(config)
    columns = jnp.abs(normal(11, BATCH, config.text_length))
    probe = Probe(layers=LAYER_WEIGHTS, columns=columns, score=score, rows=(2, 9))
    got = predict(Wan(config), params, given, Ports(probe=probe))
    with torch.no_grad():
        out, want = dense_score(published, Walk(published), given, probe)
    assert relative_error(got.sample, out) <= 1e-5
    assert relative_error(got.probe, want) <= 1e-5


def test_extra_channels_are_a_wider_patch_embedding(params):
    wide = dataclasses.replace(CONFIG, extra_channels=2)
    added = normal(12, 4 * 2, WIDTH, size=0.1)
    given = {**drawn(), "extra": normal(13, BATCH, *drawn()["latents"].shape[1:4], 2)}
    zero = {**params, "patch_embed_extra": {"kernel": jnp.zeros_like(added)}}
    np.testing.assert_array_equal(
        predict(Wan(wide), zero, given).sample, predict(Wan(CONFIG), params, drawn()).sample
    )
    got = predict(Wan(wide), {**params, "patch_embed_extra": {"kernel": added}}, given).sample
    # In the wide kernel the channels of each position stand together.
    old = params["patch_embed"]["kernel"].reshape(4, CONFIG.in_channels, WIDTH)
    kernel = np.concatenate([old, added.reshape(4, 2, WIDTH)], axis=1).reshape(-1, WIDTH)
    one = dataclasses.replace(CONFIG, in_channels=CONFIG.in_channels + 2)
    joined = {**given, "latents": np.concatenate([given["latents"], given["extra"]], axis=-1)}
    del joined["extra"]
    together = {**params, "patch_embed": {**params["patch_embed"], "kernel": kernel}}
    assert relative_error(got, predict(Wan(one), together, joined).sample) <= 1e-6


@pytest.mark.parametrize("examples", [BATCH, 1])
def test_caches_of_text_and_image(with_image, examples: int):
    config, params, given = with_image
    model = Wan(config)
    given = {**given, **{k: given[k][:1].repeat(BATCH, 0) for k in ("text", "image")}}
    told = predict(model, params, given, Ports(kv_out=("text", "image")))
    caches = jax.tree.map(lambda leaf: leaf[:, :examples], told.caches)
    assert caches["text"].k.shape == (2, examples, 512, 2, 16)
    silent = {k: v for k, v in given.items() if k not in ("text", "image")}
    read = predict(model, params, silent, Ports(kv_in=caches))
    assert relative_error(read.sample, told.sample) <= 1e-6
    other = predict(model, params, silent, Ports(kv_in=jax.tree.map(lambda x: 0.5 * x, caches)))
    assert relative_error(other.sample, told.sample) > 1e-2


def test_a_cached_condition_equals_one_that_walks_along(published, params):
    """In values, and in the gradients of the condition and its adapters."""
    model = Wan(CONFIG, lora=(CONDITION_RULE,), remat="full")
    adapters = adapters_of(params, model.lora)
    given = {**drawn(), **CONDITION}

    @functools.partial(jax.value_and_grad, has_aux=True)
    def cached(leaves):
        tree = {**params, "lora": leaves["lora"]}
        bound = model.bind({"params": tree})
        walked = bound.blocks(
            {"condition": leaves["condition"]},
            {"condition": bound.embed_time(given["clean"])},
            {"text": bound.embed_text(jnp.asarray(given["text"]))},
            GRID,
            Ports(kv_out=("condition",)),
        )
        out = predict(model, tree, drawn(), Ports(kv_in=walked.caches)).sample
        return jnp.mean(out**2), out

    (_, got), slopes = jax.jit(cached)({"lora": adapters, "condition": given["condition"]})
    leaf = tensor(given["condition"]).requires_grad_()
    leaves, hooked = torch_terms(published, adapters, CONDITION_RULE)
    with low_rank(hooked, slice(TOKENS, None)):
        want = Walk(published)(**{**given, "condition": leaf})
        torch.mean(want**2).backward()
    assert relative_error(got, want.detach()) <= 1e-5
    assert relative_error(slopes["condition"], leaf.grad) <= 1e-4
    ours = slopes["lora"][CONDITION_RULE.name]["blocks"]["attn"]["k"]
    for place in range(len(SUBSET)):
        for side, term in zip("ab", leaves["attn", "k", place], strict=True):
            assert relative_error(ours[side][place], term.grad) <= 1e-4


def test_the_steps_of_a_call_are_the_call(with_image):
    config, params, given = with_image

    @jax.jit
    def steps(params, given):
        model = Wan(config).bind({"params": params})
        time = model.embed_time(given["timestep"])
        context = {
            "text": model.embed_text(given["text"]),
            "image": model.embed_image(given["image"]),
        }
        video = model.embed_video(given["latents"])
        walked = model.blocks({"video": video}, {"video": time}, context, GRID)
        return model.head(walked.streams["video"], time, GRID)

    want = predict(Wan(config), params, given).sample
    np.testing.assert_array_equal(steps(params, given), want)
    arguments = given["latents"], given["timestep"], given["text"]
    called = jax.jit(Wan(config).apply)({"params": params}, *arguments, image=given["image"])
    np.testing.assert_array_equal(called, want)


def test_an_unused_port_leaves_the_program_unchanged(params):
    def program(model: Wan, ports):
        def run(params, given):
            return predict.__wrapped__(model, params, given, ports).sample

        return jax.jit(run).lower(params, drawn()).as_text()

    plain = program(Wan(CONFIG), None)
    assert program(Wan(CONFIG), Ports()) == plain
    residuals = Residuals(values=jnp.zeros((1, BATCH, TOKENS, WIDTH)), layers=(1,))
    assert program(Wan(CONFIG), Ports(residuals=residuals)) != plain
