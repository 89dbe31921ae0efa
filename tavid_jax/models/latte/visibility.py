"""VisibilityHead: is the token's track visible in each latent frame? (TrajLoom's predictor)

A small 1-D convolutional network over the latent frames of every token on its own.
"""

from dataclasses import dataclass
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.latte import checks
from tavid_jax.models.layers.depth import init_stack, walk_depth
from tavid_jax.models.layers.linear import linear, torch_linear, uniform_fan_in
from tavid_jax.models.layers.mlp import silu
from tavid_jax.models.layers.temporal import temporal_conv


@dataclass(frozen=True)
class VisibilityConfig:
    """Architecture of a VisibilityHead; the defaults are those of the released checkpoint.

    Attributes:
      latent_channels: C.
      hidden: width of the convolutions.
      depth: number of convolutions.
      kernel_size: odd; latent frames seen by each convolution.
      use_hist_last: append the last history latent of the token to every frame.
      use_delta: append the difference to it as well (needs use_hist_last).
    """

    latent_channels: int = 16
    hidden: int = 64
    depth: int = 3
    kernel_size: int = 3
    use_hist_last: bool = False
    use_delta: bool = False

    def __post_init__(self):
        checks.positive(
            "VisibilityConfig",
            latent_channels=self.latent_channels,
            hidden=self.hidden,
            depth=self.depth,
            kernel_size=self.kernel_size,
        )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"VisibilityConfig.kernel_size must be odd, got {self.kernel_size}")
        if self.use_delta and not self.use_hist_last:
            raise ValueError("VisibilityConfig.use_delta needs use_hist_last=True")

    @property
    def in_channels(self) -> int:
        """Channels after the history features are appended."""
        return self.latent_channels * (1 + self.use_hist_last + self.use_delta)


class VisibilityHead(nn.Module):
    """Visibility logits of future latents.

    Attributes:
      config: the architecture.
      dtype: compute dtype; parameters and logits are float32.
      scan: one compiled convolution for the whole depth; False unrolls the same parameters.
    """

    config: VisibilityConfig
    dtype: DTypeLike = jnp.float32
    scan: bool = True

    frozen_paths: ClassVar[tuple[str, ...]] = ()

    def setup(self):
        c = self.config

        def conv(key):
            shape = (c.kernel_size, c.hidden, c.hidden)
            return uniform_fan_in(key, shape, c.kernel_size * c.hidden)

        self.in_proj = self.param("in_proj", torch_linear, c.in_channels, c.hidden)
        self.temporal_net = self.param("temporal_net", lambda key: init_stack(conv, key, c.depth))
        self.out = self.param("out", torch_linear, c.hidden, 1)

    def __call__(
        self,
        future: Float[Array, "B L N C"],
        history_last: Float[Array, "B N C"] | None = None,
    ) -> Float[Array, "B L N"]:
        """Logits per latent frame and token; visible where positive.

        `history_last`: the last history latent frame, read only under use_hist_last.
        """
        c = self.config
        batch, _, tokens, _ = future.shape
        me = "VisibilityHead"
        checks.array_shape(me, "future", future.shape, (None, None, None, c.latent_channels))
        x = future
        if c.use_hist_last:
            if history_last is None:
                raise ValueError(f"{me}: history_last is missing (config.use_hist_last is True)")
            want = (batch, tokens, c.latent_channels)
            checks.array_shape(me, "history_last", history_last.shape, want)
            last = jnp.broadcast_to(history_last[:, None], future.shape).astype(future.dtype)
            parts = [future, last] + ([future - last] if c.use_delta else [])
            x = jnp.concatenate(parts, axis=-1)
        x = linear(self.in_proj, x, self.dtype)

        def body(x, conv):
            return silu(temporal_conv(conv, x, dtype=self.dtype))

        x = walk_depth(body, x, self.temporal_net, scan=self.scan, remat="none")
        return linear(self.out, x, jnp.float32)[..., 0]
