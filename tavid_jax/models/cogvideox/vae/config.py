"""Sizes and options of the CogVideoX autoencoders, and the published ones by name."""

import dataclasses

from tavid_jax.models.layers.tiling import Tiles


@dataclasses.dataclass(frozen=True)
class CogVideoXVAEConfig:
    """One CogVideoX autoencoder; the defaults are those of CogVideoX-5B.

    Attributes:
      widths: channels of each level of resolution, from the pixels down; each level but the last
        ends in a halving of height and width.
      resnets: residual blocks per level of the encoder; the decoder has one more.
      latent_channels: C of a latent.
      groups: of the group norms; it divides every width.
      stride_t: pixel frames per latent frame, a power of two: so many of the first levels halve
        the time too.
      sample_hw: the picture's height and width that `default_tiles` are made for.
      scaling_factor: what latents are multiplied by for the transformer.
      invert_scale_latents: latents of the image that conditions a video are divided by it instead.
    """

    widths: tuple[int, ...] = (128, 256, 256, 512)
    resnets: int = 3
    latent_channels: int = 16
    groups: int = 32
    stride_t: int = 4
    sample_hw: tuple[int, int] = (480, 720)
    scaling_factor: float = 0.7
    invert_scale_latents: bool = False

    def __post_init__(self):
        odd = [width for width in self.widths if width % self.groups]
        if odd:
            raise ValueError(
                f"CogVideoXVAEConfig.groups={self.groups} does not divide the width {odd[0]}"
            )
        most = self.stride_hw
        if self.stride_t not in (2**level for level in range(len(self.widths))):
            raise ValueError(
                f"CogVideoXVAEConfig.stride_t={self.stride_t} is not a power of two up to {most}, "
                f"which is what {len(self.widths)} levels can halve"
            )

    @property
    def stride_hw(self) -> int:
        """Pixels per latent position, of rows and of columns."""
        return 2 ** (len(self.widths) - 1)

    @property
    def latent_mean(self) -> float:
        """Mean of a latent, which the transformer's latents have lost: none."""
        return 0.0

    @property
    def latent_std(self) -> float:
        """What latents are divided by for the transformer."""
        return 1.0 / self.scaling_factor

    @property
    def image_scale(self) -> float:
        """What latents of a conditioning image are multiplied by for the transformer."""
        return 1.0 / self.scaling_factor if self.invert_scale_latents else self.scaling_factor

    def halves_time(self, level: int) -> bool:
        """Whether the step from a level to the next one down halves the time too."""
        return 2**level < self.stride_t


def default_tiles(config: CogVideoXVAEConfig) -> Tiles:
    """The published tiles: half the picture, overlapping by a sixth in height, a fifth in width.

    At 480 x 720: 240 x 360 pixels every 200 x 288. Lengths are rounded down to whole latents.
    """
    step = config.stride_hw
    rows, columns = (max(1, length // 2 // step) for length in config.sample_hw)
    strides = max(1, rows * 5 // 6), max(1, columns * 4 // 5)
    return Tiles((rows * step, columns * step), (strides[0] * step, strides[1] * step))


VAE_PRESETS: dict[str, CogVideoXVAEConfig] = {
    "cogvideox-2b-vae": CogVideoXVAEConfig(scaling_factor=1.15258426),
    "cogvideox-5b-vae": CogVideoXVAEConfig(),
    "cogvideox1.5-vae": CogVideoXVAEConfig(invert_scale_latents=True),
}
