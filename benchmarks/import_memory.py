"""Peak host memory of importing a published checkpoint, against its bound.

Makes a Wan checkpoint of the width of 14B in many shards, imports it in a process of its own and
reads that process' peak resident memory. The bound: 1.5 times the largest stacked parameter, and
2 GB for Python, JAX and buffers.

    python benchmarks/import_memory.py [--layers=6] [--shard-mb=128] [--dtype=keep] [--folder=/tmp]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ml_dtypes
import numpy as np

from tavid_jax.models.wan.config import WanConfig
from tavid_jax.weights.exported import save
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.model_json import PRESETS
from tavid_jax.weights.registry import checkpoint_kind
from tavid_jax.weights.table import nest, walk

RATIO, ALLOWANCE = 1.5, 2e9
_CHILD = """
import json, re, sys
from tavid_jax.weights.imported import import_checkpoint
source, folder, dtype = sys.argv[1:]
record = import_checkpoint(source, folder, dtype=dtype)
status = open("/proc/self/status").read()
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024
print(json.dumps({"peak": peak, "bytes": record["bytes"], "weights": record["weights"]}))
"""


def measure(config: WanConfig, folder: Path, shard_bytes: int, dtype: str = "keep") -> dict:
    """Makes, imports and removes a bf16 checkpoint of this config.

    Returns:
      bytes of the source ("source"), its files ("files"), bytes of the largest stacked parameter
      ("largest"), peak resident memory ("peak"), the bound ("bound") and the seconds.
    """
    source, target = folder / "source", folder / "imported"
    files = make(config, source, shard_bytes)
    shapes = dict(walk(checkpoint_kind("wan").shapes(config)))
    item = 4 if dtype == "f32" else 2
    largest = max(leaf.size for leaf in shapes.values()) * item
    try:
        start = time.monotonic()
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, str(source), str(target), dtype],
            capture_output=True,
            text=True,
        )
        if child.returncode:
            raise RuntimeError(f"the import failed: {child.stderr[-2000:]}")
        seconds = time.monotonic() - start
    finally:
        shutil.rmtree(source)
        shutil.rmtree(target, ignore_errors=True)
    return {
        "source": sum(files),
        "files": len(files),
        "largest": largest,
        "bound": RATIO * largest + ALLOWANCE,
        "seconds": seconds,
        **json.loads(child.stdout.splitlines()[-1]),
    }


def make(config: WanConfig, folder: Path, shard_bytes: int) -> list[int]:
    """Writes a bf16 checkpoint in the original naming; the sizes of its weight files."""
    rng = np.random.default_rng(0)
    noise = (0.02 * rng.standard_normal(1 << 20, np.float32)).astype(ml_dtypes.bfloat16)

    def leaf(shape: tuple[int, ...]) -> LazyArray:
        return LazyArray(shape, noise.dtype, lambda: np.resize(noise, shape))

    shapes = walk(checkpoint_kind("wan").shapes(config))
    params = nest({path: leaf(tuple(spec.shape)) for path, spec in shapes})
    files = save("wan", params, config, folder, shard_bytes=shard_bytes)
    return [file.stat().st_size for file in files if file.suffix == ".safetensors"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=6, help="of the width of Wan 14B")
    parser.add_argument("--shard-mb", type=int, default=128)
    parser.add_argument("--dtype", default="keep", choices=("keep", "bf16", "f32"))
    parser.add_argument("--folder", help="where to work (default: the system's temporary folder)")
    args = parser.parse_args()
    config = dataclasses.replace(PRESETS["wan2.1-t2v-14b"], num_layers=args.layers)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        found = measure(config, Path(folder), args.shard_mb * 1_000_000, args.dtype)
    print(f"source        {found['source'] / 1e9:6.2f} GB in {found['files']} files")
    print(f"largest stack {found['largest'] / 1e9:6.2f} GB")
    print(f"peak memory   {found['peak'] / 1e9:6.2f} GB")
    print(f"bound         {found['bound'] / 1e9:6.2f} GB  (1.5 x largest + 2 GB)")
    rate = found["source"] / found["seconds"] / 1e9
    print(f"time          {found['seconds']:6.1f} s   ({rate:.2f} GB/s)")
    if found["peak"] > found["bound"]:
        sys.exit("over the bound")


if __name__ == "__main__":
    main()
