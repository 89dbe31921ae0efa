"""Wan 2.1 and 2.2: video tokens with self-attention, and cross-attention to text and image."""
