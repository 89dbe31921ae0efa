"""Architectures of WHN's denoiser and track VAE, and the published ones by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tavid_jax.models.latte import checks


@dataclass(frozen=True)
class WhnConfig:
    """Architecture of a `WhnDenoiser`; the defaults are those of Kubric, size L.

    Attributes:
      num_frames: F of its table of times; more frames may be asked of it, see `tables.time_table`.
      grid_hw: rows and columns of its input: of latents, or of tracks.
      patch: side of a patch of the input; one token each.
      channels: of the input; 2 for tracks.
      raw: the input is positions of tracks, which a Fourier encoder reads, instead of latents.
      fourier_dim: even; width of that encoder's features.
      hidden, heads, depth, mlp_ratio: width D, attention heads, number of blocks, hidden units of
        the MLPs over D.
      frame_dim: width of the picture's features.
      frame_grid_hw: rows and columns of them as the table of their places counts them.
      text_dim: width of a pooled text embedding, 0 for a model without text.
    """

    num_frames: int = 24
    grid_hw: Sequence[int] = (16, 16)
    patch: int = 1
    channels: int = 8
    raw: bool = False
    fourier_dim: int = 128
    hidden: int = 768
    heads: int = 12
    depth: int = 16
    mlp_ratio: float = 4.0
    frame_dim: int = 384
    frame_grid_hw: Sequence[int] = (16, 16)
    text_dim: int = 0

    def __post_init__(self):
        _check(self, depth=self.depth, channels=self.channels)
        if self.raw and self.channels != 2:
            raise ValueError(f"WhnConfig.raw needs channels=2 (x, y), got {self.channels}")
        if self.text_dim < 0:
            raise ValueError(f"WhnConfig.text_dim {self.text_dim} is negative")

    @property
    def tokens_hw(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.grid_hw[0] // self.patch, self.grid_hw[1] // self.patch

    @property
    def num_tokens(self) -> int:
        """N, of a frame."""
        return self.tokens_hw[0] * self.tokens_hw[1]

    @property
    def frame_tokens(self) -> int:
        """M, of the picture."""
        return self.frame_grid_hw[0] * self.frame_grid_hw[1]

    @property
    def embed_channels(self) -> int:
        """What a patch is made of."""
        return self.channels + (self.fourier_dim if self.raw else 0)

    @property
    def mlp_dim(self) -> int:
        """Hidden units of the MLPs."""
        return int(self.hidden * self.mlp_ratio)


@dataclass(frozen=True)
class WhnVAEConfig:
    """Architecture of a `WhnVAE`; the defaults are those of Kubric.

    Attributes:
      grid_hw: rows and columns of tracks.
      latent_channels: C, of every token of every frame.
      encoder_depth, decoder_depth: number of blocks.
      Others as in `WhnConfig`.
    """

    num_frames: int = 24
    grid_hw: Sequence[int] = (32, 32)
    patch: int = 2
    latent_channels: int = 8
    fourier_dim: int = 128
    hidden: int = 384
    heads: int = 6
    encoder_depth: int = 12
    decoder_depth: int = 12
    mlp_ratio: float = 4.0
    frame_dim: int = 384
    frame_grid_hw: Sequence[int] = (16, 16)

    def __post_init__(self):
        _check(
            self,
            latent_channels=self.latent_channels,
            encoder_depth=self.encoder_depth,
            decoder_depth=self.decoder_depth,
        )

    tokens_hw = WhnConfig.tokens_hw
    num_tokens = WhnConfig.num_tokens
    frame_tokens = WhnConfig.frame_tokens
    mlp_dim = WhnConfig.mlp_dim

    @property
    def embed_channels(self) -> int:
        """What a patch is made of: (x, y) and Fourier features."""
        return 2 + self.fourier_dim

    @property
    def least_std(self) -> float:
        """Added to standard deviations; the published class for squares adds nothing."""
        rows, columns = self.grid_hw
        return 0.0 if rows == columns else 1e-8


def _check(config: Any, **more: int) -> None:
    for name in ("grid_hw", "frame_grid_hw"):
        # Lists come from config files; a tuple keeps the config hashable.
        object.__setattr__(config, name, tuple(getattr(config, name)))
    me, c = type(config).__name__, config
    checks.positive(
        me,
        num_frames=c.num_frames,
        rows=c.grid_hw[0],
        columns=c.grid_hw[1],
        patch=c.patch,
        fourier_dim=c.fourier_dim,
        hidden=c.hidden,
        heads=c.heads,
        mlp_dim=c.mlp_dim,
        frame_dim=c.frame_dim,
        frame_rows=c.frame_grid_hw[0],
        frame_columns=c.frame_grid_hw[1],
        **more,
    )
    checks.divides(
        me,
        rows_by_patch=(c.grid_hw[0], c.patch),
        columns_by_patch=(c.grid_hw[1], c.patch),
        hidden_by_heads=(c.hidden, c.heads),
        hidden_by_four=(c.hidden, 4),
        fourier_dim_by_two=(c.fourier_dim, 2),
    )


#: Published sizes; B and S are one.
SIZES: dict[str, dict[str, int]] = {
    "l": dict(depth=16, hidden=768, heads=12),
    "b": dict(depth=12, hidden=384, heads=6),
    "s": dict(depth=12, hidden=384, heads=6),
    "xs": dict(depth=8, hidden=192, heads=3),
}
#: What the models of each data set share. Features are DINOv2's: small for Kubric, else large.
INSTANCES: dict[str, dict[str, Any]] = {
    "kubric": dict(num_frames=24, frame_dim=384, frame_grid_hw=(16, 16)),
    "libero": dict(num_frames=16, frame_dim=1024, frame_grid_hw=(9, 9), text_dim=768),
    "physics101": dict(
        raw=True, channels=2, patch=2, num_frames=30, grid_hw=(32, 58), frame_dim=1024,
        frame_grid_hw=(18, 33),
    ),
    "physion": dict(
        raw=True, channels=2, patch=2, num_frames=30, grid_hw=(32, 32), frame_dim=1024,
        frame_grid_hw=(18, 18),
    ),
    # 16 rows of 32 features; the published table of places has it the other way round.
    "cityscapes": dict(
        raw=True, channels=2, patch=4, num_frames=30, grid_hw=(56, 112), frame_dim=1024,
        frame_grid_hw=(32, 16),
    ),
}  # fmt: skip


def whn_config(instance: str, size: str) -> WhnConfig:
    """The denoiser of a data set in one of the published sizes.

    Raises:
      ValueError: an unknown data set or size.
    """
    for what, name, known in (("data set", instance, INSTANCES), ("size", size, SIZES)):
        if name not in known:
            raise ValueError(f"WHN: no {what} {name!r}; there are {', '.join(known)}")
    return WhnConfig(**INSTANCES[instance], **SIZES[size])


#: Those that were trained, by name.
WHN_PRESETS: dict[str, WhnConfig] = {
    f"whn-{instance}-{size}": whn_config(instance, size)
    for instance, sizes in {
        "kubric": "lb", "cityscapes": "lb", "libero": "b", "physics101": "b", "physion": "b",
    }.items()
    for size in sizes
}  # fmt: skip
WHN_VAE_PRESETS: dict[str, WhnVAEConfig] = {
    "whn-vae-kubric": WhnVAEConfig(),
    "whn-vae-libero": WhnVAEConfig(
        num_frames=16, grid_hw=(64, 64), patch=4, frame_dim=1024, frame_grid_hw=(9, 9)
    ),
}
