"""A plain Vision Transformer (Dosovitskiy et al. 2020), as DINO (Caron et al. 2021) and DINOv2
(Oquab et al. 2023) train it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.layers.backbone import Initialisers, shapes_of
from tavid_jax.models.layers.depth import init_stack
from tavid_jax.models.layers.linear import Params, init_parameters, linear
from tavid_jax.models.layers.norms import init_norm, layer_norm
from tavid_jax.models.layers.patches import patchify
from tavid_jax.models.layers.prenorm import Prenorm, init_block, walk_blocks
from tavid_jax.models.vision.config import ViTConfig
from tavid_jax.models.vision.images import bicubic_weights

_SCALE = 0.02  # of the noise that everything before the blocks starts from
_LAYER_SCALE = 1.0  # where the factors of what blocks add start


def initialisers(config: ViTConfig) -> Initialisers:
    """{top-level parameter: function of a key}."""
    c = config
    taps = 3 * c.patch_size**2
    return {
        "patch_embed": lambda key: {
            "kernel": _SCALE * jax.random.normal(key, (taps, c.width)),
            "bias": jnp.zeros((c.width,)),
        },
        "class_embed": lambda key: _SCALE * jax.random.normal(key, (c.width,)),
        "pos_embed": lambda key: _SCALE * jax.random.normal(key, (c.num_tokens, c.width)),
        "blocks": lambda key: init_stack(
            lambda k: init_block(k, c.width, c.mlp_dim, _LAYER_SCALE if c.layer_scale else None),
            key,
            c.num_layers,
        ),
        "final_norm": lambda key: init_norm(c.width),
    }


def param_shapes(config: ViTConfig) -> Params:
    """The parameters' nested dict of shapes, without allocating any."""
    return shapes_of(initialisers(config))


class ViT(nn.Module):
    """Tokens and features of preprocessed images, see `images`.

    Attributes:
      config: the architecture.
      dtype: of matrix products and of the tokens between blocks; norms and softmax are float32.
      param_dtype: of the parameters when they are initialised.
      scan: walk the depth with one compiled block; False unrolls it. Same parameters.
      attention: implementation of attention, see `attention.attention`.
    """

    config: ViTConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    scan: bool = True
    attention: str = "auto"

    def setup(self):
        self.tree = init_parameters(self, initialisers(self.config), self.param_dtype)

    def __call__(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B D"]:
        """`features(images)`."""
        return self.features(images)

    def hidden(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B N D"]:
        """All tokens, the class token first, normed behind the last block; float32.

        Images may have any size that patches fill: positions are interpolated to it.

        Raises:
          ValueError: images that patches do not fill.
        """
        c = self.config
        patches = patchify(images[:, None], (1, c.patch_size, c.patch_size))
        x = linear(self.tree["patch_embed"], patches, self.dtype)
        first = jnp.broadcast_to(self.tree["class_embed"].astype(x.dtype), (x.shape[0], 1, c.width))
        grid_hw = images.shape[1] // c.patch_size, images.shape[2] // c.patch_size
        positions = _positions(self.tree["pos_embed"], grid_hw)
        x = jnp.concatenate([first, x], axis=1) + positions.astype(x.dtype)
        shared = Prenorm(c.num_heads, "gelu", c.epsilon, self.dtype, self.attention)
        x = walk_blocks(self.tree["blocks"], x, shared, scan=self.scan)
        return layer_norm(x, **self.tree["final_norm"], epsilon=c.epsilon)

    def patches(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B M D"]:
        """`hidden` without the class token: row-major patches, float32."""
        return self.hidden(images)[:, 1:]

    def features(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B D"]:
        """The normed class token behind the last block, float32."""
        return self.hidden(images)[:, 0]


def _positions(learned: Float[Array, "N D"], grid_hw: tuple[int, int]) -> Float[Array, "M D"]:
    """Positions of the class token and of a grid, interpolated from the learned square one."""
    side = round((learned.shape[0] - 1) ** 0.5)
    if grid_hw == (side, side):
        return learned
    table = learned[1:].astype(jnp.float32).reshape(side, side, -1)
    rows, columns = (jnp.asarray(bicubic_weights(side, count)) for count in grid_hw)
    table = jnp.einsum("ih,hwd->iwd", rows, table, precision="highest")
    table = jnp.einsum("jw,iwd->ijd", columns, table, precision="highest")
    return jnp.concatenate([learned[:1], table.reshape(-1, learned.shape[1])])
