"""WhnDenoiser: the rectified-flow transformer that moves the points of one picture.

It predicts the velocity of a whole clip's latents (or positions of tracks) at once. Frame 0, the
known start of every point, is part of its input; who calls it keeps that frame where it is. What
depends on the picture and the text alone lives in a `FrameContext`, made once per clip.
"""

from typing import Any, ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.latte import checks
from tavid_jax.models.layers.axial import walk_axial
from tavid_jax.models.layers.depth import Remat, init_stack
from tavid_jax.models.layers.embeddings import cos_sin_embedding
from tavid_jax.models.layers.linear import Params, linear, xavier_linear, zero_linear
from tavid_jax.models.layers.mlp import init_mlp, mlp, silu, tanh_gelu
from tavid_jax.models.layers.modulation import modulated_norm
from tavid_jax.models.layers.patches import unpatchify
from tavid_jax.models.whn.attention import (
    KeysValues,
    cross_attention,
    init_attention,
    project_context,
    self_attention,
)
from tavid_jax.models.whn.config import WhnConfig
from tavid_jax.models.whn.tables import (
    TABLES,
    embed_patches,
    encode_tracks,
    init_track_encoder,
    table_initialisers,
    time_table,
)
from tavid_jax.parallel.sharding import constrain

# Width of the sinusoid of the flow time.
TIME_DIM = 256
# shift, scale, gate of self-attention; gate of cross-attention; shift, scale, gate of the MLP.
_MODULATIONS = 7


@flax.struct.dataclass
class FrameContext:
    """What a `WhnDenoiser` knows of a clip besides its state and the flow time.

    Attributes:
      tokens: (B, M, D) of the picture, or None where keys and values are kept instead.
      keys_values: two of (depth, B, K, M, d), or None.
      condition: (B, D) float32 of the text, or None.
    """

    # Any: as a pytree it may also hold shapes, shardings or None.
    tokens: Any
    keys_values: Any
    condition: Any


def init_block(key: PRNGKeyArray, dim: int, mlp_dim: int) -> Params:
    """One block: Xavier linears, modulation zero (the block starts as the identity)."""
    key_attn, key_cross, key_mlp, key_mod = jax.random.split(key, 4)
    return {
        "attn": init_attention(key_attn, dim, xavier_linear),
        "xattn": init_attention(key_cross, dim, xavier_linear),
        "mlp": init_mlp(key_mlp, dim, mlp_dim, dim, xavier_linear),
        "adaln": zero_linear(key_mod, dim, _MODULATIONS * dim),
    }


def _parts(params: Params, condition: Float[Array, "B D"], count: int, dtype: DTypeLike) -> list:
    """The modulations of a sample, each (B, 1, 1, D): the condition is not copied to tokens."""
    return jnp.split(linear(params, silu(condition), dtype)[:, None, None], count, axis=-1)


def _block(params, x, condition, keys_values, *, axis, heads, dtype):
    x = constrain(x, "batch", "time", "tokens", "embed")
    parts = _parts(params["adaln"], condition, _MODULATIONS, dtype)
    shift, scale, gate, gate_cross, shift_mlp, scale_mlp, gate_mlp = parts
    y = modulated_norm(x, shift, scale, dtype)
    x = x + gate * self_attention(params["attn"], y, axis=axis, heads=heads, dtype=dtype)
    # The published query is x itself, without a norm.
    x = x + gate_cross * cross_attention(params["xattn"], x, keys_values, heads=heads, dtype=dtype)
    y = modulated_norm(x, shift_mlp, scale_mlp, dtype)
    return x + gate_mlp * mlp(params["mlp"], y, dtype, tanh_gelu)


