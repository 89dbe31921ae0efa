"""TGT as a method: what is trained, what examples hold, what is dropped, and a guided step."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.engine import trees
from tavid_jax.engine.placement import split_trainable
from tavid_jax.methods.finetune.method import BACKBONE, NULL_TEXT, TEXT, Finetune
from tavid_jax.methods.finetune.pretrained import Pretrained
from tavid_jax.methods.finetune.words import MASK, TOKENS
from tavid_jax.methods.tgt.draw import Draw
from tavid_jax.methods.tgt.method import LOCAL, LOCAL_MASK, LOCAL_TOKENS
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.pipelines.located import LOCAL_LENGTH, LOCAL_TEXT, NEAR, NODE, STRENGTH
from tavid_jax.pipelines.locating import pairs_of
from tavid_jax.weights.table import walk
from tests.methods.finetune.tiny import random_params
from tests.methods.tgt import small
from tests.methods.tgt.small import POINTS, POSITIONS, keys
from tests.pipelines import trained

OWN = f"{BACKBONE}/{NODE}/"


@pytest.fixture(scope="module")
def method():
    return small.method()


@pytest.fixture(scope="module")
def reader():
    """Reads clips."""
    return small.method(from_clips=True)


@pytest.fixture(scope="module")
def params(method):
    return random_params(method)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return small.scene()


@pytest.fixture(scope="module")
def learn():
    """(parameters, batch) -> the loss of two examples, each with its lambda, and its gradient."""
    method = small.method(strength=(0.0, 1.0))

    @jax.jit
    def made(params, batch):
        own, frozen = split_trainable(method, params)

        def loss(own):
            whole = trees.merge(own, frozen)
            total, weight = method.loss(whole, batch, keys(), jnp.int32(0))[0]
            return total / weight

        return jax.value_and_grad(loss)(own)

    drawn = method.conditions({}, {"text": jnp.zeros((2, 1, 1))}, keys())[STRENGTH]
    assert 0.05 < drawn.min() < drawn.max() - 0.05 < 0.9
    return made


# ---- what is trained ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("laca", "leaves"),
    [
        ({}, {f"{name}/{leaf}" for name in "qkvo" for leaf in ("kernel", "bias")}),
        (dict(rank=2), {f"{name}/{leaf}" for name in "qkvo" for leaf in "ab"}),
    ],
)
def test_the_new_attention_learns_and_nothing_else(laca: dict, leaves: set):
    method = small.method(laca=laca, from_clips=True)
    own, frozen = split_trainable(method, jax.eval_shape(method.init, jax.random.key(0)))
    norms = {"q_norm/scale", "k_norm/scale"}
    found = trees.flatten(own)
    assert set(found) == {OWN + leaf for leaf in leaves | norms}
    assert {leaf.dtype for leaf in found.values()} == {jnp.dtype("float32")}
    assert not any(path.startswith(OWN) for path in trees.flatten(frozen))


def test_every_part_of_it_gets_a_gradient_in_every_block(method, params, learn):
    """Tokens outside of all neighbourhoods read the prompt, those inside a text."""
    batch = small.batch_of(method)
    both, glob = (
        trees.flatten(learn(params, b)[1]) for b in (batch, method.backbone.null_local(batch))
    )
    for path, leaf in both.items():
        assert np.abs(leaf).reshape(len(leaf), -1).max(1).min() > 1e-7, path
        assert np.abs(leaf - glob[path]).max() > 1e-7, path


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A parameter of a checkpoint."""

    value: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def read(self) -> np.ndarray:
        return self.value


