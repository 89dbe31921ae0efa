"""Condition videos in the backbones: in lock-step, as a cache, and shared by several draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion.schedulers.registry import make_sampler
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.pipelines.backbones import CACHES, Geometry, make_backbone
from tavid_jax.pipelines.control import CONTROL, CONTROL_IMAGE
from tavid_jax.pipelines.denoising import Denoiser, Segment

SIZES = dict(num_heads=2, head_dim=16, num_layers=2, text_dim=12, text_length=5)
KINDS = {
    "cogvideox": (
        "cogvideox-5b-i2v",
        dict(in_channels=8, out_channels=4, time_embed_dim=8, sample_hw=(4, 6), sample_frames=9),
        "blocks/attn/(q|k|v|o)",
    ),
    "wan": (
        "wan2.2-ti2v-5b",
        dict(in_channels=4, out_channels=4, ffn_dim=40, freq_dim=8),
        "blocks/(attn/(q|k|v|o)|cross/(q|o))",
    ),
}


@pytest.fixture(params=KINDS)
def made(request):
    """(backbone, params, batch of two)."""
    name, changes, path = KINDS[request.param]
    first = request.param == "wan"
    backbone = make_backbone(
        name,
        Geometry(9, (32, 48)),
        {**SIZES, **changes, "condition_videos": 2},
        first,
        stride=8,
        lora=(LoraRule(path, 3, stream="condition"),),
    )
    params = backbone.model.init(jax.random.key(0), jnp.zeros((1,)), method="embed_time")["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = tree.unflatten(
        [0.2 * jax.random.normal(k, x.shape) + 0.1 for k, x in zip(keys, leaves, strict=True)]
    )
    rng = np.random.default_rng(2)
    batch = {
        name: jnp.asarray(rng.normal(size=(2, *spec.shape)), jnp.float32)
        for name, spec in backbone.spec().items()
    }
    return backbone, params, batch


def predict(made, batch, **changes):
    backbone, params, given = made
    state = changes.get("state", given["video"])
    timestep = jnp.linspace(200.0, 700.0, len(state))
    return jax.jit(backbone.predict)(params, state, timestep, batch)


def test_cache_equals_lock_step(made):
    backbone, params, batch = made
    joint = predict(made, batch)
    cached = jax.jit(backbone.precompute)(params, batch)
    assert CONTROL not in cached and "condition" in cached[CACHES]
    close(predict(made, cached), joint)
    other = predict(made, batch | {CONTROL: batch[CONTROL][:, ::-1]})
    assert float(jnp.abs(other - joint).max()) > 1e-3


@pytest.mark.slow
def test_one_condition_serves_several_draws(made):
    """Two conditions, four noisy videos: as if each video had its own copy of the condition."""
    backbone, params, batch = made
    state = jnp.concatenate([batch["video"], 1 - batch["video"]])
    pairs = {name: jnp.repeat(x, 2, 0) for name, x in batch.items()}
    shared = {n: batch[n] if n in (CONTROL, CONTROL_IMAGE) else x for n, x in pairs.items()}
    if backbone.given_frames:  # Wan's condition reads the text: it is of as many examples
        shared["text"] = batch["text"]
    close(predict(made, shared, state=state), predict(made, pairs, state=state))

    def loss(params, batch):
        timestep = jnp.full((4,), 500.0)
        return jnp.square(backbone.predict(params, state, timestep, batch)).mean()

    one, many = (jax.jit(jax.grad(loss))(params, b) for b in (shared, pairs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), one, many)


@pytest.mark.parametrize("control_guidance", [1.0, pytest.param(2.5, marks=pytest.mark.slow)])
def test_sampling_with_the_branches_at_once_and_one_by_one(made, control_guidance):
    backbone, params, batch = made
    text, black = batch["text"][::-1], {CONTROL: jnp.zeros_like(batch[CONTROL])}
    black |= {CONTROL_IMAGE: 0 * batch[CONTROL_IMAGE]} if CONTROL_IMAGE in batch else {}
    branches = [batch | {"text": text}, batch]
    if control_guidance != 1:
        branches.insert(0, branches[0] | black)
    family = "wan" if backbone.given_frames else "cogvideox"
    sampler = make_sampler("euler" if backbone.given_frames else "ddim", 2, family=family)
    scales, keys = np.array([3.0, 2.0]), jax.random.split(jax.random.key(3), 2)
    given = batch["video"][:, : backbone.given_frames]
    segment = Segment(0, 2, True, "")

    def sample(sequential):
        denoiser = Denoiser(backbone, sampler, scales, control_guidance, sequential)
        made = denoiser.precompute(params, branches)
        # CogVideoX walks a condition once for every prompt.
        assert (CACHES in made[1]) == (family == "cogvideox" and control_guidance == 1)
        return denoiser.run(params, batch["video"], made, segment, keys, given).x

    at_once = sample(False)
    close(sample(True), at_once)
    # By hand: the first step's prediction of every branch.
    x = batch["video"]
    timestep = jnp.full((2,), sampler.timesteps[0], jnp.float32)
    outs = [backbone.predict(params, x, timestep, branch) for branch in branches]
    want = outs[-2] + 3.0 * (outs[-1] - outs[-2])
    if control_guidance != 1:
        want += (control_guidance - 1) * (outs[1] - outs[0])
    denoiser = Denoiser(backbone, sampler, scales, control_guidance)
    each, common = denoiser.precompute(params, branches)
    count = len(branches)
    got = backbone.predict(
        params, jnp.repeat(x, count, 0), jnp.repeat(timestep, count), each | common
    )
    got = denoiser._guided(jnp.stack([got[i::count] for i in range(count)]), True, jnp.float32(3.0))
    close(got, want)


def close(got, want):
    np.testing.assert_allclose(got, want, atol=1e-5 * float(jnp.sqrt(jnp.mean(want**2))) + 1e-6)
