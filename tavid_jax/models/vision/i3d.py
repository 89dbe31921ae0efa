"""I3D (Carreira & Zisserman 2017, arXiv:1705.07750): Inception, its filters inflated over time.

The network whose features FVD compares. For inference only: batch norms are affine maps. Windows
lie as in TensorFlow's "SAME": an odd leftover of the padding comes last.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.layers.backbone import Initialisers, shapes_of
from tavid_jax.models.layers.conv import conv, init_conv
from tavid_jax.models.layers.linear import Params, init_parameters, linear, torch_linear
from tavid_jax.models.vision.config import I3DConfig

# Widths of a mixed block's branches: one tap; one, then three taps; the same, narrower; pooled.
MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
BRANCHES = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
# Windows and strides of the maxima in front of a block, over (time, rows, columns).
_POOLED = {
    "conv_2b": ((1, 3, 3), (1, 2, 2)),
    "mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
_AVERAGED = (2, 7, 7)
MIN_FRAMES = 9  # fewer leave less than the two frames that are averaged at the end


def initialisers(config: I3DConfig) -> Initialisers:
    """{top-level parameter: function of a key}."""
    inits = {name: _unit(*size) for name, size in _stem(config).items()}
    width = _stem(config)["conv_2c"][2]
    for name in MIXED:
        sizes = _branches(name, width, config)
        inits[name] = _units(sizes)
        width = sum(sizes[branch][2] for branch in ("b0", "b1b", "b2b", "b3b"))
    inits["logits"] = lambda key: torch_linear(key, width, config.num_classes)
    return inits


def _stem(config: I3DConfig) -> dict[str, tuple[int, int, int]]:
    """Unit -> (taps along each axis, channels in, channels out)."""
    narrow, wide = 64 // config.shrink, 192 // config.shrink
    return {"conv_1a": (7, 3, narrow), "conv_2b": (1, narrow, narrow), "conv_2c": (3, narrow, wide)}


def _branches(name: str, n_in: int, config: I3DConfig) -> dict[str, tuple[int, int, int]]:
    """The same for the units of a mixed block."""
    b0, b1a, b1b, b2a, b2b, b3b = (width // config.shrink for width in MIXED[name])
    sizes = [(1, n_in, b0), (1, n_in, b1a), (3, b1a, b1b), (1, n_in, b2a), (3, b2a, b2b)]
    return dict(zip(BRANCHES, [*sizes, (1, n_in, b3b)], strict=True))


def _unit(taps: int, n_in: int, n_out: int):
    return lambda key: _init_unit(key, taps, n_in, n_out)


def _units(sizes: Mapping[str, tuple[int, int, int]]):
    def init(key) -> Params:
        keys = jax.random.split(key, len(sizes))
        return {
            name: _init_unit(k, *size) for (name, size), k in zip(sizes.items(), keys, strict=True)
        }

    return init


def _init_unit(key, taps: int, n_in: int, n_out: int) -> Params:
    """Kernel (taps, taps, taps, in, out) without a bias; a norm that changes nothing."""
    zeros, ones = jnp.zeros((n_out,)), jnp.ones((n_out,))
    norm = {"scale": ones, "bias": zeros, "mean": zeros, "variance": ones}
    return {"kernel": init_conv(key, (taps,) * 3, n_in, n_out)["kernel"], "norm": norm}


def param_shapes(config: I3DConfig) -> Params:
    """The parameters' nested dict of shapes, without allocating any."""
    return shapes_of(initialisers(config))