@pytest.mark.parametrize(
    ("laca", "names"),
    [
        ({}, ("q", "k", "v", "o", "q_norm", "k_norm")),
        (dict(layers=(1,)), ("q", "k", "v", "o", "q_norm", "k_norm")),
        (dict(rank=2), ("q_norm", "k_norm")),
    ],
)
def test_it_begins_as_a_copy_of_the_published_text_attention(laca: dict, names: tuple):
    base = trained.parts_of("wan")["transformer"].params
    stored = {f"{BACKBONE}/{path}": Leaf(leaf.astype(np.float16)) for path, leaf in walk(base)}
    method = small.method(laca=laca, outside=Pretrained(stored, {BACKBONE: "mark"}))
    leaves = method.pretrained()
    assert {path: leaf for path, leaf in leaves.items() if not path.startswith(OWN)} == stored
    own = {path.removeprefix(OWN): leaf for path, leaf in leaves.items() if path.startswith(OWN)}
    assert {path.split("/")[0] for path in own} == set(names)
    shapes = trees.flatten(jax.eval_shape(method.init, jax.random.key(0)))
    for path, leaf in own.items():
        want = stored[f"{BACKBONE}/blocks/cross/{path}"].value
        want = want[list(laca.get("layers", (0, 1)))]
        assert leaf.shape == shapes[OWN + path].shape and leaf.read().dtype == np.float32
        np.testing.assert_array_equal(leaf.read(), want)


def test_without_local_texts_the_copy_is_fine_tuning_for_any_lambda(method, params, learn):
    """At step 0 training loses nothing of the base."""
    start, batch = small.copied(params, method), small.batch_of(method)
    base = {name: node for name, node in start[BACKBONE].items() if name != NODE}
    bare = {name: x for name, x in batch.items() if name not in LOCAL}
    plain = Finetune(small.plain(), **small.parts())
    total, weight = jax.jit(plain.loss)({BACKBONE: base}, bare, keys(), jnp.int32(0))[0]
    want = float(total / weight)
    dropped = method.backbone.null_local(batch)
    assert float(learn(start, dropped)[0]) == pytest.approx(want, rel=1e-6)
    assert abs(float(learn(start, batch)[0]) - want) > 1e-4 * want
    assert abs(float(learn(params, dropped)[0]) - want) > 1e-4 * want


# ---- what is dropped ------------------------------------------------------------------------


def many(method, count: int = 400) -> dict[str, jax.Array]:
    one = small.batch_of(method, 1)
    return {name: jnp.repeat(x, count, axis=0) for name, x in one.items()}


def test_lambda_is_drawn_for_each_example(method):
    batch = {"text": jnp.zeros((400, 12, 16))}
    drawn = small.method(strength=(0.2, 0.8)).conditions({}, batch, keys(400))[STRENGTH]
    assert drawn.shape == (400,) and drawn.dtype == jnp.float32
    assert 0.2 <= drawn.min() < 0.25 and 0.75 < drawn.max() <= 0.8
    np.testing.assert_allclose(np.histogram(drawn, 3, (0.2, 0.8))[0], 400 / 3, rtol=0.25)
    np.testing.assert_array_equal(method.conditions({}, batch, keys(400))[STRENGTH], 0.5)


def test_an_example_is_dropped_alike_in_any_batch():
    method = small.method(local_dropout=0.5, strength=(0.1, 0.9))
    batch, rng = many(method, 4), keys(4)
    whole, conditions = method.conditions({}, batch, rng), jax.jit(method.conditions)
    for i in range(4):
        alone = conditions({}, {k: x[i : i + 1] for k, x in batch.items()}, rng[i : i + 1])
        for name, x in alone.items():
            np.testing.assert_array_equal(x[0], whole[name][i])


