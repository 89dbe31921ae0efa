"""Fixed tables of places and times, and the Fourier encoder of positions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.layers.embeddings import fourier_features, sin_cos_grid, sin_cos_table
from tavid_jax.models.layers.linear import Params, linear, xavier_linear
from tavid_jax.models.layers.mlp import init_mlp, mlp
from tavid_jax.models.layers.patches import patchify
from tavid_jax.models.whn.config import WhnConfig, WhnVAEConfig

# Search patterns of what no training changes.
TABLES = (r"^pos_embed$", r"^temp_embed$", r"^frame_embed$")


def table_initialisers(config: WhnConfig | WhnVAEConfig) -> dict[str, Callable[..., Array]]:
    """Name -> function of a key, for the places of tokens, times, and places in the picture."""
    c = config

    def constant(make: Callable[[], np.ndarray]) -> Callable[..., Array]:
        return lambda key: jnp.asarray(make())

    times = np.arange(c.num_frames, dtype=np.float64)
    return {
        "pos_embed": constant(lambda: sin_cos_grid(c.tokens_hw, c.hidden)),
        "temp_embed": constant(lambda: sin_cos_table(times, c.hidden)),
        "frame_embed": constant(lambda: sin_cos_grid(c.frame_grid_hw, c.hidden)),
    }


def time_table(stored: Float[Array, "T D"], frames: int) -> Float[Array, "F 1 D"]:
    """The table of times of any number of frames: rows as stored, then those that follow.

    The published table is a sinusoid of the frame's number, so it goes on beyond its last row.
    """
    have, dim = stored.shape
    rows = stored[:frames]
    if frames > have:
        more = sin_cos_table(np.arange(have, frames, dtype=np.float64), dim)
        rows = jnp.concatenate([rows, jnp.asarray(more, stored.dtype)])
    return rows[:, None]


def init_track_encoder(key: PRNGKeyArray, dim: int, hidden: int) -> Params:
    """Directions (dim/2, 2), standard normal (ours), and an MLP with `hidden` units."""
    key_w, key_mlp = jax.random.split(key)
    return {
        "w": jax.random.normal(key_w, (dim // 2, 2), jnp.float32),
        "mlp": init_mlp(key_mlp, dim, hidden, dim, xavier_linear),
    }


def encode_tracks(
    params: Params,
    tracks: Float[Array, "B F H W 2"],
    activation: Callable[[Array], Array],
) -> Float[Array, "B F H W C"]:
    """Normalised positions and learned features of them; float32."""
    features = fourier_features(tracks, params["w"])
    features = mlp(params["mlp"], features, jnp.float32, activation)
    return jnp.concatenate([tracks.astype(jnp.float32), features], axis=-1)


def embed_patches(
    params: Params, x: Float[Array, "B F H W C"], patch: int, dtype: DTypeLike
) -> Float[Array, "B F N D"]:
    """One token per patch of every frame; the product is float32, as x may be positions."""
    tokens = linear(params, patchify(x, (1, patch, patch)), jnp.float32, precision="highest")
    return tokens.reshape(x.shape[0], x.shape[1], -1, tokens.shape[-1]).astype(dtype)
