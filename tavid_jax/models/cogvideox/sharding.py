"""Where CogVideoX's parameters (and their adapters and optimizer moments) lie on the mesh."""

from tavid_jax.models.layers.block_sharding import BLOCK_RULES
from tavid_jax.parallel.sharding import PathTable

# The modulations' kernels (depth, E, 6 D) are a third of a block: split where they are wide.
MODULATION = ((r"(^|/)blocks/mod[12]/kernel$", (None, None, "fsdp")),)
# Learned positions: split over their rows they would draw the tokens after them.
POSITIONS = ((r"(^|/)pos_embed$", (None, "fsdp")),)
# Stacked biases and norms: small in every block, though not all blocks together.
SMALL = ((r"(^|/)blocks/.+/(bias|scale)$", (None, None)),)
# What no rule names is split over `fsdp` along its largest dimension, or copied if small.
SHARDING = PathTable(rules=(*BLOCK_RULES, *MODULATION, *SMALL, *POSITIONS))
