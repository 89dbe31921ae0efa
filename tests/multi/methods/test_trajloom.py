"""TrajLoom trains on eight devices as on one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.engine import trees
from tavid_jax.engine.optimizer import make_optimizer, make_schedule
from tavid_jax.engine.placement import initialise, split_trainable
from tavid_jax.engine.state import init_state, make_train_step
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.trajloom.forecaster import Forecaster, Sampling
from tavid_jax.parallel.mesh import make_mesh, to_global
from tavid_jax.parallel.sharding import PathTable, shardings_for
from tests.methods.trajloom import micro

MESHES = {
    "one": dict(replica=1, fsdp=1, context=1, tensor=1),
    "fsdp": dict(replica=1, fsdp=8, context=1, tensor=1),
    "fsdp and context": dict(replica=1, fsdp=4, context=2, tensor=1),
}
CLIPS, STEPS = 8, 2


def mesh_of(name: str):
    sizes = MESHES[name]
    count = int(np.prod(list(sizes.values())))
    return make_mesh(sizes, devices=jax.devices()[:count])


@pytest.fixture(scope="module")
def system():
    return make_system(micro.small_run(micro.Path(".")))


@pytest.fixture(scope="module")
def latents() -> dict[str, dict[str, Any]]:
    return {"latents": {"statistics": jax.tree.map(np.asarray, micro.statistics())}}


def split_everything(method):
    """The method with parameters split however small they are, so that a mesh has work to do."""
    method.sharding = PathTable(min_size=16)
    return method


def train(method, mesh, batch, earlier, stage) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses of a few steps, and the weights after them."""
    optimizer = make_optimizer(stage.optimizer, STEPS)
    with jax.set_mesh(mesh):
        params = initialise(method, jax.random.key(0), mesh, earlier)
        trainable, frozen = split_trainable(method, params)
        build = lambda w: init_state(w, optimizer, jax.random.key(1), ema=False)  # noqa: E731
        places = shardings_for(jax.eval_shape(build, trainable), mesh, method.sharding)
        state = jax.jit(build, out_shardings=places)(trainable)
        step = jax.jit(
            make_train_step(method, optimizer, make_schedule(stage.optimizer, STEPS), encode=False),
            out_shardings=(places, None),
        )
        arrays, found = to_global(batch, mesh), []
        for _ in range(STEPS):
            state, metrics = step(state, frozen, arrays)
            found.append(float(metrics["loss"]))
    return found, trees.flatten(jax.device_get(state.trainable))


@pytest.mark.parametrize("stage", [pytest.param("vae", marks=pytest.mark.slow), "on_policy"])
def test_losses_are_those_of_one_device(system, latents, stage):
    method = split_everything(system.method(stage))
    if stage == "vae":
        batch = {k: np.asarray(v) for k, v in micro.batch(CLIPS, features=None).items()}
        earlier = {}
    else:
        batch, earlier = {k: np.asarray(v) for k, v in micro.encoded(CLIPS).items()}, latents
    config = system.config.stages[stage]
    losses, weights = {}, {}
    # The roll-out takes long to compile: it is enough to see it on the mesh that splits most.
    meshes = tuple(MESHES) if stage == "vae" else ("one", "fsdp and context")
    for name in meshes:
        losses[name], weights[name] = train(method, mesh_of(name), batch, earlier, config)
    assert losses["one"][0] != losses["one"][1]
    for name in meshes[1:]:
        np.testing.assert_allclose(losses[name], losses["one"], rtol=2e-5, err_msg=name)
        for path, value in weights[name].items():
            np.testing.assert_allclose(
                value, weights["one"][path], rtol=1e-3, atol=2e-5, err_msg=f"{name}: {path}"
            )


def test_weights_and_activations_are_really_spread(system):
    method, mesh = split_everything(system.method("vae")), mesh_of("fsdp and context")
    params = initialise(method, jax.random.key(0), mesh, {})
    flat = trees.flatten(params)
    kernel = flat["vae/final_layer/kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) != kernel.shape
    batch = micro.batch(CLIPS, features=None)
    arrays = to_global({k: np.asarray(v) for k, v in batch.items()}, mesh)
    tracks = arrays["history_tracks"]
    assert tracks.sharding.shard_shape(tracks.shape)[0] < CLIPS


def test_statistics_are_those_of_one_device(system):
    method = split_everything(system.method("latents"))
    batch = {k: np.asarray(v) for k, v in micro.batch(CLIPS).items()}
    vae = {"vae": micro.untrained(system, "vae")["vae"]}
    found = {}
    for name in ("one", "fsdp and context"):
        mesh = mesh_of(name)
        with jax.set_mesh(mesh):
            params = initialise(method, jax.random.key(0), mesh, vae)
            encoded, sums = jax.jit(method.examine)(
                params, to_global(batch, mesh), micro.keys(CLIPS)
            )
        totals = jax.tree.map(lambda x: np.asarray(x).sum(axis=0, dtype=np.float64), sums)
        found[name] = trees.flatten(method.conclude(totals)) | jax.device_get(encoded)
    for path, value in found["fsdp and context"].items():
        np.testing.assert_allclose(value, found["one"][path], rtol=2e-4, atol=2e-5, err_msg=path)
    assert jnp.isfinite(found["one"]["statistics/all/std"]).all()


@pytest.mark.parametrize("count", [8, 6], ids=["even", "uneven"])
def test_forecasts_are_those_of_one_device(count):
    """A batch that does not split over the devices is copied to all of them instead."""
    s = micro.linear_settings()
    tracks = micro.batch(1)["history_tracks"]
    latents = jnp.zeros((1, micro.L, micro.N, micro.CHANNELS))
    params = {
        "vae": s.vae.init(jax.random.key(0), tracks, method="encode")["params"],
        "flow": {"a": jnp.float32(-1.2), "b": jnp.float32(0.5)},
        "visibility": s.visibility.init(jax.random.key(2), latents)["params"],
        "statistics": micro.statistics(),
    }
    batch = {k: np.asarray(v) for k, v in micro.batch(count).items()}
    found = {}
    for name in ("one", "fsdp"):
        model = Forecaster(s, params, Sampling(steps=3), mesh_of(name))
        found[name] = model(batch, jax.random.key(5), 2)
        again = model.reconstruct(batch["future_tracks"])
        found[name] = (*map(np.asarray, (found[name].tracks, found[name].probability)), again)
    for ours, theirs in zip(found["fsdp"], found["one"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)
