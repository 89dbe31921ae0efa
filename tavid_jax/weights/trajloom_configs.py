"""TrajLoom's own configs as ours, and what the shapes of a checkpoint tell of its config.

The public code keeps its configs as JSON files of several sections, and inside of the VAE's
checkpoint under `cfg`. A field that is absent has the default of the public classes, which is not
the released value.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from tavid_jax.models.latte.flow_config import TrackFlowConfig
from tavid_jax.models.latte.vae import TrackVAEConfig
from tavid_jax.models.latte.visibility import VisibilityConfig
from tavid_jax.weights.problems import WeightsError

Shapes = Mapping[str, tuple[int, ...]]

# Where each model's fields lie in a file; the flat dict of them is a file too.
_VAE_SECTIONS = ("trajloom_vae", "track_vae", "trajectory_vae", "vae")
_FLOW_SECTIONS = ("generator",)
_VISIBILITY_SECTIONS = ("predictor",)

# Their field -> (ours, default of the public class).
_VAE_FIELDS = {
    "patch_size": ("patch", 8),
    "num_frames_in": ("num_frames", 81),
    "temp_stride": ("temporal_stride", 4),
    "use_temp_compress": ("use_temp_compress", True),
    "latent_channels": ("latent_channels", 8),
    "hidden_size": ("hidden", 384),
    "num_heads": ("heads", 6),
    "mlp_ratio": ("mlp_ratio", 4.0),
    "encoder_depth": ("encoder_depth", 12),
    "decoder_depth": ("decoder_depth", 12),
    "pos_embed_dim": ("pos_embed_dim", 128),
    "use_offsets": ("use_offsets", False),
}
_FLOW_FIELDS = {
    "patch_size": ("patch", 8),
    "num_frames_in": ("num_frames", 81),
    "latent_time_stride": ("temporal_stride", 4),
    "latent_channels": ("latent_channels", 16),
    "hidden_size": ("hidden", 384),
    "num_heads": ("heads", 6),
    "depth": ("depth", 12),
    "mlp_ratio": ("mlp_ratio", 4.0),
    "use_overlap": ("use_overlap", False),
    "temporal_first": ("temporal_first", True),
    "use_hist_vis_cond": ("use_hist_vis_cond", False),
    "hist_vis_scale_init": ("hist_vis_scale_init", 1.0),
    "use_video_cond": ("use_video_cond", True),
    "video_latent_channels": ("video_channels", 16),
    "use_text_cond": ("use_text_cond", True),
    "text_embed_dim": ("text_dim", 4096),
    "spatial_ctx_mode": ("spatial_ctx_mode", "pooled_last"),
    "spatial_ctx_pool": ("spatial_ctx_pool", 8),
    "spatial_ctx_last_k": ("spatial_ctx_last_k", 1),
    "spatial_ctx_include_video": ("spatial_ctx_include_video", True),
    "video_ctx_mode": ("video_ctx_mode", "sum"),
    "track_fusion": ("track_fusion", "add_last_plus_vel"),
    "track_fusion_scale_init": ("track_fusion_scale_init", 0.2),
    "track_fusion_use_time_gate": ("track_fusion_use_time_gate", True),
    "video_fusion": ("video_fusion", "none"),
    "video_fusion_scale_init": ("video_fusion_scale_init", 0.05),
}
_VISIBILITY_FIELDS = {
    "latent_channels": ("latent_channels", 16),
    "hidden": ("hidden", 64),
    "depth": ("depth", 3),
    "kernel_size": ("kernel_size", 3),
    "use_hist_last": ("use_hist_last", False),
    "use_delta_to_hist": ("use_delta", False),
}
# Read elsewhere: the frame's size and L. Of no effect on the network: a loss's weight, a dropout
# that is never applied, and what earlier versions had.
_SIZES = ("input_height", "input_width", "num_frames_latent")
_VAE_IGNORED = (
    "beta", "use_dino", "frame_features_dim", "num_frame_tokens", "temp_method", "use_refine3d",
)  # fmt: skip
_FLOW_IGNORED = ("dropout",)
_VAE_FIXED = {"in_channels": 2, "learn_sigma": False}
# Names of earlier versions of the VAE's config.
_RENAMED = {
    "input_channels": "in_channels",
    "in_frames": "num_frames_in",
    "latent_frames": "num_frames_latent",
    "kl_weight": "beta",
}


def vae_config(content: Mapping[str, Any], where: str) -> TrackVAEConfig | None:
    """The VAE's config in a JSON file or a checkpoint's `cfg`; None if it has no such section.

    Args:
      content: the whole of the file.
      where: what to call it in errors.

    Raises:
      WeightsError: a field that this model does not have, or values that make no model.
    """
    section = _section(content, _VAE_SECTIONS, "encoder_depth")
    if section is None:
        return None
    fields = {_RENAMED.get(name, name): value for name, value in section.items()}
    layers = fields.pop("num_layers", None)
    if layers is not None:
        fields = {"encoder_depth": layers, "decoder_depth": layers, **fields}
    for name, value in _VAE_FIXED.items():
        if fields.get(name, value) != value:
            raise WeightsError(
                f"{where}: {name} is {fields[name]!r}, and this library's VAE has {value!r}"
            )
    other = (*_VAE_IGNORED, *_VAE_FIXED)
    return _build(TrackVAEConfig, fields, _VAE_FIELDS, other, where)


def flow_config(content: Mapping[str, Any], where: str) -> TrackFlowConfig | None:
    """The generator's config; see `vae_config`."""
    section = _section(content, _FLOW_SECTIONS, "spatial_ctx_mode")
    if section is None:
        return None
    return _build(TrackFlowConfig, section, _FLOW_FIELDS, _FLOW_IGNORED, where)


