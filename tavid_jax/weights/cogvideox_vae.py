"""Table of the CogVideoX autoencoders, in the naming of diffusers.

Levels are numbered by resolution here; the published decoder counts its from the deepest one.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tavid_jax.models.cogvideox.vae.autoencoder import param_shapes
from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig
from tavid_jax.weights.formats import Format
from tavid_jax.weights.ops import CONV2D, CONV3D, Op, pointwise_conv
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.table import Row, Table, norm_rows

_ONE_TAP = pointwise_conv(3)


def cogvideox_vae_table(config: CogVideoXVAEConfig) -> Table:
    """The table of one autoencoder."""
    rows = [*_coder_rows("encoder", config), *_coder_rows("decoder", config)]
    for index in range(len(config.widths) - 1):
        at = f"level{index}"
        up = f"decoder.up_blocks.{len(config.widths) - 2 - index}.upsamplers.0.conv"
        down = f"encoder.down_blocks.{index}.downsamplers.0.conv"
        rows += _conv_rows(down, f"encoder/{at}/down", CONV2D)
        rows += _conv_rows(up, f"decoder/level{index + 1}/up", CONV2D)
    return Table(tuple(rows))


def cogvideox_vae_shapes(config: CogVideoXVAEConfig) -> dict:
    """The parameters' shapes."""
    return param_shapes(config)


def _coder_rows(coder: str, config: CogVideoXVAEConfig) -> Iterator[Row]:
    """All of the encoder or the decoder but what changes the resolution."""
    norm = norm_rows if coder == "encoder" else _spatial_norm_rows
    for conv in ("conv_in", "conv_out"):
        yield from _conv_rows(f"{coder}.{conv}.conv", f"{coder}/{conv}", CONV3D)
    yield from norm(f"{coder}.norm_out", f"{coder}/norm_out")
    for source, path, widths in _levels(coder, config):
        pairs = zip(widths, widths[1:], strict=False)
        for index, (n_in, n_out) in enumerate(pairs):
            theirs, ours = f"{coder}.{source}.resnets.{index}", f"{coder}/{path}/resnet{index}"
            for part in ("1", "2"):
                yield from norm(f"{theirs}.norm{part}", f"{ours}/norm{part}")
                yield from _conv_rows(f"{theirs}.conv{part}.conv", f"{ours}/conv{part}", CONV3D)
            if n_in != n_out:
                yield from _conv_rows(f"{theirs}.conv_shortcut", f"{ours}/shortcut", _ONE_TAP)


def _levels(coder: str, config: CogVideoXVAEConfig) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(their name, ours, widths before, between and behind its residual blocks) of each level."""
    depth, bottom = len(config.widths), config.widths[-1]
    yield "mid_block", "mid", (bottom, bottom, bottom)
    for index, width in enumerate(config.widths):
        if coder == "encoder":
            before = config.widths[max(index - 1, 0)]
            yield f"down_blocks.{index}", f"level{index}", (before, *config.resnets * (width,))
        else:
            before = config.widths[min(index + 1, depth - 1)]
            source = f"up_blocks.{depth - 1 - index}"
            yield source, f"level{index}", (before, *(config.resnets + 1) * (width,))


def _conv_rows(source: str, path: str, op: Op) -> list[Row]:
    return [Row(f"{source}.weight", f"{path}/kernel", op), Row(f"{source}.bias", f"{path}/bias")]


def _spatial_norm_rows(source: str, path: str) -> list[Row]:
    return [
        *norm_rows(f"{source}.norm_layer", f"{path}/norm"),
        *_conv_rows(f"{source}.conv_y.conv", f"{path}/scale", _ONE_TAP),
        *_conv_rows(f"{source}.conv_b.conv", f"{path}/shift", _ONE_TAP),
    ]


_BLOCK_TYPES = {
    "down_block_types": "CogVideoXDownBlock3D",
    "up_block_types": "CogVideoXUpBlock3D",
}


def _decode(
    content: Mapping[str, Any], stated: dict[str, Any], path: Path | str, keys: Any
) -> dict[str, Any]:
    widths = tuple(stated["widths"])
    for name, kind in _BLOCK_TYPES.items():
        types = content.get(name, len(widths) * [kind])
        if list(types) != len(widths) * [kind]:
            raise WeightsError(
                f"{path}: {name} is {types}, supported is {kind!r} for each of {len(widths)} levels"
            )
    return {
        "widths": widths,
        "stride_t": int(stated["stride_t"]),
        "sample_hw": (content.get("sample_height", 480), content.get("sample_width", 720)),
    }


def _encode(config: CogVideoXVAEConfig) -> dict[str, Any]:
    height, width = config.sample_hw
    types = {name: len(config.widths) * [kind] for name, kind in _BLOCK_TYPES.items()}
    return {"sample_height": height, "sample_width": width, **types}


FORMATS = {
    "AutoencoderKLCogVideoX": Format(
        CogVideoXVAEConfig,
        {
            "block_out_channels": ("widths", (128, 256, 256, 512)),
            "layers_per_block": ("resnets", 3),
            "latent_channels": ("latent_channels", 16),
            "norm_num_groups": ("groups", 32),
            "temporal_compression_ratio": ("stride_t", 4),
            "scaling_factor": ("scaling_factor", 1.15258426),
            "invert_scale_latents": ("invert_scale_latents", False),
        },
        {
            "in_channels": 3,
            "out_channels": 3,
            "act_fn": "silu",
            "norm_eps": 1e-6,
            "shift_factor": None,
            "latents_mean": None,
            "latents_std": None,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        },
        _decode,
        _encode,
    ),
}
