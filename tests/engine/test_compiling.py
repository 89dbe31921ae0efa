"""The compiler works while the arguments of its program are made, and its errors arrive."""

import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.engine import train
from tavid_jax.engine.compiling import compile_behind
from tests.engine import toy


class Slow(jax.stages.Lowered):
    """For a compiler that waits."""

    def __init__(self, error: Exception | None = None):
        self.go, self.error = threading.Event(), error

    def compile(self) -> str:
        assert self.go.wait(60)
        if self.error is not None:
            raise self.error
        return "compiled"


def test_the_caller_goes_on():
    one = Slow()
    made = compile_behind(one)
    assert not made.done()
    one.go.set()
    assert made.result(60) == "compiled"


def test_what_the_compiler_raises():
    one = Slow(MemoryError("too large"))
    one.go.set()
    with pytest.raises(MemoryError, match="too large"):
        compile_behind(one).result(60)


def test_it_is_the_program():
    like = jax.ShapeDtypeStruct((3,), jnp.float32)
    run = compile_behind(jax.jit(lambda x: 2 * x).lower(like)).result()
    np.testing.assert_array_equal(run(jnp.arange(3.0)), [0, 2, 4])


def test_the_step_is_compiled_while_weights_and_data_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The compiler is let go when the first batch has been made: nothing before it may wait."""
    made, said = threading.Event(), []
    real_compile, real_initialise = train.compile_behind, train.initialise

    class Waiting(jax.stages.Lowered):
        def __init__(self, lowered):
            self.lowered = lowered

        def compile(self):
            said.append("compiler")
            assert made.wait(60), "something waits for the compiler"
            return self.lowered.compile()

    def initialise(*args, **options):
        said.append("weights")
        return real_initialise(*args, **options)

    monkeypatch.setattr(train, "compile_behind", lambda lowered: real_compile(Waiting(lowered)))
    monkeypatch.setattr(train, "initialise", initialise)
    results = toy.run(tmp_path, inputs=toy.ToyInputs(at=lambda step, arrays: made.set()))
    assert sorted(said) == ["compiler", "weights"]
    assert results.curves["fit"][-1]["step"] == toy.STEPS


def test_a_finished_stage_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed between its last save and its end."""
    toy.run(tmp_path)
    (tmp_path / "stages" / "fit" / "done.json").unlink()

    def never(lowered):
        raise AssertionError("compiled")

    monkeypatch.setattr(train, "compile_behind", never)
    assert toy.run(tmp_path).curves["fit"][-1]["step"] == toy.STEPS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda arrays: arrays.update(weight=arrays["weight"] > 0),
            "'weight' is bool[8], not float",
        ),
        (lambda arrays: arrays.update(more=arrays["weight"]), "'more' is float32[8], not missing"),
    ],
)
def test_data_that_are_not_as_the_spec_says(tmp_path: Path, straight: Path, caplog, change, said):
    """The step is compiled once more, for them, and comes to the same."""
    with caplog.at_level("INFO", "absl"):
        toy.run(tmp_path, inputs=toy.ToyInputs(at=lambda step, arrays: change(arrays)))
    (line,) = [r.getMessage() for r in caplog.records if "compiled anew" in r.getMessage()]
    assert f"specs of Fit say: {said}" in line
    toy.assert_same_bits(toy.saved_state(tmp_path), toy.saved_state(straight))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda arrays: arrays.update(x=arrays["x"][:, 1:]),
            r"'x' is float32\[8, 7\], not float32\[8, 8\]",
        ),
        (lambda arrays: arrays.pop("weight"), r"'weight' is missing, not float32\[8\]"),
    ],
)
def test_a_batch_unlike_the_first(tmp_path: Path, change, said: str):
    inputs = toy.ToyInputs(at=lambda step, arrays: change(arrays) if step == 2 else None)
    with pytest.raises(ValueError, match=f"fit: batches differ, {said}"):
        toy.run(tmp_path, inputs=inputs)
