"""The pure step: accumulation is the big batch, bad steps change nothing, masters stay fp32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tavid_jax.engine.method import Method
from tavid_jax.engine.state import (
    accumulate,
    example_keys,
    init_state,
    make_train_step,
    update_ema,
)
from tests.engine import toy

BATCH = 8


class Encoded(toy.Fit):
    """The toy with a random encoder in front."""

    def encode(self, params, batch, rng):
        shift = jax.vmap(lambda key: jax.random.normal(key, (toy.DIM,)))(rng)
        return {**batch, "x": batch["x"] + shift}


class Quadratic(Method):
    trainable_paths = ("w",)

    def loss(self, params, batch, rng, step):
        error = params["w"][None] - batch["x"]
        return ((error**2).sum(), jnp.asarray(error.shape[0], jnp.float32)), {}


def toy_batch() -> dict[str, jax.Array]:
    examples = [toy.example(i) for i in range(BATCH)]
    return {k: jnp.stack([e[k] for e in examples]) for k in examples[0]}


def toy_params(method: Method) -> tuple[dict, dict]:
    params = method.init(jax.random.key(0))
    frozen = {"stats": params["stats"], "net": {"table": params["net"].pop("table")}}
    return {"net": params["net"]}, frozen


def gradient(micro_batches: int, batch: dict[str, jax.Array], encode: bool = True):
    method = Encoded()
    trainable, frozen = toy_params(method)

    def compute(trainable, frozen, batch):
        key, step = jax.random.key(1), jnp.int32(5)
        options = dict(encode=encode, micro_batches=micro_batches)
        return accumulate(method, trainable, frozen, batch, key, step, **options)

    return jax.jit(compute)(trainable, frozen, batch)


@pytest.mark.parametrize("micro_batches", [2, 8])
def test_accumulation_is_the_big_batch(micro_batches: int):
    """Also where micro-batches have different weights, one of them none at all."""
    batch = toy_batch()
    batch["weight"] = batch["weight"].at[:4].set(0.0)
    whole, ratios = gradient(1, batch)
    parts, part_ratios = gradient(micro_batches, batch)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        # Float32 sums in another order: small entries carry the rounding of the large ones.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * np.abs(a).max())
    for a, b in zip(jax.tree.leaves(ratios), jax.tree.leaves(part_ratios), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert set(ratios) == {"loss", "mae"}


def test_gradient_is_that_of_the_weighted_mean():
    batch = toy_batch()
    method = toy.Fit()
    trainable, frozen = toy_params(method)
    keys = example_keys(jax.random.key(1), jnp.int32(5), 1, BATCH)

    def mean(weights):
        total = 0.0
        for i in range(BATCH):  # example by example
            one = {k: v[i : i + 1] for k, v in batch.items()}
            params = {"net": weights["net"] | frozen["net"], "stats": frozen["stats"]}
            total += method.loss(params, one, keys[i : i + 1], 5)[0][0]
        return total / batch["weight"].sum()

    expected = jax.grad(mean)(trainable)
    found, _ = gradient(2, batch, encode=False)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_noise_depends_on_step_consumer_and_example():
    def words(step: int, consumer: int) -> np.ndarray:
        keys = example_keys(jax.random.key(1), jnp.int32(step), consumer, BATCH)
        return np.asarray(jax.random.key_data(keys))

    rows = np.concatenate([words(0, 0), words(0, 1), words(1, 0)])
    assert len(np.unique(rows, axis=0)) == 3 * BATCH
    np.testing.assert_array_equal(words(1, 0), words(1, 0))


def test_batch_that_does_not_split_is_refused():
    with pytest.raises(ValueError, match="batch of 8 does not split into 3 micro_batches"):
        gradient(3, toy_batch())
    with pytest.raises(ValueError, match="same batch axis first.*'fps': None"):
        gradient(2, {**toy_batch(), "fps": jnp.float32(24)})


def test_a_batch_without_any_weight_gives_a_zero_gradient():
    grads, ratios = gradient(2, {**toy_batch(), "weight": jnp.zeros(BATCH)})
    assert ratios["loss"][1] == 0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("where", ["one example", "all"])
def test_nan_in_a_batch_changes_no_weight(where: str):
    method, optimizer = toy.Fit(), optax.adam(0.1)
    trainable, frozen = toy_params(method)
    state = init_state(trainable, optimizer, jax.random.key(0), ema=True)
    step = jax.jit(
        make_train_step(
            method, optimizer, optax.constant_schedule(0.1), encode=False, ema_decay=0.9
        )
    )
    good = toy_batch()
    rows = slice(4, 5) if where == "one example" else slice(None)
    bad = {**good, "x": good["x"].at[rows, 0].set(jnp.nan)}
    state, _ = step(state, frozen, good)
    after, metrics = step(state, frozen, bad)
    for name in ("trainable", "opt_state", "ema"):
        old, new = getattr(state, name), getattr(after, name)
        toy.assert_same_bits(toy_leaves(old), toy_leaves(new))
    assert (after.step, after.skipped, after.streak, after.streak_start) == (2, 1, 1, 1)
    assert metrics["streak"] == 1
    after, _ = step(after, frozen, bad)
    assert (after.skipped, after.streak, after.streak_start) == (2, 2, 1)
    after, _ = step(after, frozen, good)
    assert (after.skipped, after.streak, after.streak_start) == (2, 0, -1)
    moved = after.trainable["net"]["head"]["kernel"] - state.trainable["net"]["head"]["kernel"]
    assert np.abs(moved).max() > 0.01


def toy_leaves(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def test_ema_values():
    """Decay (1+n)/(10+n) while that is below the asked one: 0.1, 2/11, then at most 0.15."""
    ema, seen = {"w": jnp.zeros(2)}, []
    for step, new in enumerate([1.0, 2.0, 3.0]):
        ema = update_ema(ema, {"w": jnp.full(2, new)}, jnp.int32(step), 0.15)
        seen.append(float(ema["w"][0]))
    first = 0.9 * 1.0
    second = 0.15 * first + 0.85 * 2.0
    np.testing.assert_allclose(seen, [first, second, 0.15 * second + 0.85 * 3.0], rtol=1e-6)
    assert update_ema(None, {"w": jnp.ones(2)}, jnp.int32(0), 0.15) is None


def test_ema_looks_back_over_a_share_of_the_run():
    """Decay 1 - 1/(1 + n/2): 0 at first, so the initialisation is forgotten, then 1/3, then 0.4."""
    ema, seen = {"w": jnp.full(2, 100.0)}, []
    for step, new in enumerate([1.0, 2.0, 3.0]):
        ema = update_ema(ema, {"w": jnp.full(2, new)}, jnp.int32(step), 0.4, 0.5)
        seen.append(float(ema["w"][0]))
    second = 1 / 3 + 2 / 3 * 2.0
    np.testing.assert_allclose(seen, [1.0, second, 0.4 * second + 0.6 * 3.0], rtol=1e-6)

    # 4 % of a long run: the mean age of what is averaged, 0.04 n.
    def body(step, mean):
        return update_ema(mean, {"w": step.astype(jnp.float32)}, step, 0.998, 0.04)

    mean = jax.lax.fori_loop(0, 2000, body, {"w": jnp.float32(0)})["w"]
    assert 70 < 2000 - mean < 85


@pytest.mark.parametrize("window", [0.0, 0.3])
def test_average_goes_on_to_the_same_bits_from_a_saved_state(window: float):
    method, optimizer = toy.Fit(), optax.adam(0.1)
    trainable, frozen = toy_params(method)
    step = jax.jit(
        make_train_step(
            method,
            optimizer,
            optax.constant_schedule(0.1),
            encode=False,
            ema_decay=0.9,
            ema_window=window,
        )
    )
    state = init_state(trainable, optimizer, jax.random.key(0), ema=True)
    for _ in range(2):
        state, _ = step(state, frozen, toy_batch())
    words = jax.random.key_data(state.rng)
    saved = jax.tree.map(np.asarray, state.replace(rng=words))
    restored = jax.tree.map(jnp.asarray, saved)
    restored = restored.replace(rng=jax.random.wrap_key_data(restored.rng))
    for _ in range(2):
        state, _ = step(state, frozen, toy_batch())
        restored, _ = step(restored, frozen, toy_batch())
    toy.assert_same_bits(toy_leaves(state.ema), toy_leaves(restored.ema))
    spread = [
        np.abs(a - b).max()
        for a, b in zip(*map(jax.tree.leaves, (state.ema, state.trainable)), strict=True)
    ]
    assert max(spread) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(ema_decay=1.0), r"ema 1.0 must lie in \[0, 1\)"),
        (dict(ema_decay=0.9, ema_window=4), "ema_window 4 must be a share of the steps"),
        (dict(ema_window=0.04), "ema_window 0.04 .* needs ema above 0"),
    ],
)
def test_averages_that_cannot_be(options: dict, message: str):
    schedule = optax.constant_schedule(0.1)
    with pytest.raises(ValueError, match=message):
        make_train_step(toy.Fit(), optax.adam(0.1), schedule, encode=False, **options)


def test_masters_moments_and_average_are_fp32_under_bf16_weights():
    weights = {"w": jnp.ones(4, jnp.bfloat16), "table": jnp.arange(2)}
    state = init_state(weights, optax.adam(0.1), jax.random.key(0), ema=True)
    adam = state.opt_state[0]
    for tree in (state.trainable, state.ema, adam.mu, adam.nu):
        assert tree["w"].dtype == jnp.float32
    assert state.trainable["table"].dtype == jnp.int32


def test_step_counts_reports_and_descends():
    optimizer = optax.sgd(0.1)
    state = init_state({"w": jnp.zeros(3)}, optimizer, jax.random.key(0), ema=False)
    step = make_train_step(
        Quadratic(), optimizer, optax.linear_schedule(0.1, 0.0, 10), encode=False
    )
    batch = {"x": jnp.ones((4, 3))}
    state, metrics = step(state, {}, batch)
    np.testing.assert_allclose(state.trainable["w"], 0.2, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 3.0)
    np.testing.assert_allclose(metrics["grad_norm"], 2 * 3**0.5, rtol=1e-6)
    np.testing.assert_allclose(metrics["learning_rate"], 0.1, rtol=1e-6)
    _, metrics = step(state, {}, batch)
    np.testing.assert_allclose(metrics["learning_rate"], 0.09, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 3 * 0.8**2, rtol=1e-6)
