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
from tavid_jax.models.layers.linear import Params, init_parameters, project
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


def init_extra_channels(config: Any) -> Initialisers:
    """The patch projection of `config.extra_channels`, zero: a new channel changes nothing yet."""
    if not config.extra_channels:
        return {}
    shape = (config.patch_elements * config.extra_channels, config.dim)
    return {"patch_embed_extra": lambda key: {"kernel": jnp.zeros(shape, jnp.float32)}}


def shapes_of(initialisers: Initialisers) -> Params:
    """The parameters' nested dict of shapes, without allocating any."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return {name: jax.eval_shape(init, key) for name, init in initialisers.items()}
