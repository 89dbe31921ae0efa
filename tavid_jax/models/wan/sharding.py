"""Where Wan's parameters (and their adapters and optimizer moments) lie on the mesh."""

from tavid_jax.models.layers.block_sharding import BLOCK_RULES
from tavid_jax.parallel.sharding import PathTable

# What no rule names is split over `fsdp` along its largest dimension, or copied if small.
SHARDING = PathTable(rules=BLOCK_RULES)
