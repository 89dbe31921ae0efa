"""TrajLoomBench: forecasts of dense tracks over 24 and 81 frames, measured as in the paper.

python -m tavid_jax.trajloombench prepare   sources of videos -> data sets in the bench's layout
python -m tavid_jax.trajloombench evaluate  forecasts of every clip, in TrajLoom's output folders
python -m tavid_jax.trajloombench tables    Tables 1-6 of such folders, beside the published ones
python -m tavid_jax.trajloombench run       evaluate, then tables

    python -m tavid_jax.trajloombench run --datasets DIR --out OUT \\
        --method TrajLoom=CHECKPOINTS --encoders WAN2.1 --method WHN=CHECKPOINTS

Zhang et al. 2026 (arXiv 2603.22606). What the paper does not tell is a setting here, and written
beside every number: see `protocol`, `measuring` and `published`.
"""

from tavid_jax.trajloombench.datasets import BenchClip, Dataset, Example, open_datasets
from tavid_jax.trajloombench.evaluation import Job, evaluate
from tavid_jax.trajloombench.measuring import measure
from tavid_jax.trajloombench.outputs import Folder, find_folders
from tavid_jax.trajloombench.preparing import Rules, prepare
from tavid_jax.trajloombench.protocol import BenchError, Protocol

__all__ = [
    "BenchClip",
    "BenchError",
    "Dataset",
    "Example",
    "Folder",
    "Job",
    "Protocol",
    "Rules",
    "evaluate",
    "find_folders",
    "measure",
    "open_datasets",
    "prepare",
]
