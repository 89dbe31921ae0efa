"""config.json of pixels folded into channels: an autoencoder of ours, without tensors."""

from tavid_jax.models.layers.space_to_depth import SpaceToDepthConfig
from tavid_jax.weights.formats import Format

FORMATS = {
    "SpaceToDepth": Format(
        SpaceToDepthConfig,
        {"stride_t": ("stride_t", 4), "stride_hw": ("stride_hw", 2)},
        {},
    ),
}
PRESETS = {"space-to-depth": SpaceToDepthConfig()}
