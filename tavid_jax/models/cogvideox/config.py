"""Sizes and options of the CogVideoX transformers, and the published ones by name."""

import dataclasses

from tavid_jax.models.layers.patches import patch_grid


@dataclasses.dataclass(frozen=True)
class CogVideoXConfig:
    """One CogVideoX transformer; the defaults are those of CogVideoX-5B.

    Attributes:
      num_heads, head_dim: the width D is their product; head_dim is a multiple of 16.
      num_layers: depth.
      in_channels: channels of the latent that is read (image-to-video: noisy 16 + image 16).
      out_channels: channels of the prediction.
      patch_size: latent frames, rows and columns per token; two frames per token is CogVideoX 1.5.
      time_embed_dim: width of the timestep vector that modulates every block.
      text_dim, text_length: the text encoder's width, and tokens per prompt (pads take part).
      rotary: 3-D rotary positions on queries and keys of video tokens.
      learned_positions: a learned table added to text and video tokens (needs `rotary`); with
        neither, the fixed sin-cos table is added (2B).
      ofs_dim: width of the second time-like embedding of 1.5 image-to-video, None without.
      sample_frames: pixel frames that the learned table was made for.
      sample_hw: latent size; it anchors the learned table and the crop of the rotary grid.
      time_compression: pixel frames per latent frame.
      spatial_scale, temporal_scale: divide the positions of the fixed table.
      mlp_ratio: hidden width of the MLP over D.
      extra_channels: additional input channels (a target mask, say) with a patch projection of
        their own, zero at initialisation; 0 is the published model.
      condition_videos: how many videos steer the prediction, each as many tokens as the video; 2
        are fused by a projection, zero at initialisation; 0 is the published model.
    """

    num_heads: int = 48
    head_dim: int = 64
    num_layers: int = 42
    in_channels: int = 16
    out_channels: int = 16
    patch_size: tuple[int, int, int] = (1, 2, 2)
    time_embed_dim: int = 512
    text_dim: int = 4096
    text_length: int = 226
    rotary: bool = True
    learned_positions: bool = False
    ofs_dim: int | None = None
    sample_frames: int = 49
    sample_hw: tuple[int, int] = (60, 90)
    time_compression: int = 4
    spatial_scale: float = 1.875
    temporal_scale: float = 1.0
    mlp_ratio: int = 4
    extra_channels: int = 0
    condition_videos: int = 0

    def __post_init__(self):
        if self.condition_videos not in (0, 1, 2):
            raise ValueError(
                f"condition_videos={self.condition_videos}: one, or two that are fused; 0 is none"
            )
        if self.head_dim % 16:
            raise ValueError(
                f"CogVideoXConfig.head_dim={self.head_dim}: rotary positions and the fixed table "
                "need a multiple of 16"
            )
        if self.learned_positions and not self.rotary:
            raise ValueError(
                "CogVideoXConfig.learned_positions without rotary: no such model was published; "
                "set rotary=True"
            )

    @property
    def dim(self) -> int:
        """Width D of every token."""
        return self.num_heads * self.head_dim

    @property
    def sample_grid(self) -> tuple[int, int, int]:
        """Tokens (f, h, w) of the size that the learned table was made for.

        Rounded up where two frames are a token: 81 pixel frames are 21 of the latent, 11 tokens.
        """
        frames = (self.sample_frames - 1) // self.time_compression + 1
        pt = self.patch_size[0]
        return self.grid((-(-frames // pt) * pt, *self.sample_hw))

    @property
    def patch_elements(self) -> int:
        """Latent positions per token."""
        pt, ph, pw = self.patch_size
        return pt * ph * pw

    def grid(self, latent_fhw: tuple[int, int, int]) -> tuple[int, int, int]:
        """Tokens (f, h, w) of a latent of size (F, H, W); ValueError if patches do not fit."""
        return patch_grid(latent_fhw, self.patch_size)


_V1_5 = CogVideoXConfig(patch_size=(2, 2, 2), sample_frames=81, sample_hw=(300, 300))

PRESETS: dict[str, CogVideoXConfig] = {
    "cogvideox-2b": CogVideoXConfig(num_heads=30, num_layers=30, rotary=False),
    "cogvideox-5b": CogVideoXConfig(),
    "cogvideox-5b-i2v": CogVideoXConfig(in_channels=32, learned_positions=True),
    "cogvideox1.5-5b": _V1_5,
    "cogvideox1.5-5b-i2v": dataclasses.replace(_V1_5, in_channels=32, ofs_dim=512),
}