def visibility_config(content: Mapping[str, Any], where: str) -> VisibilityConfig | None:
    """The visibility predictor's config; see `vae_config`."""
    section = _section(content, _VISIBILITY_SECTIONS, "use_hist_last")
    if section is None:
        return None
    return _build(VisibilityConfig, section, _VISIBILITY_FIELDS, (), where)


def _section(
    content: Mapping[str, Any], names: tuple[str, ...], sign: str
) -> Mapping[str, Any] | None:
    """The first section of these names, what lies in its "config", or all of it if it is flat."""
    for name in names:
        found = content.get(name)
        if isinstance(found, Mapping):
            inner = found.get("config", found)
            if isinstance(inner, Mapping) and inner:
                return inner
    return content if sign in content else None


def _build(
    record: type,
    section: Mapping[str, Any],
    fields: Mapping[str, tuple[str, Any]],
    ignored: tuple[str, ...],
    where: str,
) -> Any:
    sizes = _SIZES if record is not VisibilityConfig else ()
    unknown = sorted(set(section) - set(fields) - set(ignored) - set(sizes))
    if unknown:
        raise WeightsError(
            f"{where}: {unknown[0]!r} is no field of {record.__name__}; there are "
            f"{', '.join(sorted({*fields, *sizes}))}"
        )
    values = {ours: section.get(name, default) for name, (ours, default) in fields.items()}
    if sizes:
        values["size_hw"] = (section.get("input_height", 480), section.get("input_width", 832))
    try:
        config = record(**values)
        latents = config.num_latent_frames if sizes else None
    except (ArithmeticError, TypeError, ValueError) as error:
        raise WeightsError(f"{where} describes no model: {error}") from error
    latent = section.get("num_frames_latent")
    if latent is not None and not isinstance(latent, int | float):
        raise WeightsError(f"{where}: num_frames_latent is {latent!r:.60}, no number")
    if sizes and latent is not None and latent != latents:
        if getattr(config, "use_temp_compress", True) and latent < config.num_frames:
            raise WeightsError(
                f"{where}: num_frames_latent is {latent}, but {config.num_frames} frames at a "
                f"stride of {config.temporal_stride} make {config.num_latent_frames}"
            )
    return config


def section_of(config: TrackVAEConfig | TrackFlowConfig | VisibilityConfig) -> dict[str, Any]:
    """The section of a JSON file that states a config: what the readers above invert."""
    fields = {
        TrackVAEConfig: _VAE_FIELDS,
        TrackFlowConfig: _FLOW_FIELDS,
        VisibilityConfig: _VISIBILITY_FIELDS,
    }[type(config)]
    section = {theirs: getattr(config, ours) for theirs, (ours, _) in fields.items()}
    if isinstance(config, VisibilityConfig):
        return section
    height, width = config.size_hw
    section |= {"input_height": height, "input_width": width}
    section["num_frames_latent"] = config.num_latent_frames
    return section | (_VAE_FIXED if isinstance(config, TrackVAEConfig) else {})


# --- what shapes tell