class WhnDenoiser(nn.Module):
    """Velocity field of a clip's latents or tracks. Data is at flow time 1, noise at 0.

    Attributes:
      config: the architecture.
      dtype: dtype of the blocks' arithmetic; parameters, positions, norms, softmax, the
        conditioning vector and the returned velocity are float32 in any case.
      scan: walk the depth with one compiled (space, time) pair; False unrolls it.
      remat: "none", or "full" to keep only block inputs for the backward pass.
    """

    config: WhnConfig
    dtype: DTypeLike = jnp.float32
    scan: bool = True
    remat: Remat = "none"

    frozen_paths: ClassVar[tuple[str, ...]] = TABLES

    def setup(self):
        c, d = self.config, self.config.hidden
        small = jax.nn.initializers.normal(0.02)

        def small_linear(key, n_in, n_out):
            return {"kernel": small(key, (n_in, n_out)), "bias": jnp.zeros((n_out,))}

        for name, init in table_initialisers(c).items():
            setattr(self, name, self.param(name, init))
        if c.raw:
            self.x_encoder = self.param("x_encoder", init_track_encoder, c.fourier_dim, 4 * d)
        taps = c.patch**2 * c.embed_channels
        self.x_embedder = self.param("x_embedder", xavier_linear, taps, d)
        self.time_mlp = self.param("time_mlp", init_mlp, TIME_DIM, d, d, small_linear)
        self.frame_proj = self.param("frame_proj", xavier_linear, c.frame_dim, d)
        if c.text_dim:
            self.text_proj = self.param("text_proj", init_mlp, c.text_dim, 4 * d, d, xavier_linear)
        self.blocks = self.param(
            "blocks", lambda key: init_stack(lambda k: init_block(k, d, c.mlp_dim), key, c.depth)
        )
        self.final_adaln = self.param("final_adaln", zero_linear, d, 2 * d)
        self.final_layer = self.param("final_layer", zero_linear, d, c.patch**2 * c.channels)

    def __call__(
        self,
        x: Float[Array, "B F H W C"],
        t: Float[Array, " B"],
        frame: Float[Array, "B M E"],
        text: Float[Array, "B Dt"] | None = None,
    ) -> Float[Array, "B F H W C"]:
        """Velocity at (x, t): `context` and `velocity` in one.

        Keys and values are projected block by block, so that rematerialised training holds no
        stack of them.
        """
        return self.velocity(x, t, self.context(frame, text, cache=False))

    def context(
        self,
        frame: Float[Array, "B M E"],
        text: Float[Array, "B Dt"] | None = None,
        *,
        cache: bool = True,
    ) -> FrameContext:
        """What depends on neither flow time nor state.

        Args:
          frame: features of the picture, row-major.
          text: one pooled embedding per sample, if the model reads text.
          cache: project and keep keys and values of all blocks (sampling).

        Raises:
          ValueError: another number of features than the config's, or a text that is missing or
            that the model does not read.
        """
        c, me = self.config, "WhnDenoiser"
        checks.array_shape(me, "frame", frame.shape, (None, c.frame_tokens, c.frame_dim))
        if (text is not None) != bool(c.text_dim):
            raise ValueError(
                f"{me}: text is {'given' if text is not None else 'missing'}, "
                f"config.text_dim is {c.text_dim}"
            )
        tokens = linear(self.frame_proj, frame, self.dtype) + self.frame_embed.astype(self.dtype)
        condition = None
        if text is not None:
            checks.array_shape(me, "text", text.shape, (frame.shape[0], c.text_dim))
            condition = mlp(self.text_proj, text, jnp.float32, tanh_gelu)
        if not cache:
            return FrameContext(tokens=tokens, keys_values=None, condition=condition)
        kept = jax.vmap(self._project, in_axes=(0, None))(self.blocks["xattn"], tokens)
        return FrameContext(tokens=None, keys_values=kept, condition=condition)

    def velocity(
        self, x: Float[Array, "B F H W C"], t: Float[Array, " B"], context: FrameContext
    ) -> Float[Array, "B F H W C"]:
        """Velocity at state x and flow time t in [0, 1], of any number of frames F."""
        c, me = self.config, "WhnDenoiser"
        checks.array_shape(me, "x", x.shape, (None, None, *c.grid_hw, c.channels))
        checks.array_shape(me, "t", t.shape, x.shape[:1])
        frames = x.shape[1]
        given = encode_tracks(self.x_encoder, x, silu) if c.raw else x
        tokens = embed_patches(self.x_embedder, given, c.patch, self.dtype)
        tokens = tokens + self.pos_embed.astype(self.dtype)
        condition = mlp(self.time_mlp, cos_sin_embedding(t, TIME_DIM), jnp.float32, silu)
        if context.condition is not None:
            condition = condition + context.condition

        def block(layer: Any, x: Array, axis: str) -> Array:
            params, kept = layer
            kept = self._project(params["xattn"], context.tokens) if kept is None else kept
            return _block(params, x, condition, kept, axis=axis, heads=c.heads, dtype=self.dtype)

        tokens = walk_axial(
            block,
            (self.blocks, context.keys_values),
            tokens,
            dtype=self.dtype,
            scan=self.scan,
            remat=self.remat,
            after_first=time_table(self.temp_embed, frames),
        )
        shift, scale = _parts(self.final_adaln, condition, 2, jnp.float32)
        normed = modulated_norm(tokens, shift, scale, jnp.float32)
        out = linear(self.final_layer, normed, jnp.float32, precision="highest")
        flat = out.reshape(out.shape[0], -1, out.shape[-1])
        return unpatchify(flat, (frames, *c.tokens_hw), (1, c.patch, c.patch))

    def _project(self, params: Params, tokens: Float[Array, "B M D"]) -> KeysValues:
        return project_context(params, tokens, heads=self.config.heads, dtype=self.dtype)
