"""Parameters from outside: read one at a time, never initialised, remembered by a fingerprint."""

import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.engine import trees
from tavid_jax.engine.checkpoint import CheckpointError
from tavid_jax.engine.placement import InitError, fresh, initialise
from tavid_jax.parallel.mesh import make_mesh
from tests.engine import toy
from tests.engine.outside import Leaf, Pretrained, published

LAYERS = "net/layers/kernel"


def start(method: Pretrained, earlier: dict | None = None, **options) -> dict[str, jax.Array]:
    made = initialise(method, jax.random.key(0), make_mesh(), earlier or {}, **options)
    return trees.flatten(made)


def test_outside_comes_before_init_and_earlier_stages_before_outside():
    method = Pretrained()
    mean = np.full(toy.DIM, 7.0)
    params = start(method, {"stats": {"stats": {"mean": mean}}})
    values = published()
    np.testing.assert_array_equal(params[LAYERS], values[LAYERS])
    np.testing.assert_array_equal(params["stats/std"], values["stats/std"])
    np.testing.assert_array_equal(params["stats/mean"], mean)
    # In the type of the model.
    head = params["net/head/kernel"]
    assert head.dtype == jnp.bfloat16
    np.testing.assert_array_equal(head, values["net/head/kernel"].astype(jnp.bfloat16))
    # What nobody provides is initialised.
    np.testing.assert_array_equal(params["net/table"], np.arange(toy.DIM))
    assert params["net/layers/bias"].shape == (2, toy.DIM)
    # Each is read once, and not what a stage provides.
    assert sorted(method.log) == sorted(set(values) - {"stats/mean"})


def test_one_parameter_is_in_the_hosts_memory_at_a_time(monkeypatch: pytest.MonkeyPatch):
    held: list[weakref.ref] = []

    def read(leaf: Leaf) -> np.ndarray:
        assert not [ref for ref in held if ref() is not None], f"before {leaf.path}"
        array = leaf.values.copy()
        held.append(weakref.ref(array))
        return array

    monkeypatch.setattr(Leaf, "read", read)
    start(Pretrained())
    assert len(held) == len(published())


def test_the_program_holds_no_initialisation_of_what_is_replaced():
    def program(wanted: list[str]) -> str:
        return jax.jit(fresh(Pretrained(), wanted)).lower(jax.random.key(0)).compile().as_text()

    kernel = f"f32[2,{toy.DIM},{toy.DIM}]"
    assert kernel in program([LAYERS, "net/table"])
    assert kernel not in program(["net/table"])


def test_nothing_is_compiled_where_all_is_provided(monkeypatch: pytest.MonkeyPatch):
    rest = {"net/layers/bias": np.zeros((2, toy.DIM)), "net/table": np.ones(toy.DIM)}
    monkeypatch.setattr("tavid_jax.engine.placement.fresh", None)
    assert start(Pretrained(**rest))["net/table"][0] == 1


def test_a_resumed_run_reads_only_what_is_frozen():
    method = Pretrained()
    params = start(method, frozen_only=True)
    assert sorted(method.log) == ["net/head/kernel", "stats/mean", "stats/std"]
    assert set(params) == {"net/head/kernel", "net/table", "stats/mean", "stats/std"}


def test_another_shape_is_told_with_both_shapes_and_the_mend():
    method = Pretrained(**{LAYERS: np.zeros((3, toy.DIM, toy.DIM))})
    with pytest.raises(InitError) as refused:
        start(method)
    assert str(refused.value) == (
        "net/layers/kernel has shape [3, 8, 8] in the pretrained weights, this stage expects "
        "[2, 8, 8]; set the model options to those of the checkpoint, or name another checkpoint"
    )
    assert not method.log


def test_a_parameter_that_the_method_lacks_is_told():
    with pytest.raises(InitError, match="net/image is among the pretrained weights but Pretrained"):
        start(Pretrained(**{"net/image": np.zeros(2)}))


def test_a_frozen_part_that_nobody_provides_is_told():
    method = Pretrained()
    del method.values["stats/mean"]
    message = (
        r"stats/mean is frozen in Pretrained but none .*init_from \(none\) provides it, and no "
        "pretrained weights do; add the stage that does, or name a checkpoint that holds it"
    )
    with pytest.raises(InitError, match=message):
        start(method)


def stop(step: int) -> None:
    if step == 2:
        raise KeyboardInterrupt


def test_a_run_from_outside_resumes_to_the_same_bits(tmp_path: Path):
    config = toy.toy_config(init_from=())
    straight = toy.run(tmp_path / "straight", config, system=toy.ToySystem(fit=Pretrained()))
    assert straight.provenance["pretrained/net"] == "1a2b3c"

    with pytest.raises(KeyboardInterrupt):
        toy.run(
            tmp_path / "stopped", config, toy.ToyInputs(taken=stop), toy.ToySystem(fit=Pretrained())
        )
    again = Pretrained()
    toy.run(tmp_path / "stopped", config, system=toy.ToySystem(fit=again))
    assert LAYERS not in again.log
    toy.assert_same_bits(
        toy.saved_state(tmp_path / "stopped"), toy.saved_state(tmp_path / "straight")
    )
    # The frozen weights are no part of a checkpoint.
    assert not [path for path in toy.saved_state(tmp_path / "stopped") if "head" in path]


def test_a_run_does_not_go_on_from_other_weights(tmp_path: Path):
    config = toy.toy_config(init_from=())
    with pytest.raises(KeyboardInterrupt):
        toy.run(tmp_path, config, toy.ToyInputs(taken=stop), toy.ToySystem(fit=Pretrained()))
    other = Pretrained()
    other.mark = "9f9f9f"
    with pytest.raises(CheckpointError, match=r"other pretrained weights of the net \(1a2b3c, now"):
        toy.run(tmp_path, config, system=toy.ToySystem(fit=other))
