"""CLIP's text tower (Radford et al. 2021, arXiv:2103.00020), a causal transformer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from tavid_jax.models.layers.backbone import Initialisers, shapes_of
from tavid_jax.models.layers.depth import init_stack
from tavid_jax.models.layers.linear import Params, init_parameters, matmul
from tavid_jax.models.layers.norms import init_norm, layer_norm
from tavid_jax.models.layers.prenorm import Prenorm, init_block, walk_blocks
from tavid_jax.models.vision.config import CLIPTextConfig

# Logit of a token that comes later: finite, and far below any other.
HIDDEN = -1e9


def initialisers(config: CLIPTextConfig) -> Initialisers:
    """{top-level parameter: function of a key}, noise of the scales that CLIP starts from."""
    c = config
    head = (c.width, c.feature_dim)
    return {
        "token_embed": lambda key: 0.02 * jax.random.normal(key, (c.vocab_size, c.width)),
        "pos_embed": lambda key: 0.01 * jax.random.normal(key, (c.text_length, c.width)),
        "blocks": lambda key: init_stack(
            lambda k: init_block(k, c.width, c.mlp_dim), key, c.num_layers
        ),
        "final_norm": lambda key: init_norm(c.width),
        "head": lambda key: {"kernel": c.width**-0.5 * jax.random.normal(key, head)},
    }


def param_shapes(config: CLIPTextConfig) -> Params:
    """The parameters' nested dict of shapes, without allocating any."""
    return shapes_of(initialisers(config))


class CLIPText(nn.Module):
    """Tokens and features of texts.

    Padding behind the end of a text needs no mask: no token sees what comes after it.

    Attributes:
      config: the architecture.
      dtype: of matrix products and of the tokens between blocks; norms and softmax are float32.
      param_dtype: of the parameters when they are initialised.
      scan: walk the depth with one compiled block; False unrolls it. Same parameters.
      attention: implementation of attention, see `attention.attention`.
    """

    config: CLIPTextConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    scan: bool = True
    attention: str = "auto"

    def setup(self):
        self.tree = init_parameters(self, initialisers(self.config), self.param_dtype)

    def __call__(self, tokens: Int[Array, "B L"]) -> Float[Array, "B E"]:
        """`features(tokens)`."""
        return self.features(tokens)

    def hidden(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        """All tokens behind the last block, normed, float32.

        Args:
          tokens: ids with the start and end tokens in place, see `clip_tokenizer`.

        Raises:
          ValueError: more tokens than the model has positions.
        """
        c = self.config
        length = tokens.shape[1]
        if length > c.text_length:
            raise ValueError(
                f"texts of {length} tokens: this model reads at most {c.text_length}, cut them"
            )
        x = self.tree["token_embed"][tokens] + self.tree["pos_embed"][:length]
        later = jnp.triu(jnp.full((length, length), HIDDEN, jnp.float32), 1)
        shared = Prenorm(c.num_heads, c.activation, c.epsilon, self.dtype, self.attention)
        x = walk_blocks(
            self.tree["blocks"],
            x.astype(self.dtype),
            shared,
            scan=self.scan,
            bias=later[None, None],
        )
        return layer_norm(x, **self.tree["final_norm"], epsilon=c.epsilon)

    def pooled(self, tokens: Int[Array, "B L"]) -> Float[Array, "B D"]:
        """The normed token at the end of each text, float32; see `CLIPTextConfig.end_id`."""
        end_id = self.config.end_id
        ends = jnp.argmax(tokens if end_id is None else tokens == end_id, axis=1)
        return jnp.take_along_axis(self.hidden(tokens), ends[:, None, None], axis=1)[:, 0]

    def features(self, tokens: Int[Array, "B L"]) -> Float[Array, "B E"]:
        """What is compared with an image's features (not normalised), float32."""
        return matmul(self.tree["head"], self.pooled(tokens), self.dtype).astype(jnp.float32)