@pytest.mark.parametrize("null", ["drop", "empty"])
def test_local_texts_are_dropped_apart_from_the_prompt(null: str):
    """The paper's 0.8 and 0.1 make four kinds of examples."""
    method = small.method(local_dropout=0.25, text_dropout=0.5, null=null)
    batch, nothing = many(method), {NULL_TEXT: jnp.full((12, 16), 7.0)}
    made = jax.jit(method.conditions)(nothing, batch, keys(400))
    same = {name: (made[name] == batch[name]).reshape(400, -1).all(1) for name in batch}
    changed = NEAR if null == "drop" else (LOCAL_TEXT, LOCAL_LENGTH)
    assert {name for name in batch if not same[name].all()} == {"text", *changed}
    local, prompt = ~np.asarray(same[changed[0]]), ~np.asarray(same["text"])
    for share, kind in (
        (0.125, local & prompt),
        (0.125, local & ~prompt),
        (0.375, ~local & prompt),
    ):
        assert abs(kind.mean() - share) < 0.06
    if null == "drop":
        assert (made["near_token"][local] == method.backbone.tokens).all()
        assert (made["near_share"][local] == 0).all()
    else:
        assert (made[LOCAL_TEXT][local] == 7.0).all() and (made[LOCAL_LENGTH][local] == 1).all()


def test_the_empty_text_is_read_by_the_encoder_where_clips_are(reader):
    """The same as that of an example whose text is empty."""
    method = small.method(from_clips=True, local_dropout=1.0, null="empty")
    assert NULL_TEXT not in jax.eval_shape(method.init, jax.random.key(0))
    params, batch = random_params(method), many(method, 1)
    made = jax.jit(method.conditions)(params, batch, keys(1))
    empty = reader.phrases.read("")
    want = jax.jit(reader.phrases.features)(
        params[TEXT], jnp.asarray(empty[TOKENS])[None], jnp.asarray(empty[MASK])[None]
    )
    np.testing.assert_allclose(made[LOCAL_TEXT][0, 1, :-1], want[0], atol=1e-6)
    assert not made[LOCAL_TEXT][..., 1:, :].any()  # its end, and padding
    np.testing.assert_array_equal(made[LOCAL_LENGTH], 1)
    for name in NEAR:
        np.testing.assert_array_equal(made[name], batch[name])


# ---- examples -------------------------------------------------------------------------------


def test_what_a_clip_becomes(reader, clip: Clip):
    example, spec = reader.prepare(clip, np.random.default_rng(4)), reader.raw_spec()
    assert set(example) == {*spec, "id"}
    for name, one in spec.items():
        value = np.asarray(example[name])
        assert (value.shape, value.dtype) == (one.shape, one.dtype), name
    drawn = reader.draw(clip, np.random.default_rng(4))
    assert 1 <= drawn.num_points <= POINTS
    for name, want in zip(NEAR, pairs_of(reader.backbone, drawn), strict=True):
        np.testing.assert_array_equal(example[name], want)
    texts = [*drawn.texts, *[""] * (POINTS - drawn.num_points)]
    for i, text in enumerate(texts):
        told = reader.phrases.read(text)
        np.testing.assert_array_equal(example[LOCAL_TOKENS][i], told[TOKENS])
        np.testing.assert_array_equal(example[LOCAL_MASK][i], told[MASK])
    np.testing.assert_array_equal(example[LOCAL_LENGTH], example[LOCAL_MASK].sum(1))
    again = reader.prepare(clip, np.random.default_rng(4))
    other = reader.prepare(clip, np.random.default_rng(5))
    np.testing.assert_array_equal(again["near_token"], example["near_token"])
    assert (other["near_token"] != example["near_token"]).any()


def test_what_an_example_becomes(reader, clip: Clip):
    """Each local text is encoded as if it were alone; one position behind it is padding."""
    params = random_params(reader)
    example = reader.prepare(clip, np.random.default_rng(0))
    batch = {name: jnp.asarray(x)[None] for name, x in example.items() if name != "id"}
    encoded = jax.jit(reader.encode)(params, batch, keys(1))
    spec = reader.encoded_spec()
    assert set(encoded) == set(spec)
    for name, one in spec.items():
        assert encoded[name].shape[1:] == one.shape and encoded[name].dtype == one.dtype, name
    for name in (LOCAL_LENGTH, *NEAR):
        np.testing.assert_array_equal(encoded[name], batch[name])
    features = jax.jit(reader.phrases.features)(
        params[TEXT], batch[LOCAL_TOKENS][0, :1], batch[LOCAL_MASK][0, :1]
    )
    got = encoded[LOCAL_TEXT][0].astype(jnp.float32)
    np.testing.assert_allclose(got[0, :-1], features[0], atol=0.02 * np.abs(features).max())
    real = np.arange(POSITIONS) < example[LOCAL_LENGTH][:, None]
    assert not real.all(1).any() and not np.asarray(got)[~real].any()
    assert np.abs(np.asarray(got)[real]).max(-1).min() > 0


