"""Model FLOPs of the T5 encoders, see layers/flops.py."""

from __future__ import annotations

from tavid_jax.models.layers.flops import Work
from tavid_jax.models.text.config import T5Config


def encode(work: Work, config: T5Config, batch: int, tokens: int, *, trained: bool) -> None:
    """Features of `batch` prompts of so many tokens; all weights are trained, or none."""
    c, w = config, trained  # the embedding, too: every product behind it is live
    rows, inner = batch * tokens, c.num_heads * c.head_dim
    for _ in range(c.num_layers):
        for n_in, n_out in (*[(c.dim, inner)] * 3, (inner, c.dim)):
            work.product(rows, n_in, n_out, x=w, w=w)
        work.attend(tokens, tokens, inner, q=w, k=w, v=w, batch=batch)
        for n_in, n_out in (*[(c.dim, c.ffn_dim)] * 2, (c.ffn_dim, c.dim)):
            work.product(rows, n_in, n_out, x=w, w=w)
