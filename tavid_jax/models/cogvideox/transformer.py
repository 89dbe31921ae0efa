"""The CogVideoX transformer (arXiv:2408.06072), as published, with ports.

Ports (see layers/ports.py and layers/lora.py; each is free when it is not used):

* `lora`: low-rank rules on any projection, for chosen layers and one stream or all.
* `embed_video`, `embed_text`, `embed_time`, `blocks`, `head`: the steps of a call, callable on
  their own; `predict` and `__call__` are their composition.
* streams: "video", "text" and, optionally, "condition" tokens walk in lock-step; each has its own
  timestep. Condition tokens see only themselves, all others see them too.
* `Ports.kv_out=("condition",)` hands out the condition's keys and values, `Ports.kv_in` takes them
  instead of the stream: walked once, they serve every sampling step.
* `Ports.probe`: a score of the attention between video and text.
* `Ports.attention_bias`: a bias on the logits between two streams.
* `Ports.residuals`: added to the video tokens behind chosen blocks.
* `config.extra_channels`: further input channels with a patch projection of their own.

`Ports.cross_attention` does not exist here: CogVideoX has no cross-attention.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tavid_jax.models.cogvideox import positions
from tavid_jax.models.cogvideox.block import EPSILON, BlockContext, block, init_block
from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.layers import streams
from tavid_jax.models.layers.backbone import Backbone, Initialisers, init_ports, shapes_of
from tavid_jax.models.layers.depth import init_stack
from tavid_jax.models.layers.embeddings import timestep_embedding
from tavid_jax.models.layers.kv_cache import KVCache
from tavid_jax.models.layers.linear import project, torch_linear
from tavid_jax.models.layers.mlp import init_mlp, silu
from tavid_jax.models.layers.modulation import scale_shift
from tavid_jax.models.layers.norms import init_norm, layer_norm
from tavid_jax.models.layers.patches import unpatchify
from tavid_jax.models.layers.ports import Ports, Prediction, Walked
from tavid_jax.models.layers.rotary import Rotary, pad_rotary
from tavid_jax.models.layers.streams import CONDITION, TEXT, VIDEO
from tavid_jax.models.layers.walk import walk_blocks

Grid = tuple[int, int, int]
Timestep = Float[Array, " B"] | Int[Array, " B"]
# What the published 1.5 image-to-video pipeline feeds to the `ofs` embedding, always.
OFS = 2.0


def initialisers(config: CogVideoXConfig) -> dict[str, Any]:
    """{top-level parameter: function of a key}; the learned table starts as the fixed one."""
    c = config
    d, e = c.dim, c.time_embed_dim
    inits = {
        "patch_embed": lambda key: torch_linear(key, c.patch_elements * c.in_channels, d),
        "text_embed": lambda key: torch_linear(key, c.text_dim, d),
        "time_embed": lambda key: init_mlp(key, d, e, e, torch_linear),
        "blocks": lambda key: init_stack(lambda k: init_block(k, c), key, c.num_layers),
        "final_norm": lambda key: init_norm(d),
        "out_mod": lambda key: torch_linear(key, e, 2 * d),
        "out_norm": lambda key: init_norm(d),
        "out_proj": lambda key: torch_linear(key, d, c.patch_elements * c.out_channels),
    }
    if c.learned_positions:
        inits["pos_embed"] = lambda key: _fixed_positions(c, c.sample_grid, c.text_length)
    if c.ofs_dim is not None:
        inits["ofs_embed"] = lambda key: init_mlp(key, c.ofs_dim, e, e, torch_linear)
    return {**inits, **init_ports(c)}


def _fixed_positions(config: CogVideoXConfig, grid: Grid, text_length: int) -> Array:
    return positions.sincos_table(
        grid, config.dim, config.spatial_scale, config.temporal_scale, text_length
    )


def param_shapes(config: CogVideoXConfig) -> dict[str, Any]:
    """The parameters' nested dict of shapes, without allocating any."""
    return shapes_of(initialisers(config))


