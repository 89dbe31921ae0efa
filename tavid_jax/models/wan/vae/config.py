"""Sizes and options of Wan's video autoencoders, and the published ones by name."""

import dataclasses

from tavid_jax.models.layers.tiling import Tiles

RGB = 3


@dataclasses.dataclass(frozen=True)
class Stage:
    """Residual blocks at one resolution, and the change of resolution behind them.

    Attributes:
      dim_in, dim, dim_out: channels in front of the blocks, behind them and behind the stage.
      blocks: how many.
      factor_t, factor_hw: by which time and space change behind the blocks; 1 or 2.
    """

    dim_in: int
    dim: int
    dim_out: int
    blocks: int
    factor_t: int
    factor_hw: int

    @property
    def volume(self) -> int:
        """Positions of the finer side per position of the coarser."""
        return self.factor_t * self.factor_hw**2


@dataclasses.dataclass(frozen=True)
class WanVAEConfig:
    """One autoencoder; the defaults are those of Wan 2.1.

    Attributes:
      latent_channels: of the latent.
      encoder_dim, decoder_dim: channels at the finest resolution of either half.
      multipliers: channels of each resolution, finest first, in units of these.
      num_blocks: residual blocks per resolution in the encoder; the decoder has one more.
      time_strided: whether time, too, is halved behind each resolution but the coarsest.
      residual: every stage has a shortcut without parameters around it (Wan 2.2).
      patch: side of the square of pixels that is moved into the channels first (Wan 2.2: 2).
      latent_mean, latent_std: of the latents, per channel.

    Raises:
      ValueError: lengths that do not belong together, or a shortcut that its channels do not fit.
    """

    latent_channels: int = 16
    encoder_dim: int = 96
    decoder_dim: int = 96
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_blocks: int = 2
    time_strided: tuple[bool, ...] = (False, True, True)
    residual: bool = False
    patch: int = 1
    # fmt: off
    latent_mean: tuple[float | int, ...] = (
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    )
    latent_std: tuple[float | int, ...] = (
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
        3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    )
    # fmt: on

    def __post_init__(self):
        for name in ("latent_mean", "latent_std"):
            if len(getattr(self, name)) != self.latent_channels:
                raise ValueError(
                    f"WanVAEConfig: {len(getattr(self, name))} values of {name} for "
                    f"{self.latent_channels} latent channels: give one per channel"
                )
        if len(self.time_strided) != len(self.multipliers) - 1:
            raise ValueError(
                f"WanVAEConfig: {len(self.time_strided)} values of time_strided for "
                f"{len(self.multipliers)} multipliers: give one fewer than these"
            )
        if self.residual:
            self._check_shortcuts()

    def _check_shortcuts(self) -> None:
        """The decoder's last stage, which changes no resolution, has none."""
        around = [("encoder", s, s.dim_in, s.dim) for s in self.encoder_stages]
        around += [("decoder", s, s.dim, s.dim_in) for s in self.decoder_stages[:-1]]
        for half, stage, fine, coarse in around:
            if fine * stage.volume % coarse:
                raise ValueError(
                    f"WanVAEConfig: the shortcut of the {half}'s stage from {stage.dim_in} to "
                    f"{stage.dim} channels needs {fine} * {stage.volume} to be a multiple of "
                    f"{coarse}: choose other multipliers"
                )

    @property
    def stride_t(self) -> int:
        """Frames per latent frame (the first latent frame is one frame)."""
        return 2 ** sum(self.time_strided)

    @property
    def stride_hw(self) -> int:
        """Pixels per latent position, along rows and along columns."""
        return self.patch * 2 ** (len(self.multipliers) - 1)

    @property
    def pixel_channels(self) -> int:
        """Channels that the convolutions read and write."""
        return RGB * self.patch**2

    @property
    def encoder_stages(self) -> tuple[Stage, ...]:
        """Finest first."""
        stages, dim_in = [], self.encoder_dim
        for multiplier, factors in zip(self.multipliers, [*self._factors, (1, 1)], strict=True):
            dim = multiplier * self.encoder_dim
            stages.append(Stage(dim_in, dim, dim, self.num_blocks, *factors))
            dim_in = dim
        return tuple(stages)

    @property
    def decoder_stages(self) -> tuple[Stage, ...]:
        """Coarsest first; without shortcuts, going up halves the channels."""
        dims = [self.decoder_dim * m for m in reversed(self.multipliers)]
        stages, dim_in = [], dims[0]
        for dim, factors in zip(dims, [*reversed(self._factors), (1, 1)], strict=True):
            dim_out = dim // 2 if factors[1] > 1 and not self.residual else dim
            stages.append(Stage(dim_in, dim, dim_out, self.num_blocks + 1, *factors))
            dim_in = dim_out
        return tuple(stages)

    @property
    def _factors(self) -> list[tuple[int, int]]:
        """(of time, of space) between one resolution and the next, finest first."""
        return [(2 if strided else 1, 2) for strided in self.time_strided]


def default_tiles(config: WanVAEConfig) -> Tiles:
    """The published tiles: 256 pixels, one every 192.

    The other implementation with this choice, diffusers, counts patches instead of pixels in the
    encoder of Wan 2.2; what it calls 256 and 192 there are 512 and 384 pixels here.
    """
    del config  # the same for both generations
    return Tiles(size_hw=(256, 256), stride_hw=(192, 192))


VAE_PRESETS: dict[str, WanVAEConfig] = {
    "wan2.1-vae": WanVAEConfig(),
    "wan2.2-vae": WanVAEConfig(
        latent_channels=48,
        encoder_dim=160,
        decoder_dim=256,
        residual=True,
        patch=2,
        # fmt: off
        latent_mean=(
            -0.2289,
            -0.0052,
            -0.1323,
            -0.2339,
            -0.2799,
            0.0174,
            0.1838,
            0.1557,
            -0.1382,
            0.0542,
            0.2813,
            0.0891,
            0.1570,
            -0.0098,
            0.0375,
            -0.1825,
            -0.2246,
            -0.1207,
            -0.0698,
            0.5109,
            0.2665,
            -0.2108,
            -0.2158,
            0.2502,
            -0.2055,
            -0.0322,
            0.1109,
            0.1567,
            -0.0729,
            0.0899,
            -0.2799,
            -0.1230,
            -0.0313,
            -0.1649,
            0.0117,
            0.0723,
            -0.2839,
            -0.2083,
            -0.0520,
            0.3748,
            0.0152,
            0.1957,
            0.1433,
            -0.2944,
            0.3573,
            -0.0548,
            -0.1681,
            -0.0667,
        ),
        latent_std=(
            0.4765,
            1.0364,
            0.4514,
            1.1677,
            0.5313,
            0.4990,
            0.4818,
            0.5013,
            0.8158,
            1.0344,
            0.5894,
            1.0901,
            0.6885,
            0.6165,
            0.8454,
            0.4978,
            0.5759,
            0.3523,
            0.7135,
            0.6804,
            0.5833,
            1.4146,
            0.8986,
            0.5659,
            0.7069,
            0.5338,
            0.4889,
            0.4917,
            0.4069,
            0.4999,
            0.6866,
            0.4093,
            0.5709,
            0.6065,
            0.6415,
            0.4944,
            0.5726,
            1.2042,
            0.5458,
            1.6887,
            0.3971,
            1.0600,
            0.3943,
            0.5537,
            0.5444,
            0.4089,
            0.7468,
            0.7744,
        ),
        # fmt: on
    ),
}
