"""Layers shared by all models: pure functions on arrays and parameter dicts."""
