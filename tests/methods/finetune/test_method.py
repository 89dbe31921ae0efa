"""Fine-tuning's loss and sampling step against the bare models; training by the engine's step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.engine import trees
from tavid_jax.engine.method import Arrays, Params
from tavid_jax.engine.placement import split_trainable
from tavid_jax.engine.program import Program
from tavid_jax.methods.finetune.method import BACKBONE, Finetune
from tavid_jax.parallel.mesh import make_mesh
from tests.methods.finetune import tiny

STEPS = 12


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    """These tests compile a lot and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def keys(size: int = 2) -> jax.Array:
    return jax.random.split(jax.random.key(3), size)


def bare(method: Finetune, params: Params, state, timestep, batch: Arrays, text) -> np.ndarray:
    """The model alone, its input channels put together one by one."""
    config = method.backbone.model.config
    noisy, given = config.out_channels, state.shape[1]
    full = np.zeros((*state.shape[:-1], config.in_channels), np.float32)
    full[..., :noisy] = state
    options = {}
    if "image" in batch:  # CogVideoX: beside the first latent frame only
        full[:, 0, ..., noisy:] = batch["image"]
    if "condition" in batch:  # Wan: 16 noisy, 4 mask, 16 condition
        for frame in range(given):
            for channel in range(4):
                mask = np.asarray(batch["given"])[:, frame, channel]
                full[:, frame, ..., 16 + channel] = mask[:, None, None]
        full[..., 20:] = batch["condition"]
    if "clip" in batch:
        options["image"] = batch["clip"]
    if method.backbone.given_frames:
        # One timestep for every latent frame; that of the given one is zero.
        timestep = jnp.stack([jnp.zeros_like(timestep), *[timestep] * (given - 1)], axis=1)
    apply = jax.jit(method.backbone.model.apply)
    variables = {"params": params[BACKBONE]}
    return np.asarray(apply(variables, jnp.asarray(full), timestep, text, **options))


# All but the 2B model, whose only difference is the schedule.
@pytest.mark.parametrize("name", [name for name in tiny.VARIANTS if name != "cogvideox 2b"])
def test_loss_is_that_of_the_bare_model(name: str):
    method = tiny.method(name)
    params, batch = tiny.random_params(method), tiny.batch_of(method.encoded_spec())
    (total, weight), logs = jax.jit(method.loss)(params, batch, keys(), jnp.int32(0))
    noised = method.objective.noised(batch["video"], keys())
    state, first = np.array(noised.state), int("ti2v" in name)
    state[:, :first] = batch["video"][:, :first]
    out = bare(method, params, state, noised.timestep, batch, batch["text"])
    squared = (out - np.asarray(noised.target))[:, first:].astype(np.float64) ** 2
    np.testing.assert_allclose(total / weight, squared.mean(), rtol=1e-5)
    assert weight == 2 and total.dtype == jnp.float32
    np.testing.assert_array_equal(logs["denoising"][0], total)


