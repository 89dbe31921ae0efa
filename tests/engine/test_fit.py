"""What is compiled ahead is the step that trains: its arguments, types, places and donation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from tavid_jax.engine.fit import fit, short, size
from tavid_jax.engine.method import Method, Phase, Spec
from tavid_jax.engine.placement import abstract_params, split_trainable
from tavid_jax.engine.program import Program
from tavid_jax.models.layers.conv import conv
from tavid_jax.parallel.ahead import GIB
from tavid_jax.parallel.gpus import GPUS
from tavid_jax.parallel.mesh import make_mesh
from tests.engine import toy

WIDTH, RANK, BATCH = 64, 4, 8


class Adapter(Method):
    """A frozen bf16 matrix with a trained low-rank addition in fp32."""

    trainable_paths = ("lora/.*",)

    def encoded_spec(self):
        return {"x": Spec((WIDTH,), np.float32, ("embed",))}

    def init(self, rng):
        down, up = jnp.zeros((WIDTH, RANK)), jnp.zeros((RANK, WIDTH))
        return {"base": jnp.zeros((WIDTH, WIDTH), jnp.bfloat16), "lora": {"a": down, "b": up}}

    def loss(self, params, batch, rng, step):
        assert params["base"].dtype == jnp.bfloat16 and params["lora"]["a"].dtype == jnp.float32
        h = batch["x"] @ params["base"].astype(jnp.float32)
        y = h + batch["x"] @ params["lora"]["a"] @ params["lora"]["b"]
        return (jnp.sum(y**2), jnp.float32(len(y))), {}

    def phases(self):
        return {"sample": Phase(self.sample_step, self.init, self.encoded_spec())}

    def sample_step(self, params, batch, rng):
        return {"x": batch["x"] @ params["base"].astype(jnp.float32)}


class Huge(Adapter):
    def init(self, rng):
        return super().init(rng) | {"unread": jnp.zeros((2**20, 2**20), jnp.bfloat16)}


def config(mesh: dict | None = None, **changes) -> ConfigDict:
    made = toy.toy_config(**dict(micro_batches=1, ema=0.0) | changes)
    made.mesh = dict(replica=1, fsdp=-1, context=1, tensor=1) | (mesh or {})
    made.order = ("fit",)
    return made


def fit_adapter(**options):
    return fit(config(), toy.ToySystem(fit=Adapter()), "cpu:1", **options)


def test_arguments_are_all_that_training_holds():
    answer = fit_adapter()
    assert (answer.stage, answer.what, answer.batch) == ("fit", "train", BATCH)
    assert (answer.trained, answer.frozen) == (2 * WIDTH * RANK, WIDTH * WIDTH)
    assert answer.frozen_dtypes == ("bfloat16",)
    weights, lora, batch = 2 * WIDTH**2, 4 * 2 * WIDTH * RANK, 4 * BATCH * WIDTH
    held = weights + 3 * lora + batch  # two moments beside the trained weights
    assert held <= answer.report.arguments_bytes <= held + 64  # counters, and the key


def test_work_is_that_of_the_adapter_alone():
    # Forward: the matrix, and both factors. Backward: nothing for the matrix or the input.
    forward = 2 * BATCH * (WIDTH * WIDTH + 2 * WIDTH * RANK)
    backward = 2 * BATCH * 3 * WIDTH * RANK
    assert fit_adapter().count.flops == forward + backward


def test_batch_per_chip_replaces_the_stages():
    half, usual = fit_adapter(batch_per_chip=BATCH // 2), fit_adapter()
    assert half.batch == BATCH // 2
    assert half.count.flops * 2 == usual.count.flops


def test_sampling_holds_weights_and_states():
    answer = fit_adapter(what="sample", batch_per_chip=3)
    assert answer.batch == 3
    assert answer.count.flops == 2 * 3 * WIDTH * WIDTH
    assert fit_adapter(what="sample").batch == 1


def test_weights_of_any_size_are_only_shapes():
    """2 TiB of frozen weights: nothing of it is ever allocated, nor differentiated."""
    program = Program(Huge(), config().stages.fit, make_mesh())
    trainable, frozen = split_trainable(program.method, abstract_params(Huge(), program.mesh))
    state = program.abstract_state(trainable)
    lowered = program.jitted_step(state).lower(state, frozen, program.abstract_batch())
    donated = [leaf.donated for leaf in jax.tree.leaves(lowered.args_info)]
    assert donated == [True] * len(jax.tree.leaves(state)) + [False] * 3


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_the_step_keeps_types_and_shapes(micro_batches: int):
    """Otherwise the donated state could not be reused, and the second step would compile again."""
    stage = config(ema=0.9).stages.fit
    stage.micro_batches = micro_batches
    program = Program(Adapter(), stage, make_mesh())
    trainable, frozen = split_trainable(program.method, abstract_params(Adapter(), program.mesh))
    state = program.abstract_state(trainable)
    after, _ = jax.eval_shape(program.step(), state, frozen, program.abstract_batch())
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(after), strict=True
    ):
        assert (old.shape, old.dtype) == (new.shape, new.dtype), path


def test_shapes_are_those_of_the_arrays_that_train(straight):
    """The abstract state against one that a run has saved."""
    method, stage = toy.Fit(), toy.toy_config().stages.fit
    program = Program(method, stage, make_mesh())
    trainable, _ = split_trainable(method, abstract_params(method, program.mesh))
    state = program.abstract_state(trainable).replace(rng=None)
    saved = {path: a for path, a in toy.saved_state(straight).items() if "rng" not in path}
    expected = [(value.shape, value.dtype) for value in saved.values()]
    found = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_the_heaviest_stage_is_the_default():
    class Light(Adapter):
        def loss(self, params, batch, rng, step):
            return (jnp.sum(params["lora"]["a"]), jnp.float32(1)), {}

    made = config()
    made.stages.light = made.stages.fit
    made.order = ("light", "fit")
    system = toy.ToySystem(fit=Adapter(), light=Light())
    assert fit(made, system, "cpu:1").stage == "fit"
    assert fit(made, system, "cpu:1", stage="light").stage == "light"


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, dict(stage="fti"), "no train stage 'fti': choose of fit"),
        ({}, dict(what="dream"), "choose of train, sample, encode"),
        (dict(mesh=dict(context=2)), {}, "--config.mesh.context=1"),
    ],
)
def test_bad_questions(changes: dict, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        fit(config(**changes), toy.ToySystem(fit=Adapter()), "cpu:1", **options)


def test_a_method_without_a_sampling_step_is_named():
    with pytest.raises(ValueError, match="has no phase 'sample': none has; use --what=train"):
        fit(config(), toy.ToySystem(), "cpu:1", what="sample")


class Convolver(Adapter):
    def phases(self):
        shape = {"x": Spec((1, 64, 64, 96), np.float32, (None, "rows", None, None))}
        return {"decode": Phase(self.convolve, self.init_kernel, shape)}

    def init_kernel(self, rng):
        return {"kernel": jnp.zeros((3, 3, 96, 96)), "bias": jnp.zeros((96,))}

    def convolve(self, params, batch, rng):
        return {"x": conv(params, batch["x"][:, 0], jnp.float32, padding=((1, 1), (1, 1)))}


def test_operations_are_those_of_the_model_not_of_a_chip():
    """CPUs convolve by a way that multiplies less; the count does not say so."""
    answer = fit(config(), toy.ToySystem(fit=Convolver()), "cpu:1", what="decode")
    borders = (64 * 3 - 2) ** 2 / (64 * 3) ** 2
    products = 2 * 9 * 96 * 96 * 64 * 64
    assert borders * products <= answer.count.flops <= 1.01 * products


def test_table_says_what_is_missing():
    answer = fit_adapter()
    assert "trained, 4.10 k frozen (bfloat16)" in answer.table()
    report = dataclasses.replace(
        answer.report, peak_bytes=20 * GIB, limit_bytes=16 * GIB, fits=False
    )
    table = dataclasses.replace(answer, report=report).table()
    assert "peak         20.00 GiB per chip of 16.00 GiB (125.0 %)" in table
    assert "fits         NO: 4.00 GiB per chip are missing" in table
    assert "collectives  not known" in table


def test_numbers_for_people():
    assert [short(n) for n in (0, 999, 1000, 1.5e12)] == ["0", "999", "1.00 k", "1.50 T"]
    assert [size(n) for n in (2**20, GIB)] == ["1.00 MiB", "1.00 GiB"]


def test_an_estimate_holds_what_the_compiled_step_holds():
    compiled, guess = fit_adapter(), fit_adapter(estimated=True)
    assert guess.report.estimated and guess.report.fits
    held = compiled.report.arguments_bytes
    assert held - 64 <= guess.report.arguments_bytes <= held + 64
    # Of a step this small: gradients, the product and its error, give or take.
    assert 0 < guess.report.temporaries_bytes < 4 * compiled.report.temporaries_bytes
    assert "ESTIMATE" in guess.table() and "collectives" not in guess.table()


def test_gpus_are_estimated():
    one, eight = (fit(config(), toy.ToySystem(fit=Adapter()), f"h100:{count}") for count in (1, 8))
    assert one.report.estimated and one.report.limit_bytes == GPUS["h100"].limit_bytes
    assert (one.report.chips, eight.report.chips) == (1, 8)
    # Eight of them share the batch.
    assert eight.report.temporaries_bytes < one.report.temporaries_bytes
    assert "at least, at the peak of bfloat16" in one.table()
    with pytest.raises(ValueError, match="h100:1: only a training step can be estimated"):
        fit(config(), toy.ToySystem(fit=Adapter()), "h100:1", what="sample")
