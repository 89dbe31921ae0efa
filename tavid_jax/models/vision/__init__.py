"""Encoders of single images, and what turns pictures into their input."""
