"""Tables of Wan's video autoencoders, in the original naming and in diffusers'."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tavid_jax.models.wan.vae.autoencoder import param_shapes
from tavid_jax.models.wan.vae.config import Stage, WanVAEConfig
from tavid_jax.weights.formats import Format
from tavid_jax.weights.ops import CONV2D, CONV3D, COPY, Op, pointwise_conv, squeeze_end
from tavid_jax.weights.problems import WeightsError, raise_all
from tavid_jax.weights.table import Row, Table

Naming = Literal["original", "diffusers"]

_COLUMN = {"original": 1, "diffusers": 2}
# Each line: our path, the original name, diffusers' name.
_MIXING = (("quant_conv", "conv1", "quant_conv"), ("post_quant_conv", "conv2", "post_quant_conv"))
_CONV_IN = ("conv_in", "conv1", "conv_in")
_HEAD_NORM = ("head/norm", "head.0", "norm_out")
_HEAD_CONV = ("head/conv", "head.2", "conv_out")
_MIDDLE_BLOCKS = (
    ("middle/res0", "middle.0", "mid_block.resnets.0"),
    ("middle/res1", "middle.2", "mid_block.resnets.1"),
)
_MIDDLE_ATTENTION = ("middle/attn", "middle.1", "mid_block.attentions.0")

# Names inside a residual block.
_NORMS = (("norm1", "residual.0", "norm1"), ("norm2", "residual.3", "norm2"))
_CONVS = (("conv1", "residual.2", "conv1"), ("conv2", "residual.6", "conv2"))
_SHORTCUT = ("shortcut", "shortcut", "conv_shortcut")

# (naming, whether stages have shortcuts) -> half -> names of a stage's residual blocks and of its
# change of resolution; {s} counts the stages, {m} the layers of a stage, {j} those of the half.
_STAGES = {
    ("original", False): {
        "encoder": ("downsamples.{j}", "downsamples.{j}"),
        "decoder": ("upsamples.{j}", "upsamples.{j}"),
    },
    ("original", True): {
        "encoder": ("downsamples.{s}.downsamples.{m}", "downsamples.{s}.downsamples.{m}"),
        "decoder": ("upsamples.{s}.upsamples.{m}", "upsamples.{s}.upsamples.{m}"),
    },
    ("diffusers", False): {
        "encoder": ("down_blocks.{j}", "down_blocks.{j}"),
        "decoder": ("up_blocks.{s}.resnets.{m}", "up_blocks.{s}.upsamplers.0"),
    },
    ("diffusers", True): {
        "encoder": ("down_blocks.{s}.resnets.{m}", "down_blocks.{s}.downsampler"),
        "decoder": ("up_blocks.{s}.resnets.{m}", "up_blocks.{s}.upsampler"),
    },
}


def wan_vae_table(config: WanVAEConfig, naming: Naming = "original") -> Table:
    """The table of one autoencoder of either generation."""
    column = _COLUMN[naming]
    rows: list[Row] = []
    for names in _MIXING:
        rows += _layer(names[column], names[0], pointwise_conv(3))
    for half, stages in (("encoder", config.encoder_stages), ("decoder", config.decoder_stages)):
        rows += _ends(half, column)
        names, count = _STAGES[naming, config.residual][half], 0
        for s, stage in enumerate(stages):
            rows += _stage(stage, f"{half}/stage{s}", half, names, (s, count), column)
            count += stage.blocks + (stage.factor_hw > 1)
    return Table(tuple(rows))


def wan_vae_shapes(config: WanVAEConfig) -> dict:
    """The parameters' shapes."""
    return param_shapes(config)


def _layer(key: str, path: str, op: Op) -> list[Row]:
    return [Row(f"{key}.weight", f"{path}/kernel", op), Row(f"{key}.bias", f"{path}/bias", COPY)]


def _norm(key: str, path: str, axes: int = 3) -> Row:
    return Row(f"{key}.gamma", f"{path}/scale", squeeze_end(axes))


