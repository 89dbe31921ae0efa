"""Transformers that tell from one picture how its points will move: track VAE and denoiser.

Published as WHN ("What Happens Next?"). They descend from Latte as `models/latte` does, with split
projections, norms of whole queries and keys, and tokens of the picture as context of every block.
"""
