"""The architecture of a TrackFlow as one frozen, hashable, validated record."""

from collections.abc import Sequence
from dataclasses import dataclass

from tavid_jax.models.latte import checks


@dataclass(frozen=True)
class TrackFlowConfig:
    """Architecture of a TrackFlow; the defaults are those of the released checkpoint.

    Attributes:
      size_hw, patch: frame size in pixels and side of a cell; one token per cell.
      num_frames: T, frames of the history window and of the future window; 4k + 1.
      temporal_stride: frames per latent frame (L = 1 + (T-1)/stride).
      latent_channels: C.
      hidden, heads, depth, mlp_ratio: width D, attention heads, number of blocks (even: each
        pair has one spatial and one temporal block), hidden units of the MLPs over D.
      use_overlap: the future window starts at the last history frame instead of after it.
      temporal_first: run the temporal block of each pair before the spatial one.
      use_hist_vis_cond: history visibility is an input; hist_vis_scale_init is its initial scale.
      use_video_cond: history video features are an input, of video_channels channels.
      use_text_cond: a pooled text embedding of text_dim is an input.
      spatial_ctx_mode: what spatial blocks cross-attend to. "pooled_last": the tokens of the
        last spatial_ctx_last_k frames of the history (with spatial_ctx_include_video also of
        the video), averaged over windows of spatial_ctx_pool cells; "time_mean": one mean
        token per context frame; "none": no cross-attention.
      video_ctx_mode: "concat" keeps tracks and video as separate context frames, "sum" adds.
      track_fusion: what of the history is added to every future token: "none", "add_last"
        (the last frame), "add_last_plus_vel" (also its change, growing with time);
        track_fusion_scale_init is its initial scale, and track_fusion_use_time_gate learns
        one gate per future frame (it serves video fusion too).
      video_fusion: "none" or "add_last"; video_fusion_scale_init is its initial scale.
    """

    size_hw: Sequence[int] = (480, 832)
    patch: int = 32
    num_frames: int = 81
    temporal_stride: int = 4
    latent_channels: int = 16
    hidden: int = 768
    heads: int = 12
    depth: int = 16
    mlp_ratio: float = 4.0
    use_overlap: bool = False
    temporal_first: bool = True
    use_hist_vis_cond: bool = True
    hist_vis_scale_init: float = 1.0
    use_video_cond: bool = True
    video_channels: int = 16
    use_text_cond: bool = True
    text_dim: int = 4096
    spatial_ctx_mode: str = "pooled_last"
    spatial_ctx_pool: int = 1
    spatial_ctx_last_k: int = 1
    spatial_ctx_include_video: bool = True
    video_ctx_mode: str = "concat"
    track_fusion: str = "add_last_plus_vel"
    track_fusion_scale_init: float = 0.1
    track_fusion_use_time_gate: bool = True
    video_fusion: str = "none"
    video_fusion_scale_init: float = 0.05

    def __post_init__(self):
        # Lists come from config files; a tuple keeps the config hashable.
        object.__setattr__(self, "size_hw", tuple(self.size_hw))
        me = "TrackFlowConfig"
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
            depth=self.depth,
            mlp_dim=self.mlp_dim,
            video_channels=self.video_channels,
            text_dim=self.text_dim,
            spatial_ctx_pool=self.spatial_ctx_pool,
            spatial_ctx_last_k=self.spatial_ctx_last_k,
        )
        checks.divides(
            me,
            height_by_patch=(height, self.patch),
            width_by_patch=(width, self.patch),
            hidden_by_heads=(self.hidden, self.heads),
            hidden_by_two=(self.hidden, 2),
            depth_by_two=(self.depth, 2),
        )
        checks.frames_fit_stride(me, self.num_frames, self.temporal_stride)
        checks.one_of(
            me,
            spatial_ctx_mode=(self.spatial_ctx_mode, ("pooled_last", "time_mean", "none")),
            video_ctx_mode=(self.video_ctx_mode, ("concat", "sum")),
            track_fusion=(self.track_fusion, ("none", "add_last", "add_last_plus_vel")),
            video_fusion=(self.video_fusion, ("none", "add_last")),
        )
        if self.spatial_ctx_last_k > self.num_latent_frames:
            raise ValueError(
                f"{me}.spatial_ctx_last_k {self.spatial_ctx_last_k} is more than the "
                f"{self.num_latent_frames} latent frames of the history"
            )
        if self.video_fusion != "none" and not self.use_video_cond:
            raise ValueError(f'{me}.video_fusion "{self.video_fusion}" needs use_video_cond=True')
        if self.track_fusion == "add_last_plus_vel" and self.num_latent_frames < 2:
            raise ValueError(
                f'{me}.track_fusion "add_last_plus_vel" needs at least 2 latent frames, '
                f"num_frames {self.num_frames} gives {self.num_latent_frames}"
            )

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
        return 1 + (self.num_frames - 1) // self.temporal_stride

    @property
    def mlp_dim(self) -> int:
        """Hidden units of the MLPs."""
        return int(self.hidden * self.mlp_ratio)

    @property
    def has_time_gate(self) -> bool:
        """The gate exists where it is used."""
        fused = self.track_fusion != "none" or self.video_fusion != "none"
        return self.track_fusion_use_time_gate and fused
