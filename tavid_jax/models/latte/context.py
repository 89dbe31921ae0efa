"""What a TrackFlow knows of the past: computed once per clip, independent of flow time.

Letters: B batch, L latent frames, N tokens, C latent channels, D width, K heads, S context
length, d head dim.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.latte import checks
from tavid_jax.models.latte.flow_config import TrackFlowConfig
from tavid_jax.models.layers.embeddings import cos_sin_embedding
from tavid_jax.models.layers.linear import Params, linear, torch_linear, zero_linear

# Rows of seg_embed.
HISTORY, FUTURE = 0, 1


class Conditions(NamedTuple):
    """The inputs of a forecast; None where the meaning of "not given" is the model's."""

    history: Float[Array, "B L N C"]
    history_visibility: Float[Array, "B L N"] | None
    video: Float[Array, "B L N Cv"] | None
    text: Float[Array, "B E"] | None


@flax.struct.dataclass
class KeysValues:
    """Projected context of cross-attention, stacked over the blocks that use it.

    k (after its norm) and v: (depth/2, B, N, K, S, d) for temporal blocks, (depth/2, B, K, S, d)
    for spatial ones.
    """

    # Any: as a pytree it may also hold shapes, shardings or None.
    k: Any
    v: Any


@flax.struct.dataclass
class Compact:
    """Context tokens of temporal blocks as the few numbers that they are made of.

    Tokens are an affine map of latents, visibility and video features, and so are keys (before
    their norm) and values. They are made where they are used, from F numbers a token instead of
    2 D: a hundred times less memory than `KeysValues` of all blocks, for 1 in 200 more work.

    Attributes:
      inputs: (B, N, S, F).
      kernel, offset: (depth/2, F, 2 D) and (depth/2, S, 2 D); inputs @ kernel + offset is (k, v).
    """

    inputs: Any
    kernel: Any
    offset: Any


@flax.struct.dataclass
class Context:
    """Everything that depends neither on flow time nor on the noisy state.

    Attributes:
      queries: (B, L, N, D) what is added to the embedded state: boundary fusion, time, segment
        and position embeddings.
      condition: (B, D) float32, the static part of the conditioning vector.
      temporal: what temporal blocks attend to: tokens (B, N, S, D), or KeysValues or Compact if
        cached.
      spatial: the same for spatial blocks, tokens (B, S, D), or None without context.
    """

    queries: Any
    condition: Any
    temporal: Any
    spatial: Any

    @property
    def batch_size(self) -> int:
        """B."""
        return self.condition.shape[0]


def repeat_context(context: Context, k: int) -> Context:
    """Every sample k times in a row: sample b of clip i has batch index i * k + b."""

    def repeat(part):
        if isinstance(part, Compact):
            return part.replace(inputs=repeat(part.inputs))
        axis = 1 if isinstance(part, KeysValues) else 0
        return jax.tree.map(lambda a: jnp.repeat(a, k, axis=axis), part)

    return Context(
        queries=repeat(context.queries),
        condition=repeat(context.condition),
        temporal=repeat(context.temporal),
        spatial=repeat(context.spatial),
    )


def context_initialisers(config: TrackFlowConfig) -> dict[str, Callable[..., Params | Array]]:
    """Name -> function of a key, for the parameters of the conditions that are switched on."""
    c, d = config, config.hidden

    def constant(value):
        return lambda key: jnp.asarray(value, jnp.float32)

    def affine(n_in, make=torch_linear):
        return lambda key: make(key, n_in, d)

    params = {
        "hist_track_proj": affine(c.latent_channels),
        "track_global_proj": affine(2 * c.latent_channels),
        "beta_track_cond": constant(1.0),
    }
    if c.use_hist_vis_cond:
        params["hist_vis_proj"] = affine(1, zero_linear)
        params["alpha_hist_vis"] = constant(c.hist_vis_scale_init)
    if c.use_video_cond:
        params["hist_video_proj"] = affine(c.video_channels)
        params["video_global_proj"] = affine(c.video_channels)
        params["alpha_video_ctx"] = constant(1.0)
        params["beta_video_cond"] = constant(1.0)
    if c.use_text_cond:
        params["text_proj"] = affine(c.text_dim)
    if c.track_fusion != "none":
        params["track_fusion_scale"] = constant(c.track_fusion_scale_init)
    if c.video_fusion != "none":
        params["video_fusion_scale"] = constant(c.video_fusion_scale_init)
    if c.has_time_gate:
        params["track_fusion_gate_logit"] = constant(_gate_logits(c.num_latent_frames))
    return params


