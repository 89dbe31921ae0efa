"""Packaging of tavid_jax. Tool settings (ruff, pytest) live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
README = ROOT / "README.md"
INIT = (ROOT / "tavid_jax" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'^__version__ = "(.+)"$', INIT, re.MULTILINE).group(1)

# The plain install runs the main job on CPU: synthetic data, training, sampling, report.
CORE = [
    "absl-py",
    "array_record",
    "chex",
    "diffrax",
    "einops",
    "etils[epath]",
    "flax>=0.12",
    "ftfy",
    "grain>=0.2.18",
    "importlib_resources",  # tensorflow-datasets imports it without declaring it
    "jax>=0.10.2",
    "jaxtyping>=0.3",
    "matplotlib",
    "ml-collections>=1.1",
    "numpy>=2.0",
    "scipy",
    "opencv-python-headless",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12",
    "pillow",
    "rich",
    "safetensors",
    "sentencepiece",
    "tensorflow-datasets>=4.9.10",
    "tokenizers",
]

VIDEO = ["imageio-ffmpeg"]
NOTEBOOK = ["ipykernel", "nbclient", "nbformat"]
TENSORBOARD = ["tensorboardX"]
CONVERT = ["torch>=2.6", "safetensors"]
INT8 = ["qwix"]
CLOUD = ["etils[epath-gcs]", "gcsfs"]

EXTRAS = {
    "tpu": ["jax[tpu]>=0.10.2"],
    "cuda": ["jax[cuda13]>=0.10.2"],
    "cuda12": ["jax[cuda12]>=0.10.2"],
    "cloud": CLOUD,  # runs, checkpoints and caches in gs:// buckets
    "video": VIDEO,  # mp4 writing with a bundled ffmpeg
    "convert": CONVERT,  # reading .pt checkpoints
    "tensorboard": TENSORBOARD,
    "notebook": NOTEBOOK,
    "int8": INT8,  # frozen weights kept in 8 bits
    "hub": ["huggingface_hub"],  # checkpoints by name, hf:owner/name
    "aot": ["libtpu"],  # the TPU compiler, for programs of TPUs that are not there
    # What the ports are compared with.
    "parity": ["torch>=2.6", "diffusers", "transformers", "peft"],
    "test": [
        "beartype",
        "hypothesis",
        "pytest>=8",
        "pytest-xdist",
        "ruff",
        *CLOUD,
        *CONVERT,
        *INT8,
        *NOTEBOOK,
        *TENSORBOARD,
        *VIDEO,
    ],
}

setup(
    name="tavid_jax",
    version=VERSION,
    description="Motion-controlled video models in JAX and Flax: train, sample, evaluate, convert",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    author="The tavid_jax authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["tavid_jax", "tavid_jax.*"]),
    package_data={
        "tavid_jax": ["py.typed", "models/text/captions.model", "bases/*/*.json", "bases/*/*/*"]
    },
    include_package_data=True,
    install_requires=CORE,
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
