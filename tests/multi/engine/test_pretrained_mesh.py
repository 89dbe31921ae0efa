"""Outside parameters on eight devices: each gets its own piece of what is read."""

import jax
import numpy as np
import pytest

from tavid_jax.engine import placement, trees
from tavid_jax.parallel.mesh import make_mesh
from tests.engine import toy
from tests.engine.outside import Pretrained, published

KERNEL = "net/layers/kernel"


def start(axes: dict[str, int]) -> dict[str, jax.Array]:
    made = placement.initialise(Pretrained(), jax.random.key(0), make_mesh(axes), {})
    return trees.flatten(made)


@pytest.mark.parametrize("axes", [dict(fsdp=-1), dict(replica=2, fsdp=2, tensor=2)])
def test_what_is_read_goes_straight_to_its_place(axes: dict[str, int]):
    params, values = start(axes), published()
    kernel = params[KERNEL]
    ways = 8 if "replica" not in axes else 2
    assert kernel.size // np.prod(kernel.sharding.shard_shape(kernel.shape)) == ways
    assert len(kernel.addressable_shards) == 8
    for path, value in values.items():
        np.testing.assert_array_equal(params[path], value.astype(params[path].dtype), err_msg=path)


def test_no_device_is_given_the_whole(monkeypatch: pytest.MonkeyPatch):
    given: list[tuple[int, ...]] = []
    real = jax.make_array_from_callback

    def spy(shape, place, piece):
        def seen(index):
            given.append(piece(index).shape)
            return piece(index)

        return real(shape, place, seen)

    monkeypatch.setattr(jax, "make_array_from_callback", spy)
    start(dict(fsdp=-1))
    assert (2, toy.DIM, toy.DIM) not in given and given.count((2, toy.DIM, 1)) == 8


def test_training_from_outside_is_that_of_one_device(tmp_path):
    losses = []
    for name, mesh in (
        ("one", make_mesh(dict(fsdp=1), devices=jax.devices()[:1])),
        ("all", make_mesh(dict(fsdp=-1))),
    ):
        system = toy.ToySystem(fit=Pretrained())
        toy.run(tmp_path / name, toy.toy_config(init_from=()), system=system, mesh=mesh)
        losses.append([record["loss"] for record in toy.records(tmp_path / name)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