def _gate_logits(frames: int) -> np.ndarray:
    """Logits of gates that fall from 0.95 at the first future frame to 0.35 at the last."""
    gates = np.clip(np.linspace(0.95, 0.35, frames), 1e-4, 1.0 - 1e-4)
    return np.log(gates / (1.0 - gates))


def fill_conditions(config: TrackFlowConfig, given: Conditions) -> Conditions:
    """Checks shapes, and puts zeros where an input that is switched on is not given.

    Text stays None: without a text its term is left out, bias included.
    """
    c, me = config, "TrackFlow"
    batch = given.history.shape[0]
    grid = (batch, c.num_latent_frames, c.num_tokens)
    shapes = {
        "history": ((*grid, c.latent_channels), True),
        "history_visibility": (grid, c.use_hist_vis_cond),
        "video": ((*grid, c.video_channels), c.use_video_cond),
        "text": ((batch, c.text_dim), c.use_text_cond),
    }
    filled = {}
    for (name, (shape, used)), value in zip(shapes.items(), given, strict=True):
        if value is not None and not used:
            raise ValueError(
                f"{me}: {name} is given but switched off in the config; pass None or switch it on"
            )
        if value is not None:
            checks.array_shape(me, name, value.shape, shape)
        elif used and name != "text":
            value = jnp.zeros(shape, jnp.float32)
        filled[name] = value
    return Conditions(**filled)


def embed_history(
    params: Mapping, given: Conditions, config: TrackFlowConfig, dtype: DTypeLike
) -> tuple[Float[Array, "B L N D"], Float[Array, "B L N D"] | None]:
    """Embedded track latents (with visibility) and embedded video features (None if off)."""
    track = linear(params["hist_track_proj"], given.history, dtype)
    if config.use_hist_vis_cond:
        seen = linear(params["hist_vis_proj"], given.history_visibility[..., None], dtype)
        track = track + params["alpha_hist_vis"].astype(dtype) * seen
    if not config.use_video_cond:
        return track, None
    return track, linear(params["hist_video_proj"], given.video, dtype)


def query_offsets(
    params: Mapping,
    track: Float[Array, "B L N D"],
    video: Float[Array, "B L N D"] | None,
    config: TrackFlowConfig,
) -> Float[Array, "B L N D"]:
    """What is added to the embedded state of every future token; float32.

    Boundary fusion, scale * gate_l * (last + w_l * velocity) with w_l = l/(L-1), then the
    embeddings of future time, segment and position.
    """
    c = config
    frames = c.num_latent_frames
    start = c.num_frames - int(c.use_overlap)
    times = start + c.temporal_stride * jnp.arange(frames, dtype=jnp.float32)
    static = cos_sin_embedding(times, c.hidden)[:, None] + params["seg_embed"][FUTURE]
    static = static + params["pos_embed"]
    offsets = jnp.broadcast_to(static, (track.shape[0], *static.shape))
    gate = jnp.ones((frames,), jnp.float32)
    if c.has_time_gate:
        gate = jax.nn.sigmoid(params["track_fusion_gate_logit"])
    gate = gate[:, None, None]
    if c.track_fusion != "none":
        last = track[:, -1:].astype(jnp.float32)
        if c.track_fusion == "add_last_plus_vel":
            ramp = jnp.linspace(0.0, 1.0, frames)[:, None, None]
            last = last + ramp * (last - track[:, -2:-1])
        offsets = offsets + params["track_fusion_scale"] * gate * last
    if c.video_fusion != "none":
        offsets = offsets + params["video_fusion_scale"] * gate * video[:, -1:]
    return offsets


def static_condition(
    params: Mapping, given: Conditions, config: TrackFlowConfig
) -> Float[Array, "B D"]:
    """The conditioning vector without its flow-time part; float32."""
    history = given.history.astype(jnp.float32)
    summary = jnp.concatenate([history.mean((1, 2)), history[:, -1].mean(1)], axis=-1)
    tracks = linear(params["track_global_proj"], summary, jnp.float32)
    condition = params["beta_track_cond"] * tracks
    if config.use_video_cond:
        mean = given.video.astype(jnp.float32).mean((1, 2))
        video = linear(params["video_global_proj"], mean, jnp.float32)
        condition = condition + params["beta_video_cond"] * video
    if given.text is not None:
        condition = condition + linear(params["text_proj"], given.text, jnp.float32)
    return condition


