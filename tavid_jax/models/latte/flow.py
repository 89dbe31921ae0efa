"""TrackFlow: the rectified-flow transformer that forecasts track latents (TrajLoom-Flow).

It predicts the velocity of all future latents at once from the history's latents and
visibility, features of the history video, and a text embedding. What depends neither on flow
time nor on the noisy state lives in a `Context` (context.py), made once per clip by
`TrackFlow.context` and shared by all solver steps and, through `repeat_context`, by all samples.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.latte import checks
from tavid_jax.models.latte.attention import (
    Axis,
    cross_attention,
    init_cross_attention,
    init_self_attention,
    project_keys_values,
    self_attention,
)
from tavid_jax.models.latte.context import (
    Conditions,
    Context,
    KeysValues,
    context_frames,
    context_initialisers,
    embed_history,
    fill_conditions,
    query_offsets,
    repeat_context,
    spatial_context,
    static_condition,
)
from tavid_jax.models.latte.flow_config import TrackFlowConfig
from tavid_jax.models.layers.depth import Remat, as_pairs, init_stack, take_block, walk_depth
from tavid_jax.models.layers.embeddings import cos_sin_embedding
from tavid_jax.models.layers.linear import Params, linear, torch_linear
from tavid_jax.models.layers.mlp import init_mlp, mlp, silu
from tavid_jax.models.layers.modulation import init_modulation, modulated_norm, modulations
from tavid_jax.models.layers.norms import rms_norm
from tavid_jax.parallel.sharding import constrain

# Self-attention, cross-attention, MLP: three branches, each with (shift, scale, gate).
NUM_BRANCHES = 3


def init_flow_block(key: PRNGKeyArray, dim: int, mlp_dim: int) -> Params:
    """One block: PyTorch-default linears; modulation zero with all gates one."""
    key_attn, key_cross, key_mlp = jax.random.split(key, 3)
    return {
        "attn": init_self_attention(key_attn, dim, torch_linear),
        "xattn": init_cross_attention(key_cross, dim, torch_linear),
        "mlp": init_mlp(key_mlp, dim, mlp_dim, dim, torch_linear),
        "adaln": init_modulation(dim, dim, NUM_BRANCHES),
    }


def flow_block(
    params: Params,
    x: Float[Array, "B L N D"],
    condition: Float[Array, "B D"],
    keys_values: KeysValues | None,
    *,
    axis: Axis,
    heads: int,
    dtype: DTypeLike,
) -> Float[Array, "B L N D"]:
    """Modulated self-attention, cross-attention (if there is a context) and MLP."""
    x = constrain(x, "batch", "time", "tokens", "embed")
    own, cross, wide = modulations(params["adaln"], condition, NUM_BRANCHES, dtype)
    shift, scale, gate = own
    y = modulated_norm(x, shift, scale, dtype)
    x = x + gate * self_attention(
        params["attn"], y, axis=axis, heads=heads, qk_norm=True, dtype=dtype
    )
    if keys_values is not None:
        shift, scale, gate = cross
        y = modulated_norm(x, shift, scale, dtype)
        kv = (keys_values.k, keys_values.v)
        x = x + gate * cross_attention(params["xattn"], y, kv, axis=axis, heads=heads, dtype=dtype)
    shift, scale, gate = wide
    return x + gate * mlp(params["mlp"], modulated_norm(x, shift, scale, dtype), dtype)


class TrackFlow(nn.Module):
    """Velocity field of future track latents.

    Latents are standardised. Data is at flow time 1, the source at 0; the target is z1 - z0.

    Attributes:
      config: the architecture.
      dtype: dtype of the blocks' arithmetic; parameters, norms, softmax, the conditioning
        vector and the returned velocity are float32 in any case.
      scan: walk the depth with one compiled (time, space) pair; False unrolls it. Both forms
        read the same parameters.
      remat: "none", or "full" to keep only block inputs for the backward pass.
    """

    config: TrackFlowConfig
    dtype: DTypeLike = jnp.float32
    scan: bool = True
    remat: Remat = "none"

    frozen_paths: ClassVar[tuple[str, ...]] = ()

    def setup(self):
        c = self.config
        d = c.hidden

        def block(key):
            return init_flow_block(key, d, c.mlp_dim)

        self.in_proj = self.param("in_proj", torch_linear, c.latent_channels, d)
        # Normal with std 0.02, cut at +-2 (not at two standard deviations).
        table = jax.nn.initializers.truncated_normal(0.02, lower=-100.0, upper=100.0)
        self.pos_embed = self.param("pos_embed", table, (c.num_tokens, d))
        self.seg_embed = self.param("seg_embed", table, (2, d))
        self.time_mlp = self.param("time_mlp", init_mlp, d, 4 * d, d, torch_linear)
        self.conditions = {
            name: self.param(name, init) for name, init in context_initialisers(c).items()
        }
        self.blocks = self.param("blocks", lambda key: init_stack(block, key, c.depth))
        self.out_proj = self.param("out_proj", torch_linear, d, c.latent_channels)

    def __call__(
        self,
        z: Float[Array, "B L N C"],
        t: Float[Array, " B"],
        history: Float[Array, "B L N C"],
        history_visibility: Float[Array, "B L N"] | None = None,
        video: Float[Array, "B L N Cv"] | None = None,
        text: Float[Array, "B E"] | None = None,
    ) -> Float[Array, "B L N C"]:
        """Velocity at (z, t): `context` and `velocity` in one.

        Keys and values are projected block by block, so that rematerialised training holds
        no stack of them.
        """
        context = self.context(history, history_visibility, video, text, cache=False)
        return self.velocity(z, t, context)

    def context(
        self,
        history: Float[Array, "B L N C"],
        history_visibility: Float[Array, "B L N"] | None = None,
        video: Float[Array, "B L N Cv"] | None = None,
        text: Float[Array, "B E"] | None = None,
        *,
        cache: bool = True,
    ) -> Context:
        """Everything that depends neither on flow time nor on the noisy state.

        Args:
          history: standardised latents of the history window.
          history_visibility: pooled visibility in [0, 1]; None counts as all zeros (the
            projection's bias still enters).
          video: features of the history video on the latent grid; None counts as zeros.
          text: one pooled embedding per sample; None leaves the text term out, bias included.
          cache: project and keep the keys and values of all cross-attentions (sampling).
            False keeps the context tokens instead, for training.
        """
        c = self.config
        given = fill_conditions(c, Conditions(history, history_visibility, video, text))
        params = {**self.conditions, "pos_embed": self.pos_embed, "seg_embed": self.seg_embed}
        track, film = embed_history(params, given, c, self.dtype)
        frames = context_frames(params, track, film, c)
        context = Context(
            queries=query_offsets(params, track, film, c).astype(self.dtype),
            condition=static_condition(params, given, c),
            temporal=jnp.swapaxes(frames, 1, 2),
            spatial=spatial_context(params, frames, c),
        )
        return self._with_keys_values(context) if cache else context

    def velocity(
        self, z: Float[Array, "B L N C"], t: Float[Array, " B"], context: Context
    ) -> Float[Array, "B L N C"]:
        """Velocity at state z and flow time t in [0, 1], given a context of the same batch."""
        c, me = self.config, "TrackFlow.velocity"
        batch = context.batch_size
        want = (batch, c.num_latent_frames, c.num_tokens, c.latent_channels)
        checks.array_shape(me, "z (batch as in context; see repeat_context)", z.shape, want)
        checks.array_shape(me, "t", t.shape, (batch,))
        x = linear(self.in_proj, z, self.dtype) + context.queries
        flow_time = cos_sin_embedding(t, c.hidden)
        condition = context.condition + mlp(self.time_mlp, flow_time, jnp.float32, silu)

        def pair(x, layer):
            params, cached_time, cached_space = layer
            space, time = take_block(params, 0), take_block(params, 1)
            order = [
                (space, "space", cached_space, context.spatial),
                (time, "time", cached_time, context.temporal),
            ]
            for block, axis, cached, tokens in order[::-1] if c.temporal_first else order:
                if cached is None and tokens is not None:
                    cached = self._keys_values(block["xattn"], tokens)
                x = flow_block(
                    block, x, condition, cached, axis=axis, heads=c.heads, dtype=self.dtype
                )
            return x

        caches = (_if_cached(context.temporal), _if_cached(context.spatial))
        layers = (as_pairs(self.blocks), *caches)
        x = walk_depth(pair, x, layers, scan=self.scan, remat=self.remat)
        return linear(self.out_proj, rms_norm(x), jnp.float32)

    def _keys_values(self, params: Params, tokens: Float[Array, "*B S D"]) -> KeysValues:
        return KeysValues(
            *project_keys_values(params, tokens, heads=self.config.heads, dtype=self.dtype)
        )

    def _with_keys_values(self, context: Context) -> Context:
        """The context with tokens replaced by keys and values of all blocks that read them."""
        cross = as_pairs(self.blocks["xattn"])
        project = jax.vmap(self._keys_values, in_axes=(0, None))
        temporal = project(jax.tree.map(lambda a: a[:, 1], cross), context.temporal)
        spatial = context.spatial
        if spatial is not None:
            spatial = project(jax.tree.map(lambda a: a[:, 0], cross), spatial)
        return context.replace(temporal=temporal, spatial=spatial)


def _if_cached(part: Array | KeysValues | None) -> KeysValues | None:
    return part if isinstance(part, KeysValues) else None


__all__ = ["Context", "TrackFlow", "TrackFlowConfig", "repeat_context"]