class I3D(nn.Module):
    """Logits of clips, see `images.i3d_preprocess`.

    Attributes:
      config: the architecture.
      dtype: of the convolutions; what becomes the logits is float32.
      param_dtype: of the parameters when they are initialised.
    """

    config: I3DConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def setup(self):
        self.tree = init_parameters(self, initialisers(self.config), self.param_dtype)

    def __call__(self, videos: Float[Array, "B T H W 3"]) -> Float[Array, "B C"]:
        """Logits of all classes, averaged over time (and place, of frames larger than 224).

        Args:
          videos: in [-1, 1], at least nine frames of more than 192 pixels a side.

        Raises:
          ValueError: less than that.
        """
        if videos.shape[1] < MIN_FRAMES or min(videos.shape[2:4]) <= 192:
            raise ValueError(
                f"I3D: clips of {videos.shape[1]} frames of {videos.shape[2]}x{videos.shape[3]} "
                f"are too small; give at least {MIN_FRAMES} frames, resized to "
                f"{self.config.image_size}x{self.config.image_size}"
            )
        x = videos
        for name in (*_stem(self.config), *MIXED):
            if name in _POOLED:
                x = _maximum(x, *_POOLED[name])
            if name in MIXED:
                x = self._mixed(self.tree[name], x)
            else:
                x = self._conv(self.tree[name], x, halve=name == "conv_1a")
        x = x.astype(jnp.float32)
        window = (1, *_AVERAGED, 1)
        total = lax.reduce_window(x, 0.0, lax.add, window, (1,) * 5, "VALID")
        pooled = (total / (2 * 7 * 7)).mean(axis=(1, 2, 3))
        return linear(self.tree["logits"], pooled, jnp.float32)

    def _mixed(self, params: Params, x: Float[Array, "B T H W I"]) -> Float[Array, "B T H W O"]:
        branches = [
            self._conv(params["b0"], x),
            self._conv(params["b1b"], self._conv(params["b1a"], x)),
            self._conv(params["b2b"], self._conv(params["b2a"], x)),
            self._conv(params["b3b"], _maximum(x, (3, 3, 3), (1, 1, 1))),
        ]
        return jnp.concatenate(branches, axis=-1)

    def _conv(
        self, params: Params, x: Float[Array, "B T H W I"], halve: bool = False
    ) -> Float[Array, "B R H2 W2 O"]:
        """Convolution, norm and ReLU; the norm is worked into the kernel."""
        norm, kernel = params["norm"], params["kernel"]
        scale = norm["scale"] * lax.rsqrt(norm["variance"] + self.config.epsilon)
        folded = {"kernel": kernel * scale, "bias": norm["bias"] - norm["mean"] * scale}
        if halve:
            return jax.nn.relu(_halving_conv(folded, x, self.dtype))
        padding = [((taps - 1) // 2,) * 2 for taps in kernel.shape[:3]]
        return jax.nn.relu(conv(folded, x, self.dtype, padding=padding))


def _halving_conv(
    params: Params, x: Float[Array, "B T H W I"], dtype: DTypeLike
) -> Float[Array, "B R H2 W2 O"]:
    """The "SAME" convolution of stride 2 along all axes, with an odd number of taps.

    As one of stride 1 with half the taps, on blocks of 2 x 2 x 2 whose values are channels: three
    channels would leave matrix units nearly empty, and 343 taps take long to compile.
    """
    kernel = params["kernel"]
    taps = kernel.shape[0] + 1  # the last one is zero
    same = lax.padtype_to_pads(x.shape[1:4], kernel.shape[:3], (2, 2, 2), "SAME")
    lengths = [2 * (-(-n // 2) - 1) + taps for n in x.shape[1:4]]
    sizes = zip(x.shape[1:4], same, lengths, strict=True)
    pads = [(before, length - n - before) for n, (before, _), length in sizes]
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    x = rearrange(x, "b (t i) (h j) (w k) c -> b t h w (i j k c)", i=2, j=2, k=2)
    kernel = jnp.pad(kernel, (*((0, 1),) * 3, (0, 0), (0, 0)))
    kernel = rearrange(kernel, "(t i) (h j) (w k) c o -> t h w (i j k c) o", i=2, j=2, k=2)
    return conv({"kernel": kernel, "bias": params["bias"]}, x, dtype)


def _maximum(
    x: Float[Array, "B T H W D"], window: Sequence[int], strides: Sequence[int]
) -> Float[Array, "B R H2 W2 D"]:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), "SAME")
