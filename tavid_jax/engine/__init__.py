"""Runs a config: stages, the training loop, checkpoints, telemetry and reports. Knows no paper."""
