"""CLIP's image tower (Radford et al. 2021, arXiv:2103.00020), a Vision Transformer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.layers.backbone import Initialisers, shapes_of
from tavid_jax.models.layers.depth import init_stack
from tavid_jax.models.layers.linear import Params, init_parameters, matmul
from tavid_jax.models.layers.norms import init_norm, layer_norm
from tavid_jax.models.layers.patches import patchify
from tavid_jax.models.layers.prenorm import Prenorm, init_block, walk_blocks
from tavid_jax.models.vision.config import CLIPVisionConfig


def initialisers(config: CLIPVisionConfig) -> Initialisers:
    """{top-level parameter: function of a key}, noise of the scales that CLIP starts from."""
    c = config
    taps = 3 * c.patch_size**2
    inits = {
        "patch_embed": lambda key: {"kernel": 0.02 * jax.random.normal(key, (taps, c.width))},
        "class_embed": lambda key: c.width**-0.5 * jax.random.normal(key, (c.width,)),
        "pos_embed": lambda key: c.width**-0.5 * jax.random.normal(key, (c.num_tokens, c.width)),
        "pre_norm": lambda key: init_norm(c.width),
        "blocks": lambda key: init_stack(
            lambda k: init_block(k, c.width, c.mlp_dim), key, c.num_layers
        ),
        "post_norm": lambda key: init_norm(c.width),
    }
    if c.feature_dim is not None:
        shape = (c.width, c.feature_dim)
        inits["head"] = lambda key: {"kernel": c.width**-0.5 * jax.random.normal(key, shape)}
    return inits


def param_shapes(config: CLIPVisionConfig) -> Params:
    """The parameters' nested dict of shapes, without allocating any."""
    return shapes_of(initialisers(config))


class CLIPVision(nn.Module):
    """Tokens and features of preprocessed images, see `images`.

    Attributes:
      config: the architecture.
      dtype: of matrix products and of the tokens between blocks; norms and softmax are float32.
      param_dtype: of the parameters when they are initialised.
      scan: walk the depth with one compiled block; False unrolls it. Same parameters.
      attention: implementation of attention, see `attention.attention`.
    """

    config: CLIPVisionConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    scan: bool = True
    attention: str = "auto"

    def setup(self):
        self.tree = init_parameters(self, initialisers(self.config), self.param_dtype)

    def __call__(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B N D"]:
        """`hidden(images)`."""
        return self.hidden(images)

    def hidden(self, images: Float[Array, "B H W 3"], layer: int = -2) -> Float[Array, "B N D"]:
        """All tokens, the class token first, in `dtype`, behind some of the blocks.

        Args:
          images: preprocessed, of the config's size.
          layer: 0 is behind the embedding, -1 behind the last block; -2, behind all but the last,
            is what Wan reads.

        Raises:
          ValueError: images of another size, or a layer that does not exist.
        """
        c = self.config
        if images.shape[1:3] != (c.image_size, c.image_size):
            raise ValueError(
                f"images of {images.shape[1]}x{images.shape[2]} pixels: this model reads "
                f"{c.image_size}x{c.image_size}, resize them (models/vision/images.py)"
            )
        patches = patchify(images[:, None], (1, c.patch_size, c.patch_size))
        x = matmul(self.tree["patch_embed"], patches, self.dtype)
        first = jnp.broadcast_to(self.tree["class_embed"].astype(x.dtype), (x.shape[0], 1, c.width))
        x = jnp.concatenate([first, x], axis=1) + self.tree["pos_embed"].astype(x.dtype)
        x = layer_norm(x, **self.tree["pre_norm"], epsilon=c.epsilon).astype(self.dtype)
        shared = Prenorm(c.num_heads, c.activation, c.epsilon, self.dtype, self.attention)
        return walk_blocks(self.tree["blocks"], x, shared, scan=self.scan, layer=layer)

    def pooled(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B D"]:
        """The normed class token behind the last block, float32."""
        x = self.hidden(images, layer=-1)[:, 0]
        return layer_norm(x, **self.tree["post_norm"], epsilon=self.config.epsilon)

    def features(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B E"]:
        """What is compared with a text's features (not normalised), float32.

        Raises:
          ValueError: a tower without that projection.
        """
        if self.config.feature_dim is None:
            raise ValueError(
                "features: this tower came without the projection to them "
                "(config.feature_dim is None); load a checkpoint that has it"
            )
        return matmul(self.tree["head"], self.pooled(images), self.dtype).astype(jnp.float32)
