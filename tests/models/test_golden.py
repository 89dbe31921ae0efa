"""Equality with stored outputs of the original PyTorch networks (every array of the files)."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.latte.flow import TrackFlow
from tavid_jax.models.latte.vae import TrackVAE
from tavid_jax.models.latte.visibility import VisibilityHead
from tavid_jax.weights.trajloom_configs import flow_config, vae_config, visibility_config

pytestmark = pytest.mark.parity

# Relative to the rms of the stored array. Float32 noise is 2e-6, a wrong norm epsilon 5e-4.
TOLERANCE = 1e-5


def parts(golden):
    """(constructor arguments, state dict, inputs, outputs)."""

    def under(prefix):
        return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}

    kwargs = json.loads(str(golden["config"]))["kwargs"]
    return kwargs, under("sd/"), under("in/"), under("out/")


def apply(model, params, method, *args):
    call = jax.jit(lambda p, *a: model.apply({"params": p}, *a, method=method))
    return call(params, *(None if a is None else jnp.asarray(a) for a in args))


@pytest.fixture(scope="module")
def vae(goldens):
    kwargs, state, given, stored = parts(goldens("trajloom_vae_tiny"))
    config = vae_config(kwargs, "golden")
    params = weights.port("trajloom_vae", state, config)
    cells = 2 * given["tracks_px"] / np.array(config.size_hw[::-1], np.float32) - 1
    cells = cells.reshape(*cells.shape[:2], *config.grid_hw, 2)
    return config, params, given, stored, cells


def test_vae_encode_folded(vae, relative_error):
    config, params, _, stored, cells = vae
    model = TrackVAE(config)
    posterior = apply(model, params, model.encode, cells)
    assert relative_error(posterior.mean, stored["mean_tracks"]) < TOLERANCE
    assert relative_error(posterior.std, stored["std_tracks"]) < TOLERANCE
    assert relative_error(posterior.kl(), stored["kl"]) < TOLERANCE


def test_vae_encode_dense(vae, relative_error):
    config, params, given, stored, _ = vae
    model = TrackVAE(config)
    field = np.moveaxis(given["x_dense"], 2, -1)
    posterior = apply(model, params, model.encode_dense, field)
    assert relative_error(posterior.mean, stored["mean_dense"]) < TOLERANCE
    assert relative_error(posterior.std, stored["std_dense"]) < TOLERANCE


def test_vae_decode_dense(vae, relative_error):
    config, params, given, stored, _ = vae
    model = TrackVAE(config)
    field = apply(model, params, model.decode_dense, given["z"])
    assert relative_error(np.moveaxis(field, -1, 2), stored["decoded"]) < TOLERANCE


def test_vae_reconstruction_at_query_pixels(vae, relative_error):
    config, params, _, stored, cells = vae
    recon = apply(TrackVAE(config), params, None, cells)
    want = stored["recon_at_query_norm"].reshape(recon.shape)
    assert relative_error(recon, want) < TOLERANCE


def test_vae_log_likelihood(vae, relative_error):
    """Minus Huber (delta 1) of the dense reconstruction, with and without visibility."""
    config, params, given, stored, cells = vae
    model = TrackVAE(config)
    field = apply(model, params, model.decode_dense, jnp.asarray(stored["mean_tracks"]))

    def enlarged(x):
        return x.repeat(config.patch, axis=2).repeat(config.patch, axis=3)

    error = np.abs(np.asarray(field) - enlarged(cells))
    huber = np.where(error <= 1, 0.5 * error**2, error - 0.5)
    assert relative_error(-huber.mean((1, 2, 3, 4)), stored["ll_unmasked"]) < TOLERANCE
    visible = enlarged(given["visibility"].reshape(*cells.shape[:-1])[..., None])
    visible = np.broadcast_to(visible, huber.shape)
    masked = (huber * visible).sum((1, 2, 3, 4)) / visible.sum((1, 2, 3, 4))
    assert relative_error(-masked, stored["ll_masked"]) < TOLERANCE


@pytest.fixture(scope="module")
def flow(goldens):
    kwargs, state, given, stored = parts(goldens("trajloom_generator_tiny"))
    config = flow_config(kwargs, "golden")
    return config, weights.port("trajloom_flow", state, config), given, stored


@pytest.mark.parametrize(
    "name, missing",
    [
        ("v_full", ()),
        ("v_notext", ("text",)),
        ("v_novis", ("hist_vis",)),
        ("v_notext_novis", ("text", "hist_vis")),
        ("v_novideo", ("z_video",)),
    ],
)
def test_flow_velocity(flow, relative_error, name, missing):
    config, params, given, stored = flow
    names = ("z_t", "t", "z_hist", "hist_vis", "z_video", "text")
    inputs = [None if n in missing else given[n] for n in names]
    got = apply(TrackFlow(config), params, None, *inputs)
    assert relative_error(got, stored[name]) < TOLERANCE


def test_flow_euler_from_one_context(flow, relative_error):
    config, params, given, stored = flow
    model = TrackFlow(config)
    conditions = (given["z_hist"], given["hist_vis"], given["z_video"], given["text"])
    context = apply(model, params, model.context, *conditions)
    z = jnp.asarray(given["z_t"])
    step = jax.jit(
        lambda z, t: z + 0.25 * model.apply({"params": params}, z, t, context, method="velocity")
    )
    for k in range(4):
        z = step(z, jnp.full(z.shape[:1], np.clip(k / 4, 1e-5, 1 - 1e-5), jnp.float32))
    assert relative_error(z, stored["z_euler4"]) < TOLERANCE


def test_visibility(goldens, relative_error):
    kwargs, state, given, stored = parts(goldens("trajloom_visibility_tiny"))
    config = visibility_config(kwargs, "golden")
    params = weights.port("trajloom_visibility", state, config)
    logits = apply(VisibilityHead(config), params, None, given["z_fut"])
    assert relative_error(logits, stored["logits"]) < TOLERANCE
