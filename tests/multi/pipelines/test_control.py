"""Condition videos on eight devices: as on one, in training steps and from a cache."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion.schedulers.registry import make_sampler
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import batch_sharding, paths, shardings_for
from tavid_jax.pipelines.backbones import CACHES, Geometry, make_backbone
from tavid_jax.pipelines.control import CONTROL, CONTROL_IMAGE
from tavid_jax.pipelines.denoising import Denoiser, Segment

# Conditions, and noisy videos of each.
BATCH, DRAWS = 8, 2
# Nine video tokens: two devices along `context` pad them.
SIZES = dict(num_heads=4, head_dim=16, num_layers=2, text_dim=12, text_length=5)
KINDS = {
    "cogvideox": (
        "cogvideox-5b-i2v",
        dict(in_channels=8, out_channels=4, time_embed_dim=8, sample_hw=(2, 6), sample_frames=9),
        "blocks/attn/(q|k|v|o)",
    ),
    "wan": (
        "wan2.2-ti2v-5b",
        dict(in_channels=4, out_channels=4, ffn_dim=40, freq_dim=8),
        "blocks/(attn/(q|k|v|o)|cross/(q|o))",
    ),
}
MESHES = {
    "weights and batch": dict(fsdp=8),
    "padded tokens": dict(fsdp=4, context=2),
    "all axes": dict(fsdp=2, context=2, tensor=2),
}


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    """These tests compile a lot and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module", params=KINDS)
def made(request):
    """(backbone, parameters, a batch of conditions)."""
    name, changes, path = KINDS[request.param]
    backbone = make_backbone(
        name,
        Geometry(9, (16, 48)),
        {**SIZES, **changes, "condition_videos": 2},
        request.param == "wan",
        stride=8,
        lora=(LoraRule(path, 3, stream="condition"),),
    )
    init, key = backbone.model.init, jax.random.key(0)
    shapes = jax.eval_shape(lambda: init(key, jnp.zeros((1,)), method="embed_time"))["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda x: jnp.asarray(0.2 * rng.normal(size=x.shape) + 0.1, jnp.float32), shapes
    )
    batch = {
        name: jnp.asarray(rng.normal(size=(BATCH, *spec.shape)), jnp.float32)
        for name, spec in backbone.spec().items()
    }
    return backbone, params, batch


def trained(params) -> dict:
    return {name: params[name] for name in ("lora", "fuse")}


@pytest.fixture(scope="module")
def alone(made):
    """(step, its examples, what it gives on one device): two draws of noise for each condition."""
    backbone, params, batch = made
    of_condition = (CONTROL, CONTROL_IMAGE) + (("text",) if backbone.given_frames else ())
    given = {n: x if n in of_condition else jnp.repeat(x, DRAWS, 0) for n, x in batch.items()}
    noise = np.random.default_rng(2).normal(size=given["video"].shape)
    given["state"] = given["video"] + jnp.asarray(noise, jnp.float32)

    @jax.jit
    def step(params, given):
        timestep = jnp.linspace(50.0, 900.0, BATCH * DRAWS)

        def loss(learns):
            out = backbone.predict(params | learns, given["state"], timestep, given)
            return jnp.mean(jnp.square(out)), out

        return jax.value_and_grad(loss, has_aux=True)(trained(params))

    return step, given, step(params, given)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "all axes" else pytest.mark.slow) for name in MESHES],
)
def test_draws_of_noise_share_their_condition(made, alone, name):
    backbone, params, _ = made
    step, given, ((_, want), want_slopes) = alone
    mesh = make_mesh(MESHES[name])
    everything = dataclasses.replace(backbone.sharding, min_size=1)
    with jax.set_mesh(mesh):
        params = jax.device_put(params, shardings_for(params, mesh, everything))
        given = jax.device_put(given, batch_sharding(mesh))
        (_, got), slopes = step(params, given)
    close(got, want, "prediction")
    typical = np.median([rms(x) for x in jax.tree.leaves(want_slopes)])
    for (path, ours), theirs in zip(paths(slopes), jax.tree.leaves(want_slopes), strict=True):
        close(ours, theirs, path, floor=1e-2 * typical)


def test_sampling_from_a_cache(made):
    """With guidance: CogVideoX's cache serves both branches, Wan's are of their prompts."""
    backbone, params, batch = made
    batch = {name: x[:4] for name, x in batch.items()}
    branches = [batch | {"text": batch["text"][::-1]}, batch]
    wan = bool(backbone.given_frames)
    sampler = make_sampler("euler" if wan else "ddim", 2, family="wan" if wan else "cogvideox")
    given = batch["video"][:, : backbone.given_frames]
    keys = jax.random.split(jax.random.key(3), 4)

    def sample(params, branches, noise):
        denoiser = Denoiser(backbone, sampler, np.array([3.0, 2.0]))
        conditions = denoiser.precompute(params, branches)
        cache = (conditions[0] if wan else conditions[1])[CACHES]["condition"]
        segment = Segment(0, 2, True, "")
        return denoiser.run(params, noise, conditions, segment, keys, given).x, cache

    want, _ = sample(params, branches, batch["video"])
    mesh = make_mesh(dict(fsdp=2, context=2, tensor=2))
    with jax.set_mesh(mesh):
        params = jax.device_put(params, shardings_for(params, mesh, backbone.sharding))
        split = batch_sharding(mesh)
        placed = {name: jax.device_put(x, split) for name, x in batch.items()}
        # The branches share their condition videos: the very arrays.
        others = placed | {"text": jax.device_put(branches[0]["text"], split)}
        got, cache = sample(params, [others, placed], placed["video"])
    assert cache.length == 9 and cache.k.shape[1:3] == ((8 if wan else 4), 10)
    # Over fsdp, context and tensor.
    assert cache.k.sharding.shard_shape(cache.k.shape)[1:4] == ((4 if wan else 2), 5, 2)
    close(got, want, "video")


def rms(x) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def close(got, want, what: str, floor: float = 0.0) -> None:
    """To 1e-5 in the root mean square; what vanishes, to 1e-5 of `floor`."""
    got, want = np.asarray(got), np.asarray(want)
    error = rms(got - want) / max(rms(want), floor)
    assert error <= 1e-5, f"{what}: {error:.1e}"
