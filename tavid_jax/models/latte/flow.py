"""TrackFlow: the rectified-flow transformer that forecasts track latents (TrajLoom-Flow).

It predicts the velocity of all future latents at once from the history's latents and
visibility, features of the history video, and a text embedding. What depends neither on flow
time nor on the noisy state lives in a `Context` (context.py), made once per clip by
`TrackFlow.context` and shared by all solver steps and, through `repeat_context`, by all samples.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.latte import checks, parts
from tavid_jax.models.latte.attention import (
    ACTIVATIONS,
    Axis,
    as_keys_values,
    cross_attention,
    init_cross_attention,
    init_self_attention,
    project_keys_values,
    self_attention,
)
from tavid_jax.models.latte.context import (
    Compact,
    Conditions,
    Context,
    KeysValues,
    compact_frames,
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
from tavid_jax.models.layers.depth import (
    Remat,
    as_pairs,
    init_stack,
    take_block,
    walk_depth,
)
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
    x = checkpoint_name(constrain(x, "batch", "time", "tokens", "embed"), "block_input")
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
      remat: what the backward pass keeps of every (space, time) pair, see `layers.depth.Remat`;
        the names are `attention.ACTIVATIONS`.
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
          cache: project and keep the keys and values of all cross-attentions (sampling; where
            fields are walked in parts, those of temporal blocks stay `Compact`). False keeps the
            context tokens instead, for training.
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
        if not cache:
            return context
        lean = parts.numbers_at_once() is not None
        return self._with_keys_values(context, self._compact(params, given) if lean else None)

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
        options = dict(heads=c.heads, dtype=self.dtype)

        def space(x, block, cached):
            keys_values = self._of_space(block["xattn"], context.spatial, cached)

            def on_part(x, _):
                return flow_block(block, x, condition, keys_values, axis="space", **options)

            return parts.over_sequences(on_part, x, axis="space")

        def time(x, block, cached):
            sources, keys_values = self._of_time(block["xattn"], context.temporal, cached)

            def on_part(x, sources):
                own = keys_values(sources)
                return flow_block(block, x, condition, own, axis="time", **options)

            return parts.over_sequences(on_part, x, sources, axis="time")

        def pair(x, layer):
            params, of_time, of_space = layer
            order = [
                (space, take_block(params, 0), of_space),
                (time, take_block(params, 1), of_time),
            ]
            for walk, block, cached in order[::-1] if c.temporal_first else order:
                x = walk(x, block, cached)
            return x

        layers = (as_pairs(self.blocks), _stacked(context.temporal), _stacked(context.spatial))
        x = walk_depth(pair, x, layers, scan=self.scan, remat=self.remat, names=ACTIVATIONS)
        return linear(self.out_proj, rms_norm(x), jnp.float32)

    def _of_space(self, params: Params, tokens: Any, cached: Any) -> KeysValues | None:
        """What all frames of a spatial block attend to."""
        return cached if cached is not None or tokens is None else self._project(params, tokens)

    def _of_time(
        self, params: Params, tokens: Any, cached: Any
    ) -> tuple[Any, Callable[[Any], KeysValues]]:
        """(one source per token, from sources to keys and values) of a temporal block."""
        if isinstance(tokens, KeysValues):
            return cached, lambda keys_values: keys_values
        if not isinstance(tokens, Compact):
            return tokens, lambda tokens: self._project(params, tokens)
        kernel, offset = cached

        def make(inputs: Array) -> KeysValues:
            projected = (inputs @ kernel + offset).astype(self.dtype)
            return KeysValues(*as_keys_values(projected, heads=self.config.heads, dtype=self.dtype))

        return tokens.inputs, make

    def _project(self, params: Params, tokens: Float[Array, "*B S D"]) -> KeysValues:
        return KeysValues(
            *project_keys_values(params, tokens, heads=self.config.heads, dtype=self.dtype)
        )

    def _with_keys_values(self, context: Context, compact: Compact | None) -> Context:
        """The context with tokens replaced by keys and values of all blocks that read them."""
        cross = as_pairs(self.blocks["xattn"])
        of_space, of_time = (jax.tree.map(lambda a, i=i: a[:, i], cross) for i in (0, 1))
        project = jax.vmap(self._project, in_axes=(0, None))
        spatial = context.spatial
        return context.replace(
            temporal=compact or project(of_time, context.temporal),
            spatial=None if spatial is None else project(of_space, spatial),
        )

    def _compact(self, params: Mapping, given: Conditions) -> Compact:
        """Keys and values of all temporal blocks, by what they are made of."""
        inputs, kernel, offset = compact_frames(params, given, self.config)
        kv = jax.tree.map(lambda a: a[1::2], self.blocks["xattn"]["kv"])
        through = partial(jnp.einsum, "id,pde->pie", precision="highest")
        return Compact(
            inputs=jnp.swapaxes(inputs, 1, 2),
            kernel=through(kernel, kv["kernel"]),
            offset=through(offset, kv["kernel"]) + kv["bias"][:, None],
        )


def _stacked(part: Any) -> Any:
    """What is stacked over the blocks, for the scan over them."""
    if isinstance(part, Compact):
        return part.kernel, part.offset
    return part if isinstance(part, KeysValues) else None


__all__ = ["Context", "TrackFlow", "TrackFlowConfig", "repeat_context"]
