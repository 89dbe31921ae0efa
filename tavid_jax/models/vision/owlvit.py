"""OWL-ViT (Minderer et al. 2022, arXiv:2205.06230): boxes for what a text names.

CLIP's image tower without pooling: every patch proposes one box and is compared with the text
features of the queries.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from tavid_jax.models.layers.backbone import Initialisers, shapes_of
from tavid_jax.models.layers.linear import Params, init_parameters, linear, xavier_linear
from tavid_jax.models.layers.mlp import exact_gelu
from tavid_jax.models.layers.norms import init_norm, layer_norm
from tavid_jax.models.text import clip as text_tower
from tavid_jax.models.vision import clip as vision_tower
from tavid_jax.models.vision.config import OwlViTConfig

_TINY = 1e-6  # added to the norms of what is compared
_EDGE = 1e-4  # keeps the logits of 0 and 1 finite


class Detections(NamedTuple):
    """What every patch proposes, row by row.

    Attributes:
      logits: per query; their sigmoid is the score.
      boxes: (centre x, centre y, width, height) as shares of the image's width and height.
    """

    logits: Float[Array, "B N Q"]
    boxes: Float[Array, "B N 4"]


def initialisers(config: OwlViTConfig) -> Initialisers:
    """{top-level parameter: function of a key}."""
    width, classes = config.vision.width, config.text.width
    return {
        "vision": lambda key: _all(vision_tower.initialisers(config.vision), key),
        "text": lambda key: _all(text_tower.initialisers(config.text), key),
        "logit_scale": lambda key: jnp.full((), 2.6592),
        "patch_norm": lambda key: init_norm(width),
        "class_head": lambda key: _linears(
            key, {"embed": (width, classes), "shift": (width, 1), "scale": (width, 1)}
        ),
        "box_head": lambda key: _linears(
            key, {"fc1": (width, width), "fc2": (width, width), "fc3": (width, 4)}
        ),
    }


def _all(inits: Initialisers, key) -> Params:
    keys = jax.random.split(key, len(inits))
    return {name: init(k) for (name, init), k in zip(inits.items(), keys, strict=True)}


def _linears(key, sizes: dict[str, tuple[int, int]]) -> Params:
    keys = jax.random.split(key, len(sizes))
    return {
        name: xavier_linear(k, *size) for (name, size), k in zip(sizes.items(), keys, strict=True)
    }


def param_shapes(config: OwlViTConfig) -> Params:
    """The parameters' nested dict of shapes, without allocating any."""
    return shapes_of(initialisers(config))


class OwlViT(nn.Module):
    """Detections of preprocessed images, see `images.owlvit_preprocess`.

    Attributes:
      config: the architecture.
      dtype: of matrix products and of the tokens between blocks; norms, softmax and what becomes
        boxes and scores are float32.
      param_dtype: of the parameters when they are initialised.
      scan: walk the depth with one compiled block; False unrolls it. Same parameters.
      attention: implementation of attention, see `attention.attention`.
    """

    config: OwlViTConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    scan: bool = True
    attention: str = "auto"

    def setup(self):
        self.tree = init_parameters(self, initialisers(self.config), self.param_dtype)

    def __call__(self, images: Float[Array, "B H W 3"], tokens: Int[Array, "Q L"]) -> Detections:
        """`detect(images, queries(tokens))`."""
        return self.detect(images, self.queries(tokens))

    def queries(self, tokens: Int[Array, "Q L"]) -> Float[Array, "Q E"]:
        """Text features of unit length, float32.

        Args:
          tokens: ids with the start and end tokens in place, see `clip_tokenizer`.
        """
        tower = text_tower.CLIPText(self.config.text, **self._options(), parent=None)
        x = tower.apply({"params": self.tree["text"]}, tokens)
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    def detect(self, images: Float[Array, "B H W 3"], queries: Float[Array, "Q E"]) -> Detections:
        """One box and one logit per query for every patch.

        Args:
          images: preprocessed, of the config's size.
          queries: from `queries`.
        """
        c = self.config.vision
        tower = vision_tower.CLIPVision(c, **self._options(), parent=None)
        params = {"params": self.tree["vision"]}
        x = tower.apply(params, images, -1, method="hidden")
        x = layer_norm(x, **self.tree["vision"]["post_norm"], epsilon=c.epsilon)
        # Every patch is seen in the light of the whole.
        x = layer_norm(x[:, 1:] * x[:, :1], **self.tree["patch_norm"], epsilon=c.epsilon)
        return Detections(self._logits(x, queries), self._boxes(x))

    def _options(self) -> dict:
        return dict(
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            scan=self.scan,
            attention=self.attention,
        )

    def _logits(
        self, x: Float[Array, "B N D"], queries: Float[Array, "Q E"]
    ) -> Float[Array, "B N Q"]:
        head = self.tree["class_head"]
        classes = linear(head["embed"], x, self.dtype).astype(jnp.float32)
        classes = classes / (jnp.linalg.norm(classes, axis=-1, keepdims=True) + _TINY)
        queries = queries / (jnp.linalg.norm(queries, axis=-1, keepdims=True) + _TINY)
        cosines = jnp.einsum("bnd,qd->bnq", classes, queries)
        shift, scale = (linear(head[name], x, jnp.float32) for name in ("shift", "scale"))
        return (cosines + shift) * (jax.nn.elu(scale) + 1)

    def _boxes(self, x: Float[Array, "B N D"]) -> Float[Array, "B N 4"]:
        head, c = self.tree["box_head"], self.config.vision
        for name in ("fc1", "fc2"):
            x = exact_gelu(linear(head[name], x, self.dtype))
        offsets = linear(head["fc3"], x, jnp.float32, precision="highest")
        return jax.nn.sigmoid(offsets + box_bias(c.image_size // c.patch_size))


def box_bias(side: int) -> Float[np.ndarray, "N 4"]:
    """Logits of the boxes that patches of a side x side grid propose before anything is learned.

    A patch's own size; the centre is the lower right corner of the patch, as it was trained.
    """
    columns, rows = np.meshgrid(np.arange(1, side + 1), np.arange(1, side + 1))
    centre = np.stack([columns, rows], axis=-1).reshape(-1, 2) / side
    boxes = np.concatenate([centre, np.full_like(centre, 1 / side)], axis=1).astype(np.float32)
    return np.log(boxes + np.float32(_EDGE)) - np.log1p(-boxes + np.float32(_EDGE))
