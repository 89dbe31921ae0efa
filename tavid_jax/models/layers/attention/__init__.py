"""Attention over a list of key/value parts, with several implementations behind one function."""

from tavid_jax.models.layers.attention.dispatch import IMPLEMENTATIONS, attention
from tavid_jax.models.layers.attention.types import Part, Query

__all__ = ["IMPLEMENTATIONS", "Part", "Query", "attention"]
