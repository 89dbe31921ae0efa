"""TrackVAE: the variational autoencoder of dense track fields (TrajLoom-VAE).

A field holds, for every pixel of a (H, W) frame, where that pixel's track is in each of T
frames. When tracks are seeded once per patch x patch cell, the field is constant over the
cell. Patch embedding then folds exactly to a product with two numbers per cell, and only one
pixel per cell has to be decoded: `encode` and `decode` work on cells (B, T, gh, gw, 2) and
never build the field. `encode_dense` and `decode_dense` are the published form, for fields
that vary inside a cell and for tests.

Coordinates are absolute and normalised, x_n = 2x/W - 1, y_n = 2y/H - 1, always float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.latte import checks, parts
from tavid_jax.models.latte.anchors import (
    anchors_within_cell,
    cell_anchors,
    cell_centres,
    pixel_anchors,
)
from tavid_jax.models.latte.axial import axial_stage, init_axial_block
from tavid_jax.models.layers.depth import Remat, init_stack
from tavid_jax.models.layers.embeddings import fourier_features, sin_cos_grid, sin_cos_table
from tavid_jax.models.layers.linear import (
    Params,
    linear,
    uniform_fan_in,
    xavier_linear,
    zero_linear,
)
from tavid_jax.models.layers.mlp import init_mlp, mlp
from tavid_jax.models.layers.temporal import temporal_conv, temporal_conv_transpose

# Taps of the convolutions that change the frame rate.
TEMPORAL_KERNEL = 7


@dataclass(frozen=True)
class TrackVAEConfig:
    """Architecture of a TrackVAE; the defaults are those of the released checkpoint.

    Attributes:
      size_hw: frame height and width in pixels, each a multiple of `patch`.
      patch: side of a cell in pixels; one token per cell.
      num_frames: T; temporal_stride * k + 1 if use_temp_compress.
      temporal_stride: frames per latent frame.
      use_temp_compress: False keeps all frames (L = T) and has no temporal convolutions.
      latent_channels: C.
      hidden: width D, a multiple of `heads` and of 4.
      mlp_ratio: hidden units of the MLPs over D.
      encoder_depth, decoder_depth: even; half of the blocks runs at T and half at L frames.
      pos_embed_dim: even; width of the Fourier branch of cell centres.
      use_offsets: encode and decode offsets from pixel-centre anchors instead of positions.
      query_row_col: the pixel (row, column) of each cell that `decode` reads by default;
        (0, 0) is the published top-left query, (patch//2, patch//2) the centre.
    """

    size_hw: Sequence[int] = (480, 832)
    patch: int = 32
    num_frames: int = 81
    temporal_stride: int = 4
    use_temp_compress: bool = True
    latent_channels: int = 16
    hidden: int = 512
    heads: int = 8
    mlp_ratio: float = 4.0
    encoder_depth: int = 16
    decoder_depth: int = 16
    pos_embed_dim: int = 64
    use_offsets: bool = True
    query_row_col: Sequence[int] = (0, 0)

    def __post_init__(self):
        # Lists come from config files; tuples keep the config hashable.
        object.__setattr__(self, "size_hw", tuple(self.size_hw))
        object.__setattr__(self, "query_row_col", tuple(self.query_row_col))
        me = "TrackVAEConfig"
        height, width = self.size_hw
        checks.positive(
            me,
            height=height,
            width=width,
            patch=self.patch,
            num_frames=self.num_frames,
            temporal_stride=self.temporal_stride,
            latent_channels=self.latent_channels,
            hidden=self.hidden,
            heads=self.heads,
            encoder_depth=self.encoder_depth,
            decoder_depth=self.decoder_depth,
            pos_embed_dim=self.pos_embed_dim,
            mlp_dim=self.mlp_dim,
        )
        checks.divides(
            me,
            height_by_patch=(height, self.patch),
            width_by_patch=(width, self.patch),
            hidden_by_heads=(self.hidden, self.heads),
            hidden_by_four=(self.hidden, 4),
            encoder_depth_by_two=(self.encoder_depth, 2),
            decoder_depth_by_two=(self.decoder_depth, 2),
            pos_embed_dim_by_two=(self.pos_embed_dim, 2),
        )
        if self.use_temp_compress:
            checks.frames_fit_stride(me, self.num_frames, self.temporal_stride)
        check_row_col(self.query_row_col, self.patch)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """(gh, gw) cells."""
        return self.size_hw[0] // self.patch, self.size_hw[1] // self.patch

    @property
    def num_tokens(self) -> int:
        """N = gh * gw."""
        return self.grid_hw[0] * self.grid_hw[1]

    @property
    def num_latent_frames(self) -> int:
        """L."""
        if not self.use_temp_compress:
            return self.num_frames
        return 1 + (self.num_frames - 1) // self.temporal_stride

    @property
    def mlp_dim(self) -> int:
        """Hidden units of the MLPs."""
        return int(self.hidden * self.mlp_ratio)


def check_row_col(row_col: tuple[int, int], patch: int) -> None:
    """The pixel lies inside a cell."""
    if len(row_col) != 2 or not all(0 <= v < patch for v in row_col):
        raise ValueError(
            f"query pixel (row, column) must lie in 0..{patch - 1} of a cell of patch {patch}, "
            f"got {tuple(row_col)}"
        )


@flax.struct.dataclass
class Posterior:
    """Diagonal Gaussian over latents: `mean` and `std`, each float32 (B, L, N, C)."""

    # Any: as a pytree it may also hold shapes, shardings or None.
    mean: Any
    std: Any

    def sample(self, key: PRNGKeyArray) -> Float[Array, "B L N C"]:
        """mean + std * eps."""
        return self.mean + self.std * jax.random.normal(key, self.mean.shape, jnp.float32)

    def kl(self) -> Float[Array, " B"]:
        """KL to N(0, 1), averaged over the latent elements of each sample (nats per element)."""
        per_element = 0.5 * (jnp.square(self.std) + jnp.square(self.mean) - 1.0)
        return jnp.mean(per_element - jnp.log(self.std), axis=(1, 2, 3))


class TrackVAE(nn.Module):
    """Encoder and decoder of dense track fields.

    Attributes:
      config: the architecture.
      dtype: dtype of the blocks' arithmetic. Parameters, coordinates, norms, softmax and the
        posterior are float32 in any case.
      scan: walk the depth with one compiled (space, time) pair instead of an unrolled loop.
        Both forms read the same parameters.
      remat: what the backward pass keeps of every (space, time) pair, see `layers.depth.Remat`;
        the names are `attention.ACTIVATIONS`.
    """

    config: TrackVAEConfig
    dtype: DTypeLike = jnp.float32
    scan: bool = True
    remat: Remat = "none"

    # Fixed tables, and the norm that the published blocks own but never apply.
    frozen_paths: ClassVar[tuple[str, ...]] = (
        r"^pos_embed$",
        r"^temp_embed_in$",
        r"^patch_pos_lff/w$",
        r"^(encoder|decoder)_blocks/norm2/",
    )

    def setup(self):
        c = self.config
        d, latent, pos = c.hidden, c.latent_channels, c.pos_embed_dim

        def stack(key, depth):
            return init_stack(lambda k: init_axial_block(k, d, c.mlp_dim), key, depth)

        self.pos_embed = self.param("pos_embed", lambda key: jnp.asarray(_space_table(c)))
        self.temp_embed_in = self.param("temp_embed_in", lambda key: jnp.asarray(_time_table(c)))
        self.x_embedder = self.param("x_embedder", _init_patch_embedding, c.patch, d)
        self.patch_pos_lff = self.param("patch_pos_lff", _init_fourier_branch, pos)
        self.patch_pos_proj = self.param("patch_pos_proj", xavier_linear, pos, d)
        self.encoder_blocks = self.param("encoder_blocks", stack, c.encoder_depth)
        self.to_latents = self.param("to_latents", xavier_linear, d, 2 * latent)
        self.from_latents = self.param("from_latents", xavier_linear, latent, d)
        self.decoder_blocks = self.param("decoder_blocks", stack, c.decoder_depth)
        self.final_layer = self.param("final_layer", zero_linear, d, 2 * c.patch**2)
        if c.use_temp_compress:
            taps = (TEMPORAL_KERNEL, d, d)
            self.temp_compressor = self.param(
                "temp_compressor", uniform_fan_in, taps, TEMPORAL_KERNEL * d
            )
            self.temp_expander = self.param(
                "temp_expander", uniform_fan_in, taps, TEMPORAL_KERNEL * d
            )

    def __call__(self, tracks: Float[Array, "B T gh gw 2"]) -> Float[Array, "B T gh gw 2"]:
        """Reconstruction of cell tracks from the posterior mean, at the configured query pixel."""
        return self.decode(self.encode(tracks).mean)

    def encode(self, tracks: Float[Array, "B T gh gw 2"]) -> Posterior:
        """Posterior of a field that is constant over each cell, from its value per cell.

        Equal to `encode_dense` of the field with every value repeated over its cell: with
        W the patch kernel, sum_rc W_rc (x - a_rc) = (sum_rc W_rc) (x - a_00) - sum_rc W_rc
        (a_rc - a_00), and the last sum is the same for all cells.
        """
        c = self.config
        want = (None, c.num_frames, *c.grid_hw, 2)
        checks.array_shape("TrackVAE.encode", "tracks", tracks.shape, want)
        tracks = tracks.astype(jnp.float32)
        kernel, bias = self.x_embedder["kernel"], self.x_embedder["bias"]
        if c.use_offsets:
            tracks = tracks - cell_anchors(c.size_hw, c.patch, (0, 0))
            within = anchors_within_cell(c.size_hw, c.patch)
            bias = bias - jnp.einsum("rci,rcid->d", within, kernel, precision="highest")
        folded = {"kernel": jnp.sum(kernel, axis=(0, 1)), "bias": bias}
        tokens = linear(folded, tracks, jnp.float32, precision="highest")
        return self._encode_tokens(rearrange(tokens, "b t i j d -> b t (i j) d"))

    def encode_dense(self, field: Float[Array, "B T H W 2"]) -> Posterior:
        """Posterior of a field that may vary inside a cell."""
        c = self.config
        want = (None, c.num_frames, *c.size_hw, 2)
        checks.array_shape("TrackVAE.encode_dense", "field", field.shape, want)
        field = field.astype(jnp.float32)
        if c.use_offsets:
            field = field - pixel_anchors(c.size_hw)
        p = c.patch
        patches = rearrange(field, "b t (i r) (j c) xy -> b t (i j) (r c xy)", r=p, c=p)
        flat = {
            "kernel": self.x_embedder["kernel"].reshape(2 * p * p, c.hidden),
            "bias": self.x_embedder["bias"],
        }
        return self._encode_tokens(linear(flat, patches, jnp.float32, precision="highest"))

    def decode(
        self, z: Float[Array, "B L N C"], row_col: tuple[int, int] | None = None
    ) -> Float[Array, "B T gh gw 2"]:
        """Absolute normalised positions of pixel (row, column) of every cell; not clamped.

        `row_col` defaults to config.query_row_col. Only the two output columns of that pixel
        are computed.
        """
        c = self.config
        row_col = c.query_row_col if row_col is None else tuple(row_col)
        check_row_col(row_col, c.patch)
        first = 2 * (row_col[0] * c.patch + row_col[1])
        pixel = {
            "kernel": self.final_layer["kernel"][:, first : first + 2],
            "bias": self.final_layer["bias"][first : first + 2],
        }
        out = linear(pixel, self.decode_tokens(z), jnp.float32, precision="highest")
        out = rearrange(out, "b t (i j) xy -> b t i j xy", i=c.grid_hw[0])
        return out + cell_anchors(c.size_hw, c.patch, row_col) if c.use_offsets else out

    def decode_dense(self, z: Float[Array, "B L N C"]) -> Float[Array, "B T H W 2"]:
        """Absolute normalised positions of every pixel; not clamped."""
        return self.field_of(self.decode_tokens(z))

    def field_of(self, tokens: Float[Array, "B T N D"]) -> Float[Array, "B T H W 2"]:
        """The dense field of the last block's tokens, of any frames."""
        c = self.config
        out = linear(self.final_layer, tokens, jnp.float32, precision="highest")
        shape = {"i": c.grid_hw[0], "r": c.patch, "c": c.patch}
        out = rearrange(out, "b t (i j) (r c xy) -> b t (i r) (j c) xy", **shape)
        return out + pixel_anchors(c.size_hw) if c.use_offsets else out

    def _encode_tokens(self, tokens: Float[Array, "B T N D"]) -> Posterior:
        c = self.config
        x = (tokens + self.pos_embed + self._cell_embedding()).astype(self.dtype)
        blocks, (before, after) = self.encoder_blocks, _halves(c.encoder_depth)
        x = self._stage(blocks, before, x, after_first=self.temp_embed_in[:, None])
        if c.use_temp_compress:
            x = self._resample(temporal_conv, self.temp_compressor, x, padding="edge")
        x = self._stage(blocks, after, x)
        out = linear(self.to_latents, x, jnp.float32, precision="highest")
        mean, raw = jnp.split(out, 2, axis=-1)
        return Posterior(mean=mean, std=jax.nn.softplus(0.5 * raw) + 1e-8)

    def decode_tokens(self, z: Float[Array, "B L N C"]) -> Float[Array, "B T N D"]:
        """The tokens behind the last block, which `field_of` reads."""
        c = self.config
        want = (None, c.num_latent_frames, c.num_tokens, c.latent_channels)
        checks.array_shape("TrackVAE.decode", "z", z.shape, want)
        x = linear(self.from_latents, z, self.dtype)
        blocks, (before, after) = self.decoder_blocks, _halves(c.decoder_depth)
        x = self._stage(blocks, before, x)
        if c.use_temp_compress:
            x = self._resample(temporal_conv_transpose, self.temp_expander, x)
        return self._stage(blocks, after, x)

    def _resample(self, conv: Callable, params: Params, x: Array, **options: Any) -> Array:
        """A change of the frame rate."""
        options |= dict(stride=self.config.temporal_stride, dtype=self.dtype)
        return parts.over_tokens(lambda x: conv(params, x, **options), x)

    def _cell_embedding(self) -> Float[Array, "N D"]:
        """The Fourier branch: where a cell is, the same in all frames; float32."""
        c = self.config
        centres = jnp.asarray(cell_centres(c.size_hw, c.patch)).reshape(-1, 2)
        features = fourier_features(centres, self.patch_pos_lff["w"])
        features = mlp(self.patch_pos_lff["mlp"], features, jnp.float32)
        return linear(self.patch_pos_proj, features, jnp.float32)

    def _stage(self, blocks: Params, span: range, x: Array, **kwargs) -> Array:
        return axial_stage(
            blocks,
            span,
            x,
            heads=self.config.heads,
            dtype=self.dtype,
            scan=self.scan,
            remat=self.remat,
            **kwargs,
        )


def _halves(depth: int) -> tuple[range, range]:
    """The blocks before and after the change of frame rate."""
    return range(0, depth // 2), range(depth // 2, depth)


def _space_table(config: TrackVAEConfig):
    return sin_cos_grid(config.grid_hw, config.hidden)


def _time_table(config: TrackVAEConfig):
    return sin_cos_table(np.arange(config.num_frames, dtype=np.float64), config.hidden)


def _init_patch_embedding(key: PRNGKeyArray, patch: int, dim: int) -> Params:
    """Kernel (p, p, 2, D): Xavier-uniform as a matrix (2 p p, D); zero bias."""
    flat = xavier_linear(key, 2 * patch * patch, dim)
    return {"kernel": flat["kernel"].reshape(patch, patch, 2, dim), "bias": flat["bias"]}


def _init_fourier_branch(key: PRNGKeyArray, dim: int) -> Params:
    """Fixed N(0, 1) directions (dim/2, 2) and an MLP that widens by four."""
    key_w, key_mlp = jax.random.split(key)
    return {
        "w": jax.random.normal(key_w, (dim // 2, 2), jnp.float32),
        "mlp": init_mlp(key_mlp, dim, 4 * dim, dim, xavier_linear),
    }