def _ends(half: str, column: int) -> list[Row]:
    """What is neither numbered nor different between the generations."""

    def at(names: tuple[str, ...]) -> tuple[str, str]:
        return f"{half}.{names[column]}", f"{half}/{names[0]}"

    rows = [
        *_layer(*at(_CONV_IN), CONV3D),
        _norm(*at(_HEAD_NORM)),
        *_layer(*at(_HEAD_CONV), CONV3D),
    ]
    for names in _MIDDLE_BLOCKS:
        rows += _block(*at(names), column, projects=False)
    key, path = at(_MIDDLE_ATTENTION)
    rows.append(_norm(f"{key}.norm", f"{path}/norm", axes=2))  # of single frames
    rows += _layer(f"{key}.to_qkv", f"{path}/qkv", pointwise_conv(2))
    return rows + _layer(f"{key}.proj", f"{path}/proj", pointwise_conv(2))


def _block(key: str, path: str, column: int, projects: bool) -> list[Row]:
    rows = [_norm(f"{key}.{names[column]}", f"{path}/{names[0]}") for names in _NORMS]
    for names in _CONVS:
        rows += _layer(f"{key}.{names[column]}", f"{path}/{names[0]}", CONV3D)
    if not projects:
        return rows
    shortcut = _layer(f"{key}.{_SHORTCUT[column]}", f"{path}/{_SHORTCUT[0]}", pointwise_conv(3))
    return rows + shortcut


def _stage(
    stage: Stage,
    path: str,
    half: str,
    names: tuple[str, str],
    numbers: tuple[int, int],
    column: int,
) -> list[Row]:
    """Rows of one stage.

    Args:
      names: a line of `_STAGES`.
      numbers: of the stage, and of its first layer among those of the half.
    """

    def key(name: str, m: int) -> str:
        return f"{half}.{name.format(s=numbers[0], m=m, j=numbers[1] + m)}"

    rows: list[Row] = []
    for m in range(stage.blocks):
        projects = m == 0 and stage.dim_in != stage.dim
        rows += _block(key(names[0], m), f"{path}/res{m}", column, projects)
    if stage.factor_hw == 1:
        return rows
    change, path = key(names[1], stage.blocks), f"{path}/{'down' if half == 'encoder' else 'up'}"
    rows += _layer(f"{change}.resample.1", f"{path}/conv", CONV2D)
    if stage.factor_t > 1:
        rows += _layer(f"{change}.time_conv", f"{path}/time_conv", CONV3D)
    return rows


def _decode(
    content: Mapping[str, Any], stated: dict[str, Any], path: Path | str, keys: Any
) -> dict[str, Any]:
    """Tuples, ours where the file has null; the channels of pixels follow from the patch."""
    lists = ("multipliers", "time_strided", "latent_mean", "latent_std")
    fields = {name: tuple(stated[name]) for name in lists}
    fields["decoder_dim"] = stated["decoder_dim"] or stated["encoder_dim"]
    fields["patch"] = stated["patch"] or 1
    try:
        config = WanVAEConfig(**{**stated, **fields})
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    odd = [
        f"{name}: {content.get(name, 3)}, supported is {value}"
        for name, value in _pixel_channels(config).items()
        if content.get(name, 3) != value
    ]
    raise_all({"options": odd}, f"{path} describes a model that this library does not have", "")
    return fields


def _pixel_channels(config: WanVAEConfig) -> dict[str, Any]:
    return dict.fromkeys(("in_channels", "out_channels"), config.pixel_channels)


FORMATS = {
    "AutoencoderKLWan": Format(
        WanVAEConfig,
        {
            "z_dim": ("latent_channels", 16),
            "base_dim": ("encoder_dim", 96),
            "decoder_base_dim": ("decoder_dim", None),
            "dim_mult": ("multipliers", (1, 2, 4, 4)),
            "num_res_blocks": ("num_blocks", 2),
            "temperal_downsample": ("time_strided", (False, True, True)),
            "is_residual": ("residual", False),
            "latents_mean": ("latent_mean", WanVAEConfig.latent_mean),
            "latents_std": ("latent_std", WanVAEConfig.latent_std),
            "patch_size": ("patch", None),
        },
        {"attn_scales": []},
        _decode,
        lambda config: {
            "patch_size": config.patch if config.patch > 1 else None,
            **_pixel_channels(config),
            "scale_factor_temporal": config.stride_t,
            "scale_factor_spatial": config.stride_hw,
        },
    )
}
