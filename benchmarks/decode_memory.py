"""Peak memory of decoding a long video whole, in chunks of frames, and in tiles as well.

    python benchmarks/decode_memory.py [--models wan2.1 cogvideox] [--frames 81] [--size 128 128]

Per row: what XLA counts for the compiled program (parameters, latents, pixels, temporaries), and
by how much the resident memory of a process of its own grows at most while it runs. With --counted
nothing is run, so any size can be asked for.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from timing import environment, mib, table  # noqa: E402

from tavid_jax.models.cogvideox.vae import config as cogvideox  # noqa: E402
from tavid_jax.models.cogvideox.vae.autoencoder import CogVideoXVAE  # noqa: E402
from tavid_jax.models.layers.tiling import Tiles  # noqa: E402
from tavid_jax.models.wan.vae import config as wan  # noqa: E402
from tavid_jax.models.wan.vae.autoencoder import WanVAE  # noqa: E402

MODELS = ("wan2.1", "wan2.2", "cogvideox")
WAYS = ("whole", "chunks", "chunks, tiles")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["wan2.1", "cogvideox"], choices=MODELS)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--size", type=int, nargs=2, default=[128, 128], metavar=("H", "W"))
    parser.add_argument("--tile", type=int, nargs=2, default=[64, 64], metavar=("H", "W"))
    parser.add_argument(
        "--width", type=float, default=0.25, help="of the published numbers of channels"
    )
    parser.add_argument("--counted", action="store_true", help="XLA's count alone")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "WAY"), help=argparse.SUPPRESS)
    return parser.parse_args()


def autoencoder(name: str, width: float) -> WanVAE | CogVideoXVAE:
    """The published one with so many times the channels."""
    if name == "cogvideox":
        config = cogvideox.CogVideoXVAEConfig()
        widths = tuple(int(w * width) for w in config.widths)
        return CogVideoXVAE(dataclasses.replace(config, widths=widths))
    config = wan.VAE_PRESETS[f"{name}-vae"]
    dims = {key: int(getattr(config, key) * width) for key in ("encoder_dim", "decoder_dim")}
    return WanVAE(dataclasses.replace(config, **dims))


def decode_one(args: argparse.Namespace) -> dict[str, int]:
    """Bytes of one way to decode, in this process: "counted" and, if it is run, "resident"."""
    name, way = args.one
    model = autoencoder(name, args.width)
    stride = model.config.stride_hw
    frames = 1 + (args.frames - 1) // model.config.stride_t
    grid = (1, frames, *(n // stride for n in args.size), model.config.latent_channels)
    tile = tuple(args.tile)
    options = {
        "whole": {"chunk": frames},
        "chunks": {},
        "chunks, tiles": {"tiles": Tiles(tile, tuple(3 * n // 4 // stride * stride for n in tile))},
    }
    latents = jnp.zeros(grid)
    if args.counted:
        shapes = jax.eval_shape(
            lambda key: model.init(key, latents, method="decode"), jax.random.key(0)
        )
        params = shapes["params"]
    else:
        initialise = jax.jit(lambda key: model.init(key, latents[:, :1, :2, :2], method="decode"))
        params = jax.block_until_ready(initialise(jax.random.key(0)))["params"]

    def decode(params, latents):
        return model.apply({"params": params}, latents, method="decode", **options[way])

    program = jax.jit(decode).lower(params, latents).compile()
    memory = program.memory_analysis()
    counted = memory.argument_size_in_bytes + memory.output_size_in_bytes
    found = {"counted": counted + memory.temp_size_in_bytes}
    if not args.counted:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of compiling
        before = status("VmRSS")
        jax.block_until_ready(program(params, latents))
        found["resident"] = status("VmHWM") - before
    return found


def status(field: str) -> int:
    """Bytes of this process, from Linux."""
    line = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line[1]) * 1024


def in_a_process(name: str, way: str) -> dict[str, int]:
    """`decode_one` in a process of its own: peaks do not go down again."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", name, way]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])


def measure(name: str, counted: bool) -> list[list[str]]:
    """Rows of the table for one autoencoder."""
    found = {way: in_a_process(name, way) for way in WAYS}
    rows = []
    for way in WAYS:
        times = found["whole"]["counted"] / found[way]["counted"]
        cells = [name, way, mib(found[way]["counted"]), f"{times:.1f}x less"]
        if not counted:
            grown, whole = found[way]["resident"], found["whole"]["resident"]
            cells += [mib(grown), f"{whole / grown:.1f}x less"]
        rows.append(cells)
    return rows


def main() -> None:
    args = parse()
    if args.one:
        print(json.dumps(decode_one(args)))
        return
    rows = [row for name in args.models for row in measure(name, args.counted)]
    print(
        f"{environment()}\n{args.frames} frames of {args.size[0]} x {args.size[1]}, tiles of "
        f"{args.tile[0]} x {args.tile[1]}, {args.width:g} times the published channels, float32\n"
    )
    header = ["autoencoder", "decoded", "counted by XLA", "against whole"]
    print(table(header + ([] if args.counted else ["resident", "against whole"]), rows))


if __name__ == "__main__":
    main()
