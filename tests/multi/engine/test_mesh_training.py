"""Training on a mesh of eight devices: the losses of one device, resumed to the same bits."""

import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from tavid_jax.parallel.mesh import make_mesh
from tests.engine import toy

MESHES = {
    "fsdp": dict(fsdp=-1),
    "replica x fsdp x tensor": dict(replica=2, fsdp=2, tensor=2),
}


def run(folder: Path, axes: dict[str, int], inputs=None, **changes):
    return toy.run(folder, toy.toy_config(**changes), inputs, mesh=make_mesh(axes))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy run on one of the eight devices."""
    folder = tmp_path_factory.mktemp("alone")
    toy.run(folder, mesh=make_mesh(dict(fsdp=1), devices=jax.devices()[:1]))
    return folder


@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_losses_are_those_of_one_device(tmp_path: Path, alone: Path, name: str, micro_batches: int):
    run(tmp_path, MESHES[name], micro_batches=micro_batches)
    for here, there in zip(toy.records(tmp_path), toy.records(alone), strict=True):
        assert here.keys() == there.keys()
        for metric in here:
            np.testing.assert_allclose(here[metric], there[metric], rtol=1e-5, err_msg=metric)
    one, many = toy.saved_state(alone), toy.saved_state(tmp_path)
    for path in one:
        np.testing.assert_allclose(many[path], one[path], rtol=2e-3, atol=1e-5, err_msg=path)


def test_resumed_to_the_same_bits_on_the_mesh(tmp_path: Path):
    def stop(step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    run(tmp_path / "straight", MESHES["fsdp"])
    with pytest.raises(SystemExit):
        run(tmp_path / "stopped", MESHES["fsdp"], toy.ToyInputs(taken=stop))
    run(tmp_path / "stopped", MESHES["fsdp"])
    toy.assert_same_bits(
        toy.saved_state(tmp_path / "stopped"), toy.saved_state(tmp_path / "straight")
    )
    assert toy.records(tmp_path / "stopped") == toy.records(tmp_path / "straight")


def test_a_run_may_go_on_on_another_mesh(tmp_path: Path, alone: Path):
    def stop(step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        run(tmp_path, MESHES["fsdp"], toy.ToyInputs(taken=stop))
    run(tmp_path, MESHES["replica x fsdp x tensor"])
    for here, there in zip(toy.records(tmp_path), toy.records(alone), strict=True):
        np.testing.assert_allclose(here["loss"], there["loss"], rtol=1e-5)


def test_weights_and_moments_are_split_from_the_start(tmp_path: Path, monkeypatch):
    """No device ever holds a whole large array: not when initialised, not in the step."""
    from tavid_jax.engine import program

    seen: dict[str, set] = {}
    real = program.make_train_step

    def spy(*args, **options):
        step = real(*args, **options)

        def wrapped(state, frozen, batch):
            jax.debug.inspect_array_sharding(
                state.trainable["net"]["layers"]["kernel"],
                callback=lambda s: seen.setdefault("step", set()).add(s.shard_shape((2, 8, 8))),
            )
            return step(state, frozen, batch)

        return wrapped

    monkeypatch.setattr(program, "make_train_step", spy)
    run(tmp_path, MESHES["fsdp"])
    assert seen["step"] == {(2, 8, 1)} or seen["step"] == {(2, 1, 8)}


def test_batch_that_does_not_split_over_the_mesh_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="12 examples does not split .* multiple of 8"):
        run(tmp_path, MESHES["fsdp"], batch_size=12)
