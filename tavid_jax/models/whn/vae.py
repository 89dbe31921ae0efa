"""WhnVAE: the autoencoder of tracks on a grid, which sees the picture that they start in.

Every frame keeps its tokens: latents are (B, F, N, C) for F frames. Positions are absolute and
normalised, x_n = 2x/W - 1 with the frame's outer corner at -1, always float32.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.latte import checks
from tavid_jax.models.latte.vae import Posterior
from tavid_jax.models.layers.axial import walk_axial
from tavid_jax.models.layers.depth import Remat, init_stack
from tavid_jax.models.layers.linear import Params, linear, xavier_linear, zero_linear
from tavid_jax.models.layers.mlp import init_mlp, mlp, tanh_gelu
from tavid_jax.models.layers.norms import init_norm, rms_norm
from tavid_jax.models.layers.patches import unpatchify
from tavid_jax.models.whn.attention import (
    cross_attention,
    init_attention,
    project_context,
    self_attention,
)
from tavid_jax.models.whn.config import WhnVAEConfig
from tavid_jax.models.whn.tables import (
    TABLES,
    embed_patches,
    encode_tracks,
    init_track_encoder,
    table_initialisers,
    time_table,
)
from tavid_jax.parallel.sharding import constrain

_GATES = ("gate_msa", "gate_mxa", "gate_mlp")
_NORMS = ("norm1", "norm2", "norm3")


def init_gated_block(key: PRNGKeyArray, dim: int, mlp_dim: int) -> Params:
    """One block: Xavier linears, norms one, gates zero (the block starts as the identity)."""
    key_attn, key_cross, key_mlp = jax.random.split(key, 3)
    return {
        **{gate: jnp.zeros((dim,), jnp.float32) for gate in _GATES},
        **{norm: init_norm(dim, bias=False) for norm in _NORMS},
        "attn": init_attention(key_attn, dim, xavier_linear),
        "xattn": init_attention(key_cross, dim, xavier_linear),
        "mlp": init_mlp(key_mlp, dim, mlp_dim, dim, xavier_linear),
    }


def _block(params, x, context, *, axis, heads, dtype):
    x = constrain(x, "batch", "time", "tokens", "embed")

    def normed(x, name):
        return rms_norm(x, params[name]["scale"]).astype(dtype)

    gates = [params[gate].astype(dtype) for gate in _GATES]
    x = x + gates[0] * self_attention(
        params["attn"], normed(x, "norm1"), axis=axis, heads=heads, dtype=dtype
    )
    kept = project_context(params["xattn"], context, heads=heads, dtype=dtype)
    x = x + gates[1] * cross_attention(
        params["xattn"], normed(x, "norm2"), kept, heads=heads, dtype=dtype
    )
    return x + gates[2] * mlp(params["mlp"], normed(x, "norm3"), dtype, tanh_gelu)


class WhnVAE(nn.Module):
    """Encoder and decoder of tracks on a grid.

    Attributes: as those of `WhnDenoiser`.
    """

    config: WhnVAEConfig
    dtype: DTypeLike = jnp.float32
    scan: bool = True
    remat: Remat = "none"

    frozen_paths: ClassVar[tuple[str, ...]] = (*TABLES, r"^x_encoder/w$")

    def setup(self):
        c, d = self.config, self.config.hidden

        def stack(key, depth):
            return init_stack(lambda k: init_gated_block(k, d, c.mlp_dim), key, depth)

        for name, init in table_initialisers(c).items():
            setattr(self, name, self.param(name, init))
        self.x_encoder = self.param("x_encoder", init_track_encoder, c.fourier_dim, 4 * d)
        taps = c.patch**2 * c.embed_channels
        self.x_embedder = self.param("x_embedder", xavier_linear, taps, d)
        self.frame_proj = self.param("frame_proj", xavier_linear, c.frame_dim, d)
        self.encoder_blocks = self.param("encoder_blocks", stack, c.encoder_depth)
        self.to_latents = self.param("to_latents", xavier_linear, d, 2 * c.latent_channels)
        self.from_latents = self.param("from_latents", xavier_linear, c.latent_channels, d)
        self.decoder_blocks = self.param("decoder_blocks", stack, c.decoder_depth)
        self.final_layer = self.param("final_layer", zero_linear, d, 2 * c.patch**2)

    def __call__(
        self, tracks: Float[Array, "B F H W 2"], frame: Float[Array, "B M E"]
    ) -> Float[Array, "B F H W 2"]:
        """Reconstruction from the posterior mean."""
        return self.decode(self.encode(tracks, frame).mean, frame)

    def encode(self, tracks: Float[Array, "B F H W 2"], frame: Float[Array, "B M E"]) -> Posterior:
        """Posterior of latents (B, F, N, C), for any number of frames F.

        Args:
          tracks: normalised positions; those of frame 0 are the grid.
          frame: features of the picture of frame 0, row-major.
        """
        c = self.config
        checks.array_shape("WhnVAE", "tracks", tracks.shape, (None, None, *c.grid_hw, 2))
        x = encode_tracks(self.x_encoder, tracks, tanh_gelu)
        x = embed_patches(self.x_embedder, x, c.patch, self.dtype)
        x = x + self.pos_embed.astype(self.dtype)
        times = time_table(self.temp_embed, tracks.shape[1])
        x = self._walk(self.encoder_blocks, x, frame, after_first=times)
        out = linear(self.to_latents, x, jnp.float32, precision="highest")
        mean, raw = jnp.split(out, 2, axis=-1)
        return Posterior(mean=mean, std=jax.nn.softplus(0.5 * raw) + c.least_std)

    def decode(
        self, z: Float[Array, "B F N C"], frame: Float[Array, "B M E"]
    ) -> Float[Array, "B F H W 2"]:
        """Normalised positions; not clamped."""
        c = self.config
        want = (None, None, c.num_tokens, c.latent_channels)
        checks.array_shape("WhnVAE", "z", z.shape, want)
        x = self._walk(self.decoder_blocks, linear(self.from_latents, z, self.dtype), frame)
        out = linear(self.final_layer, x, jnp.float32, precision="highest")
        flat = out.reshape(out.shape[0], -1, out.shape[-1])
        return unpatchify(flat, (z.shape[1], *c.tokens_hw), (1, c.patch, c.patch))

    def _walk(self, stack: Params, x: Array, frame: Array, **options: Any) -> Array:
        c = self.config
        checks.array_shape("WhnVAE", "frame", frame.shape, (None, c.frame_tokens, c.frame_dim))
        context = linear(self.frame_proj, frame, self.dtype) + self.frame_embed.astype(self.dtype)

        def block(params: Params, x: Array, axis: str) -> Array:
            return _block(params, x, context, axis=axis, heads=c.heads, dtype=self.dtype)

        running = dict(dtype=self.dtype, scan=self.scan, remat=self.remat)
        return walk_axial(block, stack, x, **running, **options)
