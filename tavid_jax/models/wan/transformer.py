"""The Wan 2.1 and 2.2 transformer (arXiv:2503.20314), as published, with ports.

Ports (see layers/ports.py and layers/lora.py; each is free when it is not used):

* `lora`: low-rank rules on any projection, for chosen layers and one stream or all.
* `embed_video`, `embed_text`, `embed_image`, `embed_time`, `blocks`, `head`: the steps of a call,
  callable on their own; `predict` and `__call__` are their composition.
* streams: "video" and, optionally, "condition" tokens walk in lock-step, each with its own
  timesteps: one per example, per latent frame, or per token. "text" and "image" are looked at.
* `Ports.kv_out` hands out keys and values of "text", "image" (they do not change over sampling
  steps) or "condition"; `Ports.kv_in` takes them instead of those tokens.
* `Ports.cross_attention`: replaces cross-attention of the video tokens in chosen blocks.
* `Ports.probe`: a score of the cross-attention between video and text.
* `Ports.attention_bias`: a bias on the logits between two streams.
* `Ports.residuals`: added to the video tokens behind chosen blocks.
* `config.extra_channels`: further input channels with a patch projection of their own.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tavid_jax.models.layers import streams
from tavid_jax.models.layers.backbone import Backbone, Initialisers, init_ports, shapes_of
from tavid_jax.models.layers.depth import init_stack
from tavid_jax.models.layers.embeddings import timestep_embedding
from tavid_jax.models.layers.kv_cache import KVCache
from tavid_jax.models.layers.linear import (
    Params,
    project,
    xavier_linear,
    zero_linear,
)
from tavid_jax.models.layers.mlp import exact_gelu, init_mlp, silu, tanh_gelu
from tavid_jax.models.layers.modulation import scale_shift
from tavid_jax.models.layers.norms import init_norm, layer_norm
from tavid_jax.models.layers.patches import unpatchify
from tavid_jax.models.layers.ports import Ports, Prediction, Walked
from tavid_jax.models.layers.rotary import pad_rotary
from tavid_jax.models.layers.streams import CONDITION, IMAGE, TEXT, VIDEO
from tavid_jax.models.layers.walk import walk_blocks
from tavid_jax.models.wan.block import BlockContext, Time, block, init_block
from tavid_jax.models.wan.checks import check_context, check_groups, check_pair, check_probe
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.models.wan.positions import rotary_for

Grid = tuple[int, int, int]
Timesteps = Float[Array, " B"] | Int[Array, " B"] | Float[Array, "B G"] | Int[Array, "B G"]
# Of the two norms around the image tokens' MLP.
IMAGE_EPSILON = 1e-5


def initialisers(config: WanConfig) -> dict[str, Any]:
    """{top-level parameter: function of a key}, as the original code initialises from scratch."""
    c = config
    d = c.dim
    inits = {
        "patch_embed": lambda key: xavier_linear(key, c.patch_elements * c.in_channels, d),
        "text_embed": lambda key: init_mlp(key, c.text_dim, d, d, _small_linear),
        "time_embed": lambda key: init_mlp(key, c.freq_dim, d, d, _small_linear),
        "time_proj": lambda key: xavier_linear(key, d, 6 * d),
        "blocks": lambda key: init_stack(lambda k: init_block(k, c), key, c.num_layers),
        "out_modulation": lambda key: jax.random.normal(key, (2, d)) * d**-0.5,
        "out_proj": lambda key: zero_linear(key, d, c.patch_elements * c.out_channels),
    }
    if c.image_dim is not None:
        inits["image_embed"] = lambda key: _init_image_embed(key, c)
    return {**inits, **init_ports(c)}


def _small_linear(key: PRNGKeyArray, n_in: int, n_out: int) -> Params:
    kernel = 0.02 * jax.random.normal(key, (n_in, n_out))
    return {"kernel": kernel, "bias": jnp.zeros((n_out,), jnp.float32)}


def _init_image_embed(key: PRNGKeyArray, config: WanConfig) -> Params:
    e, d = config.image_dim, config.dim
    params = {
        "norm1": init_norm(e),
        **init_mlp(key, e, e, d, xavier_linear),
        "norm2": init_norm(d),
    }
    if config.image_tokens is not None:
        params["pos_embed"] = jnp.zeros((config.image_tokens, e), jnp.float32)
    return params


def param_shapes(config: WanConfig) -> dict[str, Any]:
    """The parameters' nested dict of shapes, without allocating any."""
    return shapes_of(initialisers(config))


