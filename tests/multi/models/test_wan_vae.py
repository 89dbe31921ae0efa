"""Wan's autoencoders on eight devices, batch and rows divided, equal those on one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from tavid_jax.models.wan.vae.autoencoder import WanVAE, initialisers
from tavid_jax.models.wan.vae.config import WanVAEConfig
from tavid_jax.models.wan.vae.sharding import SHARDING
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import partition, shardings_for


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    """These tests compile a lot and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


SIZES = {
    "latent_channels": 4,
    "num_blocks": 1,
    "latent_mean": (0.0,) * 4,
    "latent_std": (1.0,) * 4,
}
CONFIGS = {
    "2.1": WanVAEConfig(encoder_dim=4, decoder_dim=8, **SIZES),
    "2.2": WanVAEConfig(encoder_dim=4, decoder_dim=8, residual=True, patch=2, **SIZES),
}
# Four devices do not divide the six rows of the coarsest level, but those of all others; of its
# positions they divide twelve, but not eighteen.
BATCH, FRAMES, ROWS, COLUMNS = 2, 5, 6, {"2.1": 2, "2.2": 3}


def random_params(config: WanVAEConfig):
    keys = jax.random.split(jax.random.key(0), 4)
    inits = initialisers(config)
    return {name: init(key) for key, (name, init) in zip(keys, inits.items(), strict=True)}


def there_and_back(model, params, x, z):
    posterior = model.apply({"params": params}, x, method=WanVAE.encode)
    return (
        posterior.mean,
        posterior.logvar,
        model.apply({"params": params}, z, method=WanVAE.decode),
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "2.1" else ()) for name in CONFIGS],
)
def test_eight_devices_equal_one(name):
    config = CONFIGS[name]
    model, stride = WanVAE(config), config.stride_hw
    params = random_params(config)
    rng = np.random.default_rng(0)
    size = ROWS * stride, COLUMNS[name] * stride
    x = jnp.asarray(rng.uniform(-1, 1, (BATCH, FRAMES, *size, 3)), jnp.float32)
    z = jnp.asarray(rng.standard_normal((BATCH, 2, ROWS, COLUMNS[name], 4)), jnp.float32)
    want = jax.jit(there_and_back, static_argnums=0)(model, params, x, z)
    mesh = make_mesh({"fsdp": 2, "context": 4})
    with jax.set_mesh(mesh):
        # Every kernel is split, however small.
        table = dataclasses.replace(SHARDING, min_size=1)
        spread = jax.device_put(params, shardings_for(params, mesh, table))
        run = jax.jit(there_and_back, static_argnums=0)
        got = run(model, spread, x, z)
        rows = NamedSharding(mesh, partition(x.shape, "batch", None, "rows", None, None))
        assert rows.spec[2] == "context" and got[2].sharding.is_equivalent_to(rows, x.ndim)
    for ours, alone in zip(got, want, strict=True):
        ours, alone = np.asarray(ours), np.asarray(alone)
        assert np.abs(ours - alone).max() <= 1e-5 * np.sqrt(np.mean(alone**2))
