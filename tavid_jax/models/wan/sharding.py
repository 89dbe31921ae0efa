"""Where Wan's parameters (and their adapters and optimizer moments) lie on the mesh."""

from tavid_jax.models.layers.block_sharding import BACK, BLOCK_RULES, INTO
from tavid_jax.parallel.sharding import PathTable

# Stacked tables, biases and norms: small in every block, though not all blocks together.
SMALL = (
    (r"(^|/)blocks/modulation$", (None, None, None)),
    (r"(^|/)blocks/.+/(bias|scale)$", (None, None)),
)
# As in the blocks: outputs of the first product over `tensor`, inputs of the second.
EMBEDDINGS = (
    (r"(^|/)(text|time|image)_embed/fc1/kernel$", ("fsdp", "tensor")),
    (r"(^|/)(text|time|image)_embed/fc2/kernel$", ("tensor", "fsdp")),
    (r"(^|/)time_proj/kernel$", ("fsdp", "tensor")),
)
# A location-aware cross-attention, stacked over its blocks, lies as the published one does.
LOCATED = (
    (r"(^|/)laca/(q|k|v)/kernel$", INTO),
    (r"(^|/)laca/o/kernel$", BACK),
    (r"(^|/)laca/[^/]+/(bias|scale)$", (None, None)),
    (r"(^|/)laca/[^/]+/a$", (None, "fsdp", None)),
    (r"(^|/)laca/[^/]+/b$", (None, None, "fsdp")),
)
# What no rule names is split over `fsdp` along its largest dimension, or copied if small.
SHARDING = PathTable(rules=(*BLOCK_RULES, *SMALL, *EMBEDDINGS))
LOCATED_SHARDING = PathTable(rules=(*SHARDING.rules, *LOCATED))
