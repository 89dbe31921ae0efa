"""What the published video transformers have in common: parameters, adapters, patches."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.layers import streams
from tavid_jax.models.layers.depth import Remat
from tavid_jax.models.layers.linear import Params, init_parameters, project, zero_linear
from tavid_jax.models.layers.lora import LoraRule, attach, check_streams, init_lora
from tavid_jax.models.layers.patches import patchify

# {top-level parameter: function of a key}
Initialisers = Mapping[str, Callable[..., Any]]


class Backbone(nn.Module):
    """A published transformer on video latents. Subclasses give `initialisers` and `predict`.

    Attributes:
      config: the architecture.
      dtype: of matrix products and, if nothing else is said, of the tokens between blocks; norms,
        softmax, rotary turns and the timesteps' path are float32 in any case.
      param_dtype: of the base's parameters when they are initialised; adapters are float32.
      lora: low-rank rules; their adapters are the subtree "lora".
      scan: walk the depth with one compiled block; False unrolls it. Same parameters.
      remat: what the backward pass keeps, see `depth.Remat`; the blocks name "block_input",
        "query", "key", "value", "attention" and "mlp_hidden".
      attention: implementation of attention, see `attention.attention`.
    """

    config: Any
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    lora: tuple[LoraRule, ...] = ()
    scan: bool = True
    remat: Remat = "none"
    attention: str = "auto"

    #: whose tokens pass which projections: (regular expression of paths, streams), first match
    PASSING: ClassVar[tuple[tuple[str, tuple[str, ...]], ...]] = ()

    def initialisers(self) -> Initialisers:
        """How each top-level parameter starts."""
        raise TypeError(f"{type(self).__name__} defines no initialisers")

    def setup(self):
        base = init_parameters(self, self.initialisers(), self.param_dtype)
        if self.lora:
            check_streams(base, self.lora, self.PASSING)
            adapters = self.param("lora", init_lora, base, self.lora)
            base = attach(base, adapters, self.lora)
        self.tree = base

    def __call__(self, *inputs: Any, **options: Any) -> Float[Array, "B F H W O"]:
        """`predict(...).sample`."""
        return self.predict(*inputs, **options).sample

    def embed_patches(
        self, latents: Float[Array, "B F H W C"], extra: Float[Array, "B F H W X"] | None
    ) -> Float[Array, "B N D"]:
        """Tokens of a latent, frame-major, and of its additional channels, without positions.

        Raises:
          ValueError: another number of channels than the config's.
        """
        c = self.config
        streams.check_channels(latents, extra, c.in_channels, c.extra_channels)
        tokens = project(self.tree["patch_embed"], patchify(latents, c.patch_size), self.dtype)
        if extra is None:
            return tokens
        added = patchify(extra, c.patch_size)
        return tokens + project(self.tree["patch_embed_extra"], added, self.dtype)

    def embed_condition(self, videos: Float[Array, "B M F H W C"]) -> Float[Array, "B N D"]:
        """Tokens of the condition stream: C = E(first) + fuse(E(second)), with E = `embed_video`
        (FlexTraj, sec. 3; as released, with the positions inside of the fusion).

        Args:
          videos: `config.condition_videos` latents per example, with all input channels.

        Raises:
          ValueError: another number of videos than the config's.
        """
        count = self.config.condition_videos
        if videos.shape[1] != count or not count:
            raise ValueError(
                f"{videos.shape[1]} condition videos: the config has condition_videos={count}"
            )
        tokens = self.embed_video(videos[:, 0])
        if count == 1:
            return tokens
        second = self.embed_video(videos[:, 1])
        return tokens + project(self.tree["fuse"], second, self.dtype, streams.CONDITION)


def init_extra_channels(config: Any) -> Initialisers:
    """The patch projection of `config.extra_channels`, zero: a new channel changes nothing yet."""
    if not config.extra_channels:
        return {}
    shape = (config.patch_elements * config.extra_channels, config.dim)
    return {"patch_embed_extra": lambda key: {"kernel": jnp.zeros(shape, jnp.float32)}}


def init_fuse(config: Any) -> Initialisers:
    """The projection of the second condition video's tokens onto the first's, zero."""
    if config.condition_videos < 2:
        return {}
    d = config.dim
    return {"fuse": lambda key: zero_linear(key, d, d)}


def init_ports(config: Any) -> Initialisers:
    """What a config plugs into a published model: it changes no value of it yet."""
    return {**init_extra_channels(config), **init_fuse(config)}


def shapes_of(initialisers: Initialisers) -> Params:
    """The parameters' nested dict of shapes, without allocating any."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return {name: jax.eval_shape(init, key) for name, init in initialisers.items()}