class Wan(Backbone):
    """Velocity of a noisy video latent from text (and images).

    Attributes (besides those of every `Backbone`):
      residual_dtype: of the tokens between blocks; None is `dtype`. The original code keeps
        float32 there, at twice the memory.
    """

    config: WanConfig
    residual_dtype: DTypeLike | None = None

    PASSING: ClassVar = (
        (r"blocks/cross/image_[kv]|image_embed/.*", (IMAGE,)),
        (r"blocks/cross/[kv]|text_embed/.*", (TEXT,)),
        (r"blocks/.*", (VIDEO, CONDITION)),
        (r"fuse", (CONDITION,)),
        (r".*", (VIDEO,)),
    )

    def initialisers(self) -> Initialisers:
        return initialisers(self.config)

    def predict(
        self,
        latents: Float[Array, "B F H W C"],
        timestep: Timesteps,
        text: Float[Array, "b L E"] | None,
        *,
        image: Float[Array, "b M I"] | None = None,
        extra: Float[Array, "B F H W X"] | None = None,
        condition: Float[Array, "b N D"] | None = None,
        condition_timestep: Timesteps | None = None,
        text_bias: Float[Array, " L"] | None = None,
        ports: Ports | None = None,
    ) -> Prediction:
        """One evaluation of the network.

        Args:
          latents: normalised latents; image-to-video of 2.1 and A14B reads noisy 16, mask 4 and
            image 16 channels.
          timestep: 1000 sigma, in [0, 1000]: one per example, or (B, G) with one for each of G
            equal groups of successive tokens; G = f gives every latent frame its own.
          text: features of the text encoder, zero vectors appended up to `config.text_length`;
            None where `ports.kv_in` has the text's keys and values.
          image: CLIP tokens, for models with `config.image_dim`; or through `ports.kv_in`.
          extra: the channels of `config.extra_channels`.
          condition: embedded condition tokens (from `embed_condition`), on the grid of the
            video; of B examples, or of fewer that serve as many neighbours each (text is then of
            as many, too).
          condition_timestep: theirs; zero if not given.
          text_bias: added to the logits of the text's keys, see `merge_padding`.
          ports: what else is plugged in.

        Returns:
          The velocity (B, F, H, W, C) in float32, caches and the probe's score.

        Raises:
          ValueError: sizes that do not fit the config; see the steps.
        """
        grid = self.config.grid(latents.shape[1:4])
        time = self.embed_time(timestep)
        tokens, times = {VIDEO: self.embed_video(latents, extra)}, {VIDEO: time}
        if condition is not None:
            clean = condition_timestep
            clean = jnp.zeros(condition.shape[:1]) if clean is None else clean
            tokens[CONDITION], times[CONDITION] = condition, self.embed_time(clean)
        context = {} if text is None else {TEXT: self.embed_text(text)}
        if image is not None:
            context[IMAGE] = self.embed_image(image)
        walked = self.blocks(tokens, times, context, grid, ports, text_bias)
        sample = self.head(walked.streams[VIDEO], time, grid)
        return Prediction(sample=sample, caches=walked.caches, probe=walked.probe)

    def condition_caches(
        self,
        condition: Float[Array, "B N D"],
        text: Float[Array, "B L E"],
        grid: Grid,
        image: Float[Array, "B M I"] | None = None,
    ) -> dict[str, KVCache]:
        """Keys and values of condition tokens at timestep 0, and of the text and image that they
        attend to: behind the first block they depend on the prompt, so that each has its own.

        Args:
          condition: from `embed_condition`, on `grid`.
          text: features of the text encoder, as in `predict`.
          grid: tokens along (frames, rows, columns).
          image: CLIP tokens, for models that read them.
        """
        context = {TEXT: self.embed_text(text)}
        if image is not None:
            context[IMAGE] = self.embed_image(image)
        times = {CONDITION: self.embed_time(jnp.zeros(condition.shape[:1]))}
        ports = Ports(kv_out=(CONDITION, *context))
        return self.blocks({CONDITION: condition}, times, context, grid, ports).caches

    def embed_time(self, timestep: Timesteps) -> Time:
        """The vectors that modulate blocks and head, float32."""
        if timestep.ndim not in (1, 2):
            raise ValueError(
                f"timestep of shape {timestep.shape}: give one per example, (B,), or (B, G)"
            )
        timestep = timestep[:, None] if timestep.ndim == 1 else timestep
        params = self.tree["time_embed"]
        hidden = timestep_embedding(timestep, self.config.freq_dim)
        hidden = silu(project(params["fc1"], hidden, jnp.float32))
        vector = project(params["fc2"], hidden, jnp.float32)
        six = project(self.tree["time_proj"], silu(vector), jnp.float32)
        return Time(vector=vector, six=six.reshape(*vector.shape[:2], 6, -1))

    def embed_text(self, text: Float[Array, "B L E"]) -> Float[Array, "B L D"]:
        """Text tokens for cross-attention."""
        params = self.tree["text_embed"]
        hidden = tanh_gelu(project(params["fc1"], text, self.dtype, TEXT))
        return project(params["fc2"], hidden, self.dtype, TEXT)

    def embed_image(self, image: Float[Array, "B M I"]) -> Float[Array, "B M D"]:
        """Image tokens for cross-attention."""
        if self.config.image_dim is None:
            raise ValueError("image tokens: this model has no image branch (config.image_dim)")
        params = self.tree["image_embed"]
        if "pos_embed" in params:
            if image.shape[1] != params["pos_embed"].shape[0]:
                raise ValueError(
                    f"{image.shape[1]} image tokens: this model reads "
                    f"{params['pos_embed'].shape[0]}, those of two images one after the other"
                )
            image = image + params["pos_embed"].astype(image.dtype)
        x = layer_norm(image, **params["norm1"], epsilon=IMAGE_EPSILON)
        x = exact_gelu(project(params["fc1"], x, self.dtype, IMAGE))
        x = project(params["fc2"], x, self.dtype, IMAGE)
        return layer_norm(x, **params["norm2"], epsilon=IMAGE_EPSILON).astype(self.dtype)

    def embed_video(
        self,
        latents: Float[Array, "B F H W C"],
        extra: Float[Array, "B F H W X"] | None = None,
    ) -> Float[Array, "B N D"]:
        """Video tokens, frame-major."""
        return self.embed_patches(latents, extra)

    def blocks(
        self,
        tokens: Mapping[str, Float[Array, "_ N D"]],
        times: Mapping[str, Time],
        context: Mapping[str, Float[Array, "_ _ D"]],
        grid: Grid,
        ports: Ports | None = None,
        text_bias: Float[Array, " L"] | None = None,
    ) -> Walked:
        """All blocks on the given streams.

        Args:
          tokens: embedded tokens of "video", "condition" or both, on `grid`.
          times: of each of them, from `embed_time`.
          context: embedded "text" and "image" tokens; each may come through `ports.kv_in` instead.
          grid: tokens along (frames, rows, columns).
          ports: what is plugged in.
          text_bias: added to the logits of the text's keys.

        Raises:
          ValueError: unknown or missing streams, tokens off the grid, ports that do not fit.
        """
        ports = Ports() if ports is None else ports
        c = self.config
        self._check(tokens, times, context, grid, ports, text_bias)
        carried = self.dtype if self.residual_dtype is None else self.residual_dtype
        padded = streams.pad_all(tokens, carried)
        table = rotary_for(grid, c.head_dim, max_positions=c.max_positions)
        shared = BlockContext(
            times=times,
            rotary={name: pad_rotary(table, x.shape[1]) for name, x in padded.items()},
            lengths={name: x.shape[1] for name, x in (*tokens.items(), *context.items())},
            context=context,
            text_bias=None if text_bias is None else text_bias[None, None, None],
            heads=c.num_heads,
            epsilon=c.epsilon,
            dtype=self.dtype,
            implementation=self.attention,
        )

        def step(params, walked, plugs):
            return block(params, walked, plugs, context=shared)

        return walk_blocks(
            step, self.tree["blocks"], padded, ports, shared.lengths, self.scan, self.remat
        )

    def _check(
        self,
        tokens: Mapping[str, Array],
        times: Mapping[str, Time],
        context: Mapping[str, Array],
        grid: Grid,
        ports: Ports,
        text_bias: Array | None,
    ) -> None:
        streams.check_tokens(tokens, times, (VIDEO, CONDITION), math.prod(grid))
        streams.check_heads(self.config.num_heads)
        check_groups(times, grid)
        check_context(context, ports.kv_in, self.config.image_dim is not None)
        if CONDITION in tokens and CONDITION in ports.kv_in:
            raise ValueError("give condition tokens, or their cache in ports.kv_in: not both")
        batch = next(iter(tokens.values())).shape[0]
        shape = (self.config.num_heads, self.config.head_dim)
        streams.check_caches(ports.kv_in, self.config.num_layers, batch, shape)
        streams.check_bias(ports, {**tokens, **context})
        if ports.attention_bias is not None:
            check_pair(ports.attention_bias)
        if ports.probe is not None:
            check_probe(ports.probe, math.prod(grid), text_bias is not None)

    def head(
        self, video: Float[Array, "B N D"], time: Time, grid: Grid
    ) -> Float[Array, "B F H W O"]:
        """Video tokens behind the last block -> velocity in the latent's layout, float32."""
        table = self.tree["out_modulation"].astype(jnp.float32)
        shift, scale = jnp.unstack(table + time.vector[:, :, None], axis=2)
        x = layer_norm(video, epsilon=self.config.epsilon)
        x = scale_shift(x, scale, shift, self.dtype)
        out = project(self.tree["out_proj"], x, self.dtype)
        return unpatchify(out.astype(jnp.float32), grid, self.config.patch_size)
