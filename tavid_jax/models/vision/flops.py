"""Model FLOPs of frozen image towers, see layers/flops.py.

Resizing pictures and tables of positions are products, too, of a thousandth of a tower's work;
they are left out.
"""

from __future__ import annotations

from tavid_jax.models.layers.flops import Work
from tavid_jax.models.vision.config import CLIPVisionConfig, ViTConfig


def tower(
    work: Work,
    config: CLIPVisionConfig | ViTConfig,
    pictures: int,
    patches: int,
    *,
    blocks: int | None = None,
) -> None:
    """Tokens of so many pictures of so many patches, behind `blocks` blocks (None: all)."""
    c, tokens = config, patches + 1
    work.product(pictures * patches, 3 * c.patch_size**2, c.width, x=False, w=False)
    for _ in range(c.num_layers if blocks is None else blocks):
        for _ in range(4):
            work.product(pictures * tokens, c.width, c.width, x=False, w=False)
        work.attend(tokens, tokens, c.width, q=False, k=False, v=False, batch=pictures)
        work.mlp(pictures * tokens, c.width, c.mlp_dim, c.width, x=False, w=False)
