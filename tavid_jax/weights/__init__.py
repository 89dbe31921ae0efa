"""PyTorch checkpoints in and out: one declarative table per checkpoint."""

from tavid_jax.weights.files import read_state_dict
from tavid_jax.weights.registry import CHECKPOINTS, Checkpoint, export, load, port
from tavid_jax.weights.table import WeightsError

__all__ = [
    "CHECKPOINTS",
    "Checkpoint",
    "WeightsError",
    "export",
    "load",
    "port",
    "read_state_dict",
]
