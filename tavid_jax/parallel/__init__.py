"""Mesh, path tables, activation constraints and process start-up."""
