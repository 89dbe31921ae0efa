"""Encoders of single images and of clips, and what turns pictures into their input."""
