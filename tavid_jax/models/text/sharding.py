"""Where the parameters of the T5 encoders lie on the mesh."""

from tavid_jax.models.layers.block_sharding import BLOCK_RULES, INTO
from tavid_jax.parallel.sharding import PathTable

RULES = (
    (r"(^|/)blocks/mlp/gate/kernel$", INTO),
    (r"(^|/)blocks/(attn|mlp)_norm/scale$", (None, None)),
    # (layers, buckets, heads) of umT5, (buckets, heads) of T5.
    (r"(^|/)blocks/position_bias$", (None, None, "tensor")),
    (r"(^|/)position_bias$", (None, "tensor")),
    # By columns: every device looks up its part of each token's vector.
    (r"(^|/)embed$", (None, ("fsdp", "tensor"))),
)
SHARDING = PathTable(rules=(*BLOCK_RULES, *RULES))
