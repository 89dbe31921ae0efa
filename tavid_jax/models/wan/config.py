"""Sizes and options of the Wan transformers, and the published ones by name."""

import dataclasses

from tavid_jax.models.layers.patches import patch_grid


@dataclasses.dataclass(frozen=True)
class WanConfig:
    """One Wan transformer; the defaults are those of Wan2.1-T2V-14B.

    Attributes:
      num_heads, head_dim: the width D is their product.
      ffn_dim: hidden width of the MLP.
      num_layers: depth.
      in_channels: channels of the latent that is read (image-to-video of 2.1 and A14B: noisy 16,
        mask 4, image 16).
      out_channels: channels of the predicted velocity.
      patch_size: latent frames, rows and columns per token.
      freq_dim: width of the sinusoid of the timestep.
      text_dim, text_length: the text encoder's width; prompts are padded with zero vectors to
        this length, and the pads take part in cross-attention.
      image_dim: width of the CLIP image tokens that cross-attention also reads; None without.
      image_tokens: rows of the learned table added to image tokens (two images: 514); None
        without a table.
      epsilon: of all norms but those of the image tokens.
      max_positions: largest token index per axis that the rotary table serves.
      extra_channels: additional input channels with a patch projection of their own, zero at
        initialisation; 0 is the published model.
      condition_videos: how many videos steer the prediction, each as many tokens as the video; 2
        are fused by a projection, zero at initialisation; 0 is the published model.
    """

    num_heads: int = 40
    head_dim: int = 128
    ffn_dim: int = 13824
    num_layers: int = 40
    in_channels: int = 16
    out_channels: int = 16
    patch_size: tuple[int, int, int] = (1, 2, 2)
    freq_dim: int = 256
    text_dim: int = 4096
    text_length: int = 512
    image_dim: int | None = None
    image_tokens: int | None = None
    epsilon: float = 1e-6
    max_positions: int = 1024
    extra_channels: int = 0
    condition_videos: int = 0

    def __post_init__(self):
        if self.condition_videos not in (0, 1, 2):
            raise ValueError(
                f"condition_videos={self.condition_videos}: one, or two that are fused; 0 is none"
            )
        if self.head_dim % 2 or self.freq_dim % 2:
            raise ValueError(
                f"WanConfig: head_dim={self.head_dim} and freq_dim={self.freq_dim} must be even"
            )
        if self.image_tokens is not None and self.image_dim is None:
            raise ValueError("WanConfig.image_tokens without image_dim: set image_dim")

    @property
    def dim(self) -> int:
        """Width D of every token."""
        return self.num_heads * self.head_dim

    @property
    def patch_elements(self) -> int:
        """Latent positions per token."""
        pt, ph, pw = self.patch_size
        return pt * ph * pw

    def grid(self, latent_fhw: tuple[int, int, int]) -> tuple[int, int, int]:
        """Tokens (f, h, w) of a latent of size (F, H, W); ValueError if patches do not fit."""
        return patch_grid(latent_fhw, self.patch_size)


_I2V_2_1 = WanConfig(in_channels=36, image_dim=1280)

PRESETS: dict[str, WanConfig] = {
    "wan2.1-t2v-1.3b": WanConfig(num_heads=12, ffn_dim=8960, num_layers=30),
    "wan2.1-t2v-14b": WanConfig(),
    "wan2.1-i2v-14b": _I2V_2_1,
    "wan2.1-flf2v-14b": dataclasses.replace(_I2V_2_1, image_tokens=514),
    "wan2.2-ti2v-5b": WanConfig(
        num_heads=24, ffn_dim=14336, num_layers=30, in_channels=48, out_channels=48
    ),
    # A14B: two experts of this size each, see experts.py.
    "wan2.2-t2v-a14b": WanConfig(),
    "wan2.2-i2v-a14b": WanConfig(in_channels=36),
}
