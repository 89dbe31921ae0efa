"""From the past of a video to a video of its future: TrajLoom's tracks move Wan-Move's image.

`python -m tavid_jax.bridge --help` is the command.
"""

from tavid_jax.bridge.alignment import ALIGNMENTS, CAUSAL, MOST, REPRODUCTION, aligned, chosen
from tavid_jax.bridge.history import History, Window, read_history

__all__ = [
    "ALIGNMENTS",
    "CAUSAL",
    "MOST",
    "REPRODUCTION",
    "History",
    "Window",
    "aligned",
    "chosen",
    "read_history",
]
