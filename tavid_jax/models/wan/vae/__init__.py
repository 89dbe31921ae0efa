"""The video autoencoders of Wan 2.1 and Wan 2.2 (arXiv:2503.20314)."""
