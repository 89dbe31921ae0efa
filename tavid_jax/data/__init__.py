"""Clips: their schema, the sources that give them, and the pipeline that batches them."""

from tavid_jax.data.clip import Clip, ClipError, check_clip, sanitize

__all__ = ["Clip", "ClipError", "check_clip", "sanitize"]