class CogVideoX(Backbone):
    """v-prediction of a noisy video latent from text (and an image, in further channels).

    The attributes are those of every `Backbone`.
    """

    config: CogVideoXConfig

    PASSING: ClassVar = (
        (r"blocks/.*", (VIDEO, TEXT, CONDITION)),
        (r"text_embed", (TEXT,)),
        (r"fuse", (CONDITION,)),
        (r".*", (VIDEO,)),
    )

    def initialisers(self) -> Initialisers:
        return initialisers(self.config)

    def predict(
        self,
        latents: Float[Array, "B F H W C"],
        timestep: Timestep,
        text: Float[Array, "B L E"],
        *,
        extra: Float[Array, "B F H W X"] | None = None,
        condition: Float[Array, "b N D"] | None = None,
        condition_timestep: Float[Array, " b"] | Int[Array, " b"] | None = None,
        ofs: Float[Array, " B"] | None = None,
        ports: Ports | None = None,
    ) -> Prediction:
        """One evaluation of the network.

        Args:
          latents: scaled latents; for image-to-video, noisy channels and then the image's.
          timestep: 0 to 999, one per example.
          text: features of the text encoder, padded to `config.text_length`, pads included.
          extra: the channels of `config.extra_channels`.
          condition: embedded condition tokens (from `embed_condition`), on the grid of the
            video; of B examples, or of fewer that serve as many neighbours each.
          condition_timestep: theirs; zero if not given.
          ofs: input of the 1.5 image-to-video model's second time embedding; 2.0 if not given.
          ports: what else is plugged in.

        Returns:
          The sample (B, F, H, W, C) in float32, caches and the probe's score.

        Raises:
          ValueError: sizes that do not fit the config; see the steps.
        """
        grid = self.config.grid(latents.shape[1:4])
        time = self.embed_time(timestep, ofs)
        tokens = {TEXT: self.embed_text(text, grid), VIDEO: self.embed_video(latents, extra)}
        times = {TEXT: time, VIDEO: time}
        if condition is not None:
            clean = condition_timestep
            clean = jnp.zeros(condition.shape[:1]) if clean is None else clean
            tokens[CONDITION] = condition
            times[CONDITION] = self.embed_time(clean, ofs)
        walked = self.blocks(tokens, times, grid, ports)
        sample = self.head(walked.streams[VIDEO], time, grid)
        return Prediction(sample=sample, caches=walked.caches, probe=walked.probe)

    def condition_cache(self, condition: Float[Array, "B N D"], grid: Grid) -> KVCache:
        """Keys and values of condition tokens at timestep 0, which walk the blocks alone: they
        see neither text nor video, so that one cache serves every step and every prompt.

        Args:
          condition: from `embed_condition`, on `grid`.
          grid: tokens along (frames, rows, columns).
        """
        times = {CONDITION: self.embed_time(jnp.zeros(condition.shape[:1]))}
        ports = Ports(kv_out=(CONDITION,))
        return self.blocks({CONDITION: condition}, times, grid, ports).caches[CONDITION]

    def embed_time(self, timestep: Timestep, ofs: Array | None = None) -> Float[Array, "B E"]:
        """The vector that modulates every block, float32."""
        if timestep.ndim != 1:
            raise ValueError(f"timestep of shape {timestep.shape}: give one per example, (B,)")
        time = self._time_mlp("time_embed", timestep, self.config.dim)
        if self.config.ofs_dim is None:
            return time
        ofs = jnp.full(timestep.shape, OFS) if ofs is None else ofs
        return time + self._time_mlp("ofs_embed", ofs, self.config.ofs_dim)

    def _time_mlp(self, name: str, values: Array, dim: int) -> Array:
        params = self.tree[name]
        hidden = project(params["fc1"], timestep_embedding(values, dim), jnp.float32)
        return project(params["fc2"], silu(hidden), jnp.float32)

    def embed_text(self, text: Float[Array, "B L E"], grid: Grid) -> Float[Array, "B L D"]:
        """Text tokens; with learned positions (of the given video grid) their rows are added."""
        tokens = project(self.tree["text_embed"], text, self.dtype, TEXT)
        if not self._has_learned(grid):
            return tokens
        length = self.config.text_length
        if text.shape[1] != length:
            raise ValueError(
                f"text of {text.shape[1]} tokens: the learned positions are for {length}, pad it"
            )
        return tokens + self.tree["pos_embed"][:length].astype(self.dtype)

    def embed_video(
        self,
        latents: Float[Array, "B F H W C"],
        extra: Float[Array, "B F H W X"] | None = None,
    ) -> Float[Array, "B N D"]:
        """Video tokens, frame-major, with their absolute positions if the model has any."""
        c = self.config
        grid = c.grid(latents.shape[1:4])
        tokens = self.embed_patches(latents, extra)
        if self._has_learned(grid):
            tokens = tokens + self.tree["pos_embed"][c.text_length :].astype(self.dtype)
        elif c.learned_positions or not c.rotary:
            tokens = tokens + _fixed_positions(c, grid, 0).astype(self.dtype)
        return tokens

    def _has_learned(self, grid: Grid) -> bool:
        """Whether the learned table is used: not at another number of frames (as published)."""
        c = self.config
        if not c.learned_positions:
            return False
        if grid[1:] != c.sample_grid[1:]:
            raise ValueError(
                f"the learned positions are for latents of {c.sample_hw[0]}x{c.sample_hw[1]}, "
                f"got {grid[1] * c.patch_size[1]}x{grid[2] * c.patch_size[2]}: use that size"
            )
        return grid[0] == c.sample_grid[0]

    def blocks(
        self,
        tokens: Mapping[str, Float[Array, "_ _ D"]],
        times: Mapping[str, Float[Array, "_ E"]],
        grid: Grid,
        ports: Ports | None = None,
    ) -> Walked:
        """All blocks on the given streams.

        Args:
          tokens: embedded tokens of each stream; video and condition tokens are on `grid`.
          times: timestep vector of each stream, from `embed_time`.
          grid: tokens along (frames, rows, columns).
          ports: what is plugged in.

        Raises:
          ValueError: unknown streams, tokens off the grid, ports that do not fit.
        """
        ports = Ports() if ports is None else ports
        c = self.config
        self._check(tokens, times, grid, ports)
        padded = streams.pad_all(tokens, self.dtype)
        rotary = {}
        if c.rotary:
            table = self.rotary(grid)
            rotary = {
                name: pad_rotary(table, x.shape[1])
                for name, x in padded.items()
                if name in streams.SPLIT
            }
        context = BlockContext(
            times=times,
            rotary=rotary,
            lengths={name: x.shape[1] for name, x in tokens.items()},
            heads=c.num_heads,
            dtype=self.dtype,
            implementation=self.attention,
        )

        def step(params, walked, plugs):
            return block(params, walked, plugs, context=context)

        return walk_blocks(
            step, self.tree["blocks"], padded, ports, context.lengths, self.scan, self.remat
        )

    def _check(self, tokens: Mapping, times: Mapping, grid: Grid, ports: Ports) -> None:
        known = (TEXT, VIDEO, CONDITION)
        streams.check_tokens(tokens, times, known, math.prod(grid))
        streams.check_heads(self.config.num_heads)
        for name in ports.kv_in:
            if name not in known:
                raise ValueError(f"kv_in names {name!r}: this model knows {', '.join(known)}")
            if name in tokens:
                raise ValueError(f"give {name} tokens, or their cache in ports.kv_in: not both")
        batch = next(iter(tokens.values())).shape[0]
        shape = (self.config.num_heads, self.config.head_dim)
        streams.check_caches(ports.kv_in, self.config.num_layers, batch, shape)
        streams.check_bias(ports, tokens)
        if ports.probe is not None and not {TEXT, VIDEO} <= set(tokens):
            raise ValueError(f"a probe needs text and video tokens, here are {', '.join(tokens)}")
        if ports.cross_attention is not None:
            raise ValueError("Ports.cross_attention: CogVideoX has no cross-attention to replace")

    def rotary(self, grid: Grid) -> Rotary:
        """Rotary table of a token grid: fitted into the training grid, or (1.5) counted."""
        c = self.config
        placement = "crop" if c.patch_size[0] == 1 else "slice"
        return positions.rotary_for(grid, c.head_dim, c.sample_grid[1:], placement)

    def head(
        self, video: Float[Array, "B N D"], time: Float[Array, "B E"], grid: Grid
    ) -> Float[Array, "B F H W O"]:
        """Video tokens behind the last block -> prediction in the latent's layout, float32."""
        tree = self.tree
        x = layer_norm(video, tree["final_norm"]["scale"], tree["final_norm"]["bias"], EPSILON)
        x = layer_norm(x, tree["out_norm"]["scale"], tree["out_norm"]["bias"], EPSILON)
        two = project(tree["out_mod"], silu(time), jnp.float32)[:, None]
        shift, scale = jnp.split(two, 2, axis=-1)
        x = scale_shift(x, scale, shift, self.dtype)
        out = project(tree["out_proj"], x, self.dtype)
        return unpatchify(out.astype(jnp.float32), grid, self.config.patch_size)