def context_frames(
    params: Mapping,
    track: Float[Array, "B L N D"],
    video: Float[Array, "B L N D"] | None,
    config: TrackFlowConfig,
) -> Float[Array, "B F N D"]:
    """The context stack: L frames, or 2L (tracks, then video) in "concat" mode."""
    embedding = history_embedding(params, config)[:, None].astype(track.dtype)
    if video is None:
        return track + embedding
    video = params["alpha_video_ctx"].astype(video.dtype) * video
    if config.video_ctx_mode == "sum":
        return track + video + embedding
    return jnp.concatenate([track + embedding, video + embedding], axis=1)


def compact_frames(
    params: Mapping, given: Conditions, config: TrackFlowConfig
) -> tuple[Float[Array, "B S N F"], Float[Array, "F D"], Float[Array, "S D"]]:
    """(inputs, kernel, offset) with `context_frames` = inputs @ kernel + offset; float32."""
    c = config
    inputs, rows = [given.history], [params["hist_track_proj"]["kernel"]]
    offset = params["hist_track_proj"]["bias"]
    if c.use_hist_vis_cond:
        scale, seen = params["alpha_hist_vis"], params["hist_vis_proj"]
        inputs.append(given.history_visibility[..., None])
        rows.append(scale * seen["kernel"])
        offset = offset + scale * seen["bias"]
    offset = offset + history_embedding(params, c)
    if c.use_video_cond:
        scale, film = params["alpha_video_ctx"], params["hist_video_proj"]
        rows.append(scale * film["kernel"])
        if c.video_ctx_mode == "sum":
            inputs.append(given.video)
            offset = offset + scale * film["bias"]
        else:
            # Rows of tokens of tracks and of video: each is zero in the other's columns.
            track, video = jnp.concatenate(inputs, axis=-1), given.video
            none = [(0, 0)] * 3
            inputs = [
                jnp.concatenate(
                    [
                        jnp.pad(track, [*none, (0, video.shape[-1])]),
                        jnp.pad(video, [*none, (track.shape[-1], 0)]),
                    ],
                    axis=1,
                )
            ]
            of_video = scale * film["bias"] + history_embedding(params, c)
            offset = jnp.concatenate([offset, of_video])
    return jnp.concatenate(inputs, axis=-1), jnp.concatenate(rows), offset


def history_embedding(params: Mapping, config: TrackFlowConfig) -> Float[Array, "L D"]:
    """When a frame of the context is, and that it is history; float32."""
    times = config.temporal_stride * jnp.arange(config.num_latent_frames, dtype=jnp.float32)
    return cos_sin_embedding(times, config.hidden) + params["seg_embed"][HISTORY]


def spatial_context(
    params: Mapping, frames: Float[Array, "B F N D"], config: TrackFlowConfig
) -> Float[Array, "B S D"] | None:
    """What spatial blocks attend to, the same for all future frames (config.spatial_ctx_mode)."""
    c = config
    batch, dim = frames.shape[0], c.hidden
    if c.spatial_ctx_mode == "none":
        return None
    if c.spatial_ctx_mode == "time_mean":
        return frames.astype(jnp.float32).mean(2).astype(frames.dtype)
    last = slice(c.num_latent_frames - c.spatial_ctx_last_k, c.num_latent_frames)
    slots = frames[:, last]
    if frames.shape[1] > c.num_latent_frames and c.spatial_ctx_include_video:
        slots = jnp.concatenate([slots, frames[:, -c.spatial_ctx_last_k :]], axis=1)
    pooled = block_mean(slots, c.grid_hw, c.spatial_ctx_pool)
    pooled = pooled + block_mean(params["pos_embed"], c.grid_hw, c.spatial_ctx_pool)
    return pooled.astype(frames.dtype).reshape(batch, -1, dim)


def block_mean(
    x: Float[Array, "*F N D"], grid_hw: tuple[int, int], window: int
) -> Float[Array, "*F M D"]:
    """Mean over window x window cells of a row-major grid; cells beyond its edge do not count.

    float32. M = ceil(gh/window) * ceil(gw/window).
    """
    x = x.astype(jnp.float32)
    if window == 1:
        return x
    gh, gw = grid_hw
    rows, columns = -(-gh // window), -(-gw // window)
    lead, dim = x.shape[:-2], x.shape[-1]
    edge = [(0, 0)] * len(lead) + [(0, rows * window - gh), (0, columns * window - gw), (0, 0)]
    padded = jnp.pad(x.reshape(*lead, gh, gw, dim), edge)
    sums = padded.reshape(*lead, rows, window, columns, window, dim).sum((-4, -2))
    high = np.minimum(window, gh - window * np.arange(rows))
    wide = np.minimum(window, gw - window * np.arange(columns))
    counts = (high[:, None] * wide[None, :]).astype(np.float32)
    return (sums / counts[..., None]).reshape(*lead, rows * columns, dim)
