"""What is learned, against numpy on linear networks: both objectives and the scale of latents."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.engine.placement import split_trainable
from tavid_jax.methods.whn.flow import FlowLosses, FlowMethod
from tavid_jax.methods.whn.latents import LatentsMethod
from tavid_jax.methods.whn.space import Space
from tavid_jax.methods.whn.vae import VAELosses, VAEMethod
from tests.methods.whn import small

W = small.WINDOW
STEP = jnp.zeros((), jnp.int32)


def linear(preset="tiny"):
    s = small.settings(preset)
    space = s.space
    if space.vae is not None:
        space = Space(space.window, small.LinearVAE(space.vae.config))
    return dataclasses.replace(s, space=space, flow=small.LinearFlow(s.flow.config))


def value(ratio) -> float:
    return float(ratio[0] / ratio[1])


def encoded(space, count=3):
    """Random states with everything in them, as a cache holds them."""
    rng = np.random.default_rng(3)
    made = {
        name: rng.normal(size=(count, *spec.shape)).astype(np.float32)
        for name, spec in space.spec().items()
    }
    made = {k: np.abs(v) if k.endswith("std") else v for k, v in made.items()}
    frame = rng.normal(size=(count, 6, small.FEATURES)).astype(np.float32)
    weight = np.ones(count, np.float32)
    return {k: jnp.asarray(v) for k, v in {**made, "frame": frame, "weight": weight}.items()}


@pytest.mark.parametrize("preset", ["tiny", "raw"])
def test_flow_loss_by_hand(preset):
    """Straight path from noise, frame 0 imposed, its error counted as zero in a mean over all."""
    s = linear(preset)
    batch = encoded(s.space)
    scale = np.array([0.5, 2.0, 3.0], np.float32)[: s.space.channels]
    method = FlowMethod(s.space, s.flow, s.features, FlowLosses(), cached=True)
    params = {"flow": {"a": jnp.float32(0.3), "b": jnp.float32(-0.7)}}
    if preset == "tiny":
        params["statistics"] = {"scale": jnp.asarray(scale)}
    else:
        scale = np.ones(2, np.float32)
    loss = jax.jit(method.loss)
    total, logs = loss(params, batch, small.keys(), STEP)
    want = []
    for i, key in enumerate(small.keys()):
        t_key, noise_key, state_key, start_key = jax.random.split(key, 4)

        def drawn(name, k, i=i):
            mean = np.asarray(batch[f"{name}mean"][i])
            if f"{name}std" not in batch:
                return mean / scale
            eps = np.asarray(jax.random.normal(k, mean.shape))
            return (mean + np.asarray(batch[f"{name}std"][i]) * eps) / scale

        z1, c0 = drawn("", state_key), drawn("start_", start_key)
        noise = np.asarray(jax.random.normal(noise_key, z1.shape))
        t = 1 / (1 + np.exp(-float(jax.random.normal(t_key, ()))))
        z_t = t * z1 + (1 - t) * noise
        z_t[0] = c0
        error = 0.3 * z_t - 0.7 * t + float(batch["frame"][i].mean()) - (z1 - noise)
        error[0] = 0
        want.append((error**2).mean())
    assert value(total) == pytest.approx(np.mean(want), rel=1e-4)
    assert value(logs["flow"]) == value(total)
    one_less = {**batch, "weight": jnp.array([1.0, 0.0, 1.0])}
    ratio, _ = loss(params, one_less, small.keys(), STEP)
    assert value(ratio) == pytest.approx((want[0] + want[2]) / 2, rel=1e-4)


def test_vae_loss_by_hand():
    s, batch = linear(), small.batch()
    batch["weight"] = jnp.array([1.0, 1.0, 0.0])
    method = VAEMethod(s.space.vae, W, s.features, VAELosses(beta=0.1))
    params = method.init(jax.random.key(0))
    given = method.encode(params, batch, small.keys())
    (total, count), logs = jax.jit(method.loss)(params, given, small.keys(), STEP)
    matrix = np.asarray(params["vae"]["matrix"], np.float64)
    huber, kl = [], []
    for i in range(2):
        x = 2 * (np.asarray(batch["tracks"][i], np.float64) + 0.5) / [48, 32] - 1
        told = float(batch["frame"][i].mean())
        mean = x.reshape(5, 2, 2, 3, 2, 2).mean((2, 4)).reshape(5, 6, 2) @ matrix + told
        z = mean + 0.5 * np.asarray(jax.random.normal(small.keys()[i], mean.shape))
        y = ((z - told) @ np.linalg.pinv(matrix)).reshape(5, 2, 3, 2).repeat(2, 1).repeat(2, 2)
        e = np.abs(y - x)
        huber.append(np.where(e <= 1, e**2 / 2, e - 0.5).mean())
        kl.append((0.5 * (0.25 + mean**2 - 1) - np.log(0.5)).mean())
    assert float(count) == 2
    assert value(logs["reconstruction"]) == pytest.approx(np.mean(huber), rel=1e-4)
    assert value(logs["kl"]) == pytest.approx(np.mean(kl), rel=1e-4)
    assert float(total) / 2 == pytest.approx(np.mean(huber) + 0.1 * np.mean(kl), rel=1e-4)


def test_scale_is_the_spread_of_samples():
    s = linear()
    method = LatentsMethod(s.space, s.features, 1.5)
    params = method.init(jax.random.key(0))
    batch = small.batch(4) | {"weight": jnp.array([1.0, 1.0, 0.0, 1.0])}
    examples, sums = method.examine(params, batch, small.keys(4))
    assert set(examples) == set(method.encoded_spec())
    for name, spec in method.encoded_spec().items():
        assert examples[name].shape[1:] == spec.shape, name
    totals = {k: np.asarray(v, np.float64).sum(0) for k, v in sums.items()}
    found = method.conclude(totals)["statistics"]["scale"]
    kept = np.asarray(examples["mean"])[[0, 1, 3]].reshape(-1, small.CHANNELS)
    np.testing.assert_allclose(found, np.sqrt(kept.var(0) + 0.25), rtol=1e-4)
    with pytest.raises(ValueError, match="no clip stays within the limit"):
        method.conclude({k: 0 * v for k, v in totals.items()})


def test_the_start_is_the_grid_standing_still_behind_the_same_picture():
    """Frame 0 of what still points would be, not of these tracks."""
    s = linear()
    params = s.space.init(jax.random.key(0), s.features.encoded_spec())
    batch = small.batch(2)
    tracks = batch["tracks"] + 1.0  # so that frame 0 is not the grid
    moved = s.space.encode(params, tracks, batch["frame"])
    still = jnp.broadcast_to(s.space.still(5), tracks.shape)
    rest = s.space.encode(params, still, batch["frame"])
    np.testing.assert_allclose(moved["start_mean"], rest["mean"][:, 0], rtol=1e-5)
    for name, found in s.space.encode_start(params, batch["frame"], 9).items():
        np.testing.assert_allclose(found, moved[name], rtol=1e-5)


def test_tables_are_not_trained():
    s = small.settings()
    for method in (
        VAEMethod(s.space.vae, W, s.features, VAELosses()),
        FlowMethod(s.space, s.flow, s.features, FlowLosses(), cached=True),
    ):
        trainable, frozen = split_trainable(method, jax.eval_shape(method.init, jax.random.key(0)))
        (name,) = trainable
        assert {"pos_embed", "temp_embed", "frame_embed"} <= set(frozen[name])
        assert not {"pos_embed", "temp_embed", "frame_embed"} & set(trainable[name])
