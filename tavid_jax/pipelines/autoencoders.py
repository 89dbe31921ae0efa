"""The autoencoders by name, with their tiles and their place on the mesh."""

from __future__ import annotations

from typing import Any

from tavid_jax.models.cogvideox.vae.autoencoder import CogVideoXVAE
from tavid_jax.models.cogvideox.vae.config import VAE_PRESETS as COGVIDEOX
from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig
from tavid_jax.models.cogvideox.vae.config import default_tiles as cogvideox_tiles
from tavid_jax.models.layers.autoencoder import VideoAutoencoder
from tavid_jax.models.layers.space_to_depth import SpaceToDepth, SpaceToDepthConfig
from tavid_jax.models.layers.tiling import Tiles
from tavid_jax.models.wan.vae.autoencoder import WanVAE
from tavid_jax.models.wan.vae.config import VAE_PRESETS as WAN
from tavid_jax.models.wan.vae.config import WanVAEConfig
from tavid_jax.models.wan.vae.config import default_tiles as wan_tiles
from tavid_jax.models.wan.vae.sharding import SHARDING as WAN_SHARDING
from tavid_jax.parallel.sharding import PathTable

Config = WanVAEConfig | CogVideoXVAEConfig | SpaceToDepthConfig
PRESETS: dict[str, Config] = {**WAN, **COGVIDEOX, "space-to-depth": SpaceToDepthConfig()}

_KINDS = {
    WanVAEConfig: WanVAE,
    CogVideoXVAEConfig: CogVideoXVAE,
    SpaceToDepthConfig: SpaceToDepth,
}


def make_autoencoder(config: Config, **options: Any) -> VideoAutoencoder:
    """The module of a config; `options` are its dtypes."""
    return _KINDS[type(config)](config, **options)


def sharding_of(config: Config) -> PathTable:
    """Where its parameters lie on a mesh."""
    return WAN_SHARDING if isinstance(config, WanVAEConfig) else PathTable()


def tiles_of(config: Config, tiles: bool | Tiles) -> Tiles | None:
    """The tiles that are meant: none, the published ones (True), or these."""
    if not isinstance(tiles, bool):
        return tiles
    if not tiles or isinstance(config, SpaceToDepthConfig):  # which needs no memory
        return None
    published = wan_tiles if isinstance(config, WanVAEConfig) else cogvideox_tiles
    return published(config)
