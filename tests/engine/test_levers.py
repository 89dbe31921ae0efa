"""Memory levers of a stage: what waits in the host's memory, and that nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.engine import trees
from tavid_jax.engine.method import Spec
from tavid_jax.engine.program import Program
from tavid_jax.models.layers.depth import walk_depth
from tavid_jax.parallel.memory import HOST, check_host_memory, on_device, waits_on_host
from tavid_jax.parallel.mesh import make_mesh
from tests.engine import toy

DEPTH, DIM = 3, toy.DIM


class Blocks(toy.Fit):
    """A frozen stack of blocks, and a head that learns."""

    trainable_paths = ("net/head/.*",)
    frozen_paths = ()
    host_paths = ("net/blocks/.*",)

    def encoded_spec(self) -> dict[str, Spec]:
        return self.raw_spec()

    def pretrained(self):
        rng = np.random.default_rng(0)
        kernel = rng.standard_normal((DEPTH, DIM, DIM)).astype(np.float32) / DIM**0.5
        made = {"kernel": kernel, "bias": np.zeros((DEPTH, DIM), np.float32)}
        return {f"net/blocks/{name}": Leaf(values) for name, values in made.items()}

    def init(self, rng):
        shapes = {"kernel": jnp.zeros((DEPTH, DIM, DIM)), "bias": jnp.zeros((DEPTH, DIM))}
        head = {"kernel": jax.random.normal(rng, (DIM, 3))}
        stats = {"mean": jnp.zeros(DIM), "std": jnp.ones(DIM)}
        return {"net": {"blocks": shapes, "head": head}, "stats": stats}

    def forward(self, params, x):
        def block(h, layer):
            return jnp.tanh(h @ layer["kernel"] + layer["bias"])

        h = (x - params["stats"]["mean"]) / params["stats"]["std"]
        h = walk_depth(block, h, params["net"]["blocks"], scan=True, remat="full")
        return h @ params["net"]["head"]["kernel"]


class Leaf:
    def __init__(self, values: np.ndarray):
        self.values, self.shape = values, values.shape

    def read(self) -> np.ndarray:
        return self.values


def program(method=None, **stage) -> Program:
    config = toy.toy_config(**stage)
    return Program(method or Blocks(), config.stages.fit, make_mesh())


def on_host(tree) -> set[str]:
    return {path for path, leaf in trees.flatten(tree).items() if waits_on_host(leaf)}


def test_what_waits_where():
    made = program(offload=dict(optimizer=True, frozen=True))
    trainable, frozen = made.abstract_params()
    assert on_host(frozen) == {"net/blocks/kernel"} and not on_host(trainable)
    state = made.abstract_state(trainable)
    waiting = [leaf.sharding.memory_kind == HOST for leaf in jax.tree.leaves(state.opt_state)]
    numbers = [leaf.ndim == 0 for leaf in jax.tree.leaves(state.opt_state)]
    assert any(waiting) and waiting == [not number for number in numbers]
    assert all(leaf.sharding.memory_kind == HOST for leaf in jax.tree.leaves(state.ema))
    assert not on_host(state.trainable)
    plain = program()
    assert not on_host(plain.abstract_params()[1]) and plain.on_host == frozenset()


def test_same_bits_switched_on_and_off_between_starts(tmp_path):
    """Two starts with all that can wait on the host, one without: as if nothing had been asked."""
    system = toy.ToySystem(fit=Blocks())
    steady = toy.optimizer(schedule="constant", warmup=0)  # which does not know how long it is
    usual = toy.run(tmp_path / "usual", toy.toy_config(optimizer=steady), system=system)
    folder, both = tmp_path / "levers", dict(optimizer=True, frozen=True)
    for steps, offload in ((1, both), (2, {}), (toy.STEPS, both)):
        (folder / "config.json").unlink(missing_ok=True)
        (folder / "stages" / "fit" / "done.json").unlink(missing_ok=True)
        changes = dict(optimizer=steady, steps=steps, offload=offload)
        got = toy.run(folder, toy.toy_config(**changes), system=system)
    toy.assert_same_bits(toy.saved_state(folder), toy.saved_state(tmp_path / "usual"))
    jax.tree.map(np.testing.assert_array_equal, got.params("fit"), usual.params("fit"))


def test_gradients_of_blocks_that_wait_are_the_same():
    mesh = make_mesh()
    kernels = jax.random.normal(jax.random.key(0), (DEPTH, DIM, DIM))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    waiting = jax.device_put(kernels, place.with_memory_kind(HOST))

    def loss(x, kernels):
        return jnp.sum(walk_depth(lambda x, k: jnp.sin(x @ k), x, kernels, scan=True, remat="full"))

    x = jnp.ones((4, DIM))
    with jax.set_mesh(mesh):
        grad = jax.jit(jax.grad(loss))
        np.testing.assert_array_equal(grad(x, waiting), grad(x, kernels))
    assert not waits_on_host(on_device(waiting))
    # In the loop's body: never the whole stack.
    text = str(jax.make_jaxpr(jax.grad(loss))(x, waiting))
    assert f"f32<host>[{DIM},{DIM}]" in text and f"f32[{DEPTH},{DIM},{DIM}]" not in text


def test_what_makes_no_sense_is_said():
    with pytest.raises(ValueError, match="offload.frozen: Fit has no frozen blocks"):
        program(toy.Fit(), offload=dict(frozen=True)).abstract_params()
    with pytest.raises(ValueError, match="offload.ema is no field of a stage; there are optimizer"):
        program(offload=dict(ema=True)).abstract_params()
    with pytest.raises(ValueError, match="frozen_dtype 'int8': Blocks has no frozen kernels"):
        program(frozen_dtype="int8").abstract_params()
    with pytest.raises(ValueError, match="frozen_dtype 'int4' of a stage is none of"):
        program(frozen_dtype="int4").abstract_params()


def test_devices_without_host_memory_are_named():
    class Memory:
        kind = "device"

    class Device:
        def addressable_memories(self):
            return [Memory()]

        def __str__(self):
            return "odd:0"

    check_host_memory(jax.devices())
    with pytest.raises(ValueError, match="odd:0 has no pinned_host memory .only device.: switch"):
        check_host_memory([Device()])