def vae_told(shapes: Shapes, config: TrackVAEConfig) -> dict[str, Any]:
    """Fields (and derived properties) of the config that the tensors' shapes decide.

    Args:
      shapes: key -> shape.
      config: settles what shapes leave open, such as the rounding of a ratio.
    """
    told = _Told(shapes)
    told.take("hidden", "pos_embed", -1)
    told.take("patch", "x_embedder.proj.weight", -1)
    told.take("num_frames", "temp_embed_in", 1)
    told.take("latent_channels", "from_latents.weight", 1)
    told.take("pos_embed_dim", "patch_pos_proj.weight", 1)
    told.count("encoder_depth", r"encoder_blocks\.(\d+)\.attn\.qkv\.weight")
    told.count("decoder_depth", r"decoder_blocks\.(\d+)\.attn\.qkv\.weight")
    told.ratio("encoder_blocks.0.mlp.fc1.weight", config)
    told.fields["use_temp_compress"] = any(key.startswith("temp_compressor.") for key in shapes)
    if "offset_anchor_grid" in shapes:
        told.fields["use_offsets"] = True
        told.fields["size_hw"] = tuple(shapes["offset_anchor_grid"][-2:])
    else:
        told.take("num_tokens", "pos_embed", 1)
    return told.fields


def flow_told(shapes: Shapes, config: TrackFlowConfig) -> dict[str, Any]:
    """See `vae_told`."""
    told = _Told(shapes)
    told.take("hidden", "pos_embed", -1)
    told.take("num_tokens", "pos_embed", 1)
    told.take("latent_channels", "in_proj.weight", 1)
    told.count("depth", r"blocks\.(\d+)\.attn\.qkv\.weight")
    told.ratio("blocks.0.mlp.fc1.weight", config)
    for field, key in (
        ("use_hist_vis_cond", "hist_vis_proj.weight"),
        ("use_video_cond", "hist_video_proj.weight"),
        ("use_text_cond", "text_proj.weight"),
    ):
        told.fields[field] = key in shapes
    if config.use_video_cond:
        told.take("video_channels", "hist_video_proj.weight", 1)
    if config.use_text_cond:
        told.take("text_dim", "text_proj.weight", 1)
    if config.has_time_gate:
        told.take("num_latent_frames", "track_fusion_gate_logit", 0)
    for field in ("track_fusion", "video_fusion"):
        if f"{field}_scale" not in shapes:
            told.fields[field] = "none"
    return told.fields


def visibility_told(shapes: Shapes, config: VisibilityConfig) -> dict[str, Any]:
    """See `vae_told`."""
    told = _Told(shapes)
    told.take("hidden", "in_proj.weight", 0)
    told.take("in_channels", "in_proj.weight", 1)
    told.take("kernel_size", "temporal_net.0.weight", 2)
    told.count("depth", r"temporal_net\.(\d+)\.weight")
    del config
    return told.fields


Told = Callable[[Shapes, Any], dict[str, Any]]


def config_differences(told: Mapping[str, Any], config: Any) -> list[str]:
    """Lines "field: theirs in the file, ours in the config" of what disagrees."""
    return [
        f"{name}: {value} in the file, {getattr(config, name)} in the config"
        for name, value in told.items()
        if value != getattr(config, name)
    ]


class _Told:
    """Collects fields; a tensor that is missing or of another rank tells nothing."""

    def __init__(self, shapes: Shapes):
        self.shapes, self.fields = shapes, {}

    def take(self, field: str, key: str, axis: int) -> None:
        """The length of one axis."""
        shape = self.shapes.get(key, ())
        if -len(shape) <= axis < len(shape):
            self.fields[field] = shape[axis]

    def count(self, field: str, pattern: str) -> None:
        """How many layers have such a key."""
        found = sum(re.fullmatch(pattern, key) is not None for key in self.shapes)
        if found:
            self.fields[field] = found

    def ratio(self, key: str, config: Any) -> None:
        """mlp_ratio, from a layer (hidden units, width)."""
        shape = self.shapes.get(key, ())
        if len(shape) == 2 and int(shape[1] * config.mlp_ratio) != shape[0]:
            self.fields["mlp_ratio"] = shape[0] / shape[1]


def stated_fields(config: Any) -> dict[str, Any]:
    """The fields that make the network: without initial values, and which pixel is read."""
    return {
        name: value
        for name, value in vars(config).items()
        if name != "query_row_col" and not name.endswith("_init")
    }
