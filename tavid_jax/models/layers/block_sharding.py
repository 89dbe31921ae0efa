"""Where the parameters of stacked transformer blocks lie on the mesh."""

from tavid_jax.parallel.sharding import Place

Rules = tuple[tuple[str, tuple[Place, ...]], ...]

# Kernels are (depth, inputs, outputs). Depth is never split: the scan takes one layer at a time.
# Projections into heads and into the MLP's hidden width split their outputs over `tensor`, those
# back to the tokens their inputs, so that a block needs one sum per pair. The other side is stored
# over `fsdp` and gathered layer by layer.
INTO = (None, "fsdp", "tensor")
BACK = (None, "tensor", "fsdp")

BLOCK_RULES: Rules = (
    (r"(^|/)blocks/(attn|cross)/(q|k|v|image_k|image_v)/kernel$", INTO),
    (r"(^|/)blocks/(attn|cross)/o/kernel$", BACK),
    (r"(^|/)blocks/mlp/fc1/kernel$", INTO),
    (r"(^|/)blocks/mlp/fc2/kernel$", BACK),
    # Adapters: A (layers, inputs, rank), B (layers, rank, outputs).
    (r"(^|/)blocks/.+/a$", (None, "fsdp", None)),
    (r"(^|/)blocks/.+/b$", (None, None, "fsdp")),
)
