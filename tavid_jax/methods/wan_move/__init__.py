"""Wan-Move: image-to-video whose image is moved along tracks (arXiv:2512.08765)."""