def test_clips_that_tell_nothing(reader, clip: Clip):
    for changes, message in (
        (dict(local_captions=()), "has no local captions"),
        (dict(tracks=None), "has no tracks"),
        (dict(video=clip.video[:5]), "training reads"),
    ):
        with pytest.raises(ClipError, match=message):
            reader.prepare(clip.replace(**changes), np.random.default_rng(0))


# ---- sampling -------------------------------------------------------------------------------


def test_a_guided_step_is_what_its_four_predictions_amount_to(method, params):
    spec, both = method.sample_spec(), small.batch_of(method)
    rng = np.random.default_rng(6)
    both["negative"] = jnp.asarray(rng.standard_normal(both["text"].shape), jnp.float32)
    numbers = dict(timestep=[900.0, 400.0], guidance=[3.0, 2.0], keep=[0.9, 0.8], move=[0.1, -0.2])
    both |= {name: jnp.array(value) for name, value in numbers.items()}
    assert set(both) == set(spec)
    got = jax.jit(method.sample_step)(params, both, jax.random.key(0))["video"]

    @jax.jit
    def asked(batch):
        given = {name: batch[name] for name in method.backbone.spec()}
        return method.backbone.predict(params[BACKBONE], batch["video"], batch["timestep"], given)

    bare = method.backbone.null_local(both)
    none, glob, loc, whole = (
        asked(b | text)
        for b, text in (
            (bare, {"text": both["negative"]}),
            (bare, {}),
            (both, {"text": both["negative"]}),
            (both, {}),
        )
    )
    scale, keep, move = (both[n][:, None, None, None, None] for n in ("guidance", "keep", "move"))
    out = none + scale * (whole - glob) + 0.8 * scale * (whole - loc)
    want = keep * both["video"] + move * out
    np.testing.assert_allclose(got, want, atol=2e-5 * float(jnp.abs(want).max()))
    assert np.abs(whole - glob).max() > 1e-2 and np.abs(loc - none).max() > 1e-2


def test_how_trajectories_are_read_is_kept(method):
    told = method.locate()
    assert told["points"] == POINTS and told["text_positions"] == POSITIONS
    assert told["rule"]["centre"] == "continuous" and told["laca"]["gaussian"] == "input"


# ---- what makes no sense --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(local_dropout=1.5), r"trajectories.local_dropout 1.5 must lie in \[0, 1\]"),
        (dict(null="none"), "trajectories.null 'none' is none of drop, empty"),
        (dict(strength=(0.6, 0.5)), "trajectories.strength .*: needs 0 <= low <= high <= 1"),
        (dict(strength=(0.0, 2.0)), "trajectories.strength"),
        (dict(draw=Draw(most=4)), "most 4: there is room for 3; raise trajectories.points"),
        (dict(from_clips=True, trains_text=True), "leaves the text encoder .* text.train to False"),
    ],
)
def test_values_that_make_no_sense(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        small.method(**options)


def test_adapters_are_refused():
    rules = (LoraRule("blocks/attn/q", rank=2),)
    adapted = small.backbone()
    adapted = type(adapted)(**{**vars(adapted), "model": adapted.model.clone(lora=rules)})
    with pytest.raises(ValueError, match=r"TGT trains no adapters: set model.lora to \(\)"):
        small.method(backbone=adapted)