@pytest.mark.parametrize("name", ["cogvideox i2v", "wan i2v", "wan ti2v"])
def test_sampling_step_guides_two_evaluations(name: str):
    method = tiny.method(name)
    params, batch = tiny.random_params(method), tiny.batch_of(method.sample_spec())
    guidance, keep, move = np.array([[6.0, 3.5], [0.9, 0.5], [-0.3, 0.2]], np.float32)
    batch |= dict(timestep=jnp.array([999.0, 250.0]), guidance=guidance, keep=keep, move=move)
    step = jax.jit(method.sample_step)
    found = step(params, batch, keys())
    state = batch["video"]
    given, without = (
        bare(method, params, state, batch["timestep"], batch, batch[text])
        for text in ("text", "negative")
    )
    assert np.abs(given - without).max() > 1e-2  # the text matters

    def over(x):
        return np.asarray(x).reshape(-1, 1, 1, 1, 1)

    out = without + over(guidance) * (given - without)
    first = int("ti2v" in name)
    expected = over(keep) * np.asarray(state) + over(move) * out
    expected[:, :first] = state[:, :first]
    assert set(found) == {"video"}
    np.testing.assert_allclose(found["video"], expected, rtol=1e-4, atol=1e-4)
    # A guidance of one is the conditional prediction.
    alone = step(
        params, batch | dict(guidance=jnp.ones(2), keep=0 * keep, move=0 * move + 1), keys()
    )
    np.testing.assert_allclose(alone["video"][:, first:], given[:, first:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", tiny.VARIANTS)
def test_only_the_adapters_are_trained_and_in_float32(name: str):
    method = tiny.method(name, dtype="bfloat16")
    shapes = jax.eval_shape(method.init, jax.random.key(0))
    trained, frozen = (trees.flatten(tree) for tree in split_trainable(method, shapes))
    assert set(trained) == {p for p in trees.flatten(shapes) if p.startswith("backbone/lora/")}
    blocks = 2 if "wan" in name else 1  # self- and cross-attention, or one for both
    assert len(trained) == blocks * 4 * 2  # q, k, v and o; a and b
    assert {leaf.dtype.name for leaf in trained.values()} == {"float32"}
    assert {leaf.dtype.name for leaf in frozen.values()} == {"bfloat16"}


@pytest.mark.parametrize("name", ["cogvideox i2v", "wan i2v"])
def test_the_path_table_knows_the_parameters(name: str):
    """Their paths begin one node above those of the models."""
    method = tiny.method(name)
    shapes = jax.eval_shape(method.init, jax.random.key(0))
    assert method.sharding.unused(shapes) == []


@pytest.mark.parametrize("name", ["cogvideox i2v", "wan i2v"])
def test_without_rules_all_weights_are_trained_in_float32(name: str):
    method = tiny.method(name, lora=(), dtype="bfloat16")
    shapes = jax.eval_shape(method.init, jax.random.key(0))
    trained, frozen = split_trainable(method, shapes)
    # CogVideoX's table of positions is no parameter in the published code.
    assert list(trees.flatten(frozen)) == (["backbone/pos_embed"] if "cog" in name else [])
    assert not [path for path in trees.flatten(trained) if "lora" in path]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(trained)} == {"float32"}


def start(variant: str, micro_batches: int = 1, **optimizer: Any):
    """(method, program, state, frozen weights) of a run's beginning."""
    config = tiny.config(variant)
    stage = config.stages.finetune
    stage.optimizer.update(dict(lr=2e-2, schedule="constant", warmup=0, weight_decay=0) | optimizer)
    stage.micro_batches = micro_batches
    method = tiny.method(variant)
    program = Program(method, stage, make_mesh(devices=jax.devices()[:1]))
    params = tiny.random_params(method)
    trainable, frozen = split_trainable(method, params)
    # As initialised: B is zero.
    trainable = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.zeros_like(x) if path[-1].key == "b" else x, trainable
    )
    return method, program, program.build(trainable, jax.random.key(5)), frozen


@pytest.mark.parametrize("name", ["cogvideox i2v", "wan t2v", "wan i2v"])
def test_a_few_steps_of_the_engine_lower_the_loss(name: str):
    method, program, state, frozen = start(name)
    batch = tiny.batch_of(method.encoded_spec())
    before = {path: np.array(x) for path, x in trees.flatten(frozen).items()}
    begun = trees.flatten(jax.device_get(state.trainable))
    loss = jax.jit(lambda t: method.loss(trees.merge(frozen, t), batch, keys(), jnp.int32(0))[0])
    first = loss(state.trainable)
    step = jax.jit(program.step())
    for _ in range(STEPS):
        state, metrics = step(state, frozen, batch)
    assert int(state.step) == STEPS and int(state.skipped) == 0
    assert {"loss", "denoising", "grad_norm"} <= set(metrics)
    # On the same noise; the steps have seen other noise each.
    assert loss(state.trainable)[0] < 0.9 * first[0]
    for path, x in trees.flatten(state.trainable).items():
        assert np.any(np.asarray(x) != begun[path]), f"{path} was not trained"
    for path, x in trees.flatten(frozen).items():
        np.testing.assert_array_equal(x, before[path], err_msg=path)


def test_accumulated_gradients_are_those_of_one_batch():
    found = {}
    for micro_batches in (1, 2):
        method, program, state, frozen = start("wan i2v", micro_batches, name="sgd", lr=1.0)
        batch = tiny.batch_of(method.encoded_spec(), 4)
        found[micro_batches] = jax.jit(program.step())(state, frozen, batch)
    (whole, metrics), (parts, again) = found[1], found[2]
    np.testing.assert_allclose(again["loss"], metrics["loss"], rtol=1e-5)
    old, wanted = trees.flatten(state.trainable), trees.flatten(whole.trainable)
    for path, x in trees.flatten(parts.trainable).items():
        one = wanted[path]
        assert np.any(one != old[path]) or path.endswith("/a")  # behind a B of zeros
        np.testing.assert_allclose(x, one, rtol=1e-4, atol=1e-6, err_msg=path)
