"""Location-aware cross-attention: tokens near a trajectory read its text, all others the prompt.

A second cross-attention beside the published one, with projections and norms of its own:
x <- x + (1 - strength) CrossAttn(n, prompt) + strength LACA(n, prompt, texts, pairs).
"""

from tavid_jax.models.layers.located.params import init_laca
from tavid_jax.models.layers.located.port import cross_attention_port, laca_caches
from tavid_jax.models.layers.located.types import Laca, LocalTexts

__all__ = ["Laca", "LocalTexts", "cross_attention_port", "init_laca", "laca_caches"]
