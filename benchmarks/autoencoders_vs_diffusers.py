"""The video autoencoders in diffusers (PyTorch) and here, float32 on the CPU: ratios.

    python benchmarks/autoencoders_vs_diffusers.py [--models wan2.1 cogvideox] [--size 128 128]

Both sides hold the same weights (ported) and read the same inputs; the moments and the pixels are
compared before anything is timed. Both cut the video into the published chunks. Calls alternate
between the two, so that a busy machine hits them alike; medians.
"""

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
MODELS = ("wan2.1", "wan2.2", "cogvideox")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--size", type=int, nargs=2, default=[128, 128], metavar=("H", "W"))
    parser.add_argument(
        "--width", type=float, default=1.0, help="of the published numbers of channels"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help='"cpu" counts the process\'s own seconds, for a busy machine; with --threads 1',
    )
    return parser.parse_args()


ARGS = parse()
if hasattr(os, "sched_setaffinity"):  # read when the libraries make their thread pools
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: ARGS.threads]))
os.environ["JAX_PLATFORMS"] = "cpu"

import diffusers  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from timing import environment, table  # noqa: E402

from tavid_jax import weights  # noqa: E402
from tavid_jax.models.cogvideox.vae.autoencoder import CogVideoXVAE  # noqa: E402
from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig  # noqa: E402
from tavid_jax.models.wan.vae.autoencoder import WanVAE  # noqa: E402
from tavid_jax.models.wan.vae.config import VAE_PRESETS, WanVAEConfig  # noqa: E402


def scaled(name: str, width: float) -> WanVAEConfig | CogVideoXVAEConfig:
    """The published sizes with so many times the channels."""
    if name == "cogvideox":
        config = CogVideoXVAEConfig()
        return dataclasses.replace(config, widths=tuple(int(w * width) for w in config.widths))
    config = VAE_PRESETS[f"{name}-vae"]
    dims = {key: int(getattr(config, key) * width) for key in ("encoder_dim", "decoder_dim")}
    return dataclasses.replace(config, **dims)


def build(name: str, width: float) -> tuple:
    """(diffusers' model, our model, our parameters)."""
    config = scaled(name, width)
    cogvideox = name == "cogvideox"
    family = diffusers.AutoencoderKLCogVideoX if cogvideox else diffusers.AutoencoderKLWan
    content = weights.config_to_json(config)
    theirs = family.from_config({k: v for k, v in content.items() if k[0] != "_"}).eval()
    kind = "cogvideox_vae" if cogvideox else "wan_vae_diffusers"
    params = weights.port(kind, theirs.state_dict(), config)
    return theirs, (CogVideoXVAE if cogvideox else WanVAE)(config), params


def their_calls(theirs, video: np.ndarray, latents: np.ndarray) -> dict[str, Callable]:
    """One encoding and one decoding by diffusers; results channels last."""

    def call(method: Callable, x: np.ndarray) -> Callable:
        x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))

        def run() -> np.ndarray:
            with torch.no_grad():
                return np.moveaxis(method(x).numpy(), 1, -1)

        return run

    return {
        "encode": call(lambda x: theirs.encode(x).latent_dist.mean, video),
        "decode": call(lambda z: theirs.decode(z).sample, latents),
    }


def our_calls(model, params, video: np.ndarray, latents: np.ndarray) -> dict[str, Callable]:
    """The same here, compiled."""

    def call(method: str, x: np.ndarray) -> Callable:
        def apply(params, x):
            result = model.apply({"params": params}, x, method=method)
            return result.mean if method == "encode" else result

        function, x = jax.jit(apply), jax.numpy.asarray(x)
        return lambda: jax.block_until_ready(function(params, x))

    return {"encode": call("encode", video), "decode": call("decode", latents)}


def seconds(calls: dict[str, Callable], repeats: int, clock: Callable) -> dict[str, float]:
    """Median seconds per call, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = clock()
            call()
            taken[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def measure(name: str, args: argparse.Namespace) -> list[list[str]]:
    """Rows of the table for one autoencoder."""
    torch.manual_seed(0)
    theirs, model, params = build(name, args.width)
    config = model.config
    rng = np.random.default_rng(0)
    video = rng.uniform(-1, 1, (1, args.frames, *args.size, 3)).astype(np.float32)
    grid = (1 + (args.frames - 1) // config.stride_t, *(n // config.stride_hw for n in args.size))
    latents = rng.standard_normal((1, *grid, config.latent_channels)).astype(np.float32)
    reference, ours = their_calls(theirs, video, latents), our_calls(model, params, video, latents)
    rows, total = [], {"theirs": 0.0, "ours": 0.0}
    for what in ("encode", "decode"):
        want, got = reference[what](), np.asarray(ours[what]())  # warms both up
        error = float(np.abs(got - want).max() / np.sqrt(np.mean(want**2)))
        calls = {"theirs": reference[what], "ours": ours[what]}
        took = seconds(calls, args.repeats, CLOCKS[args.clock])
        rows.append(row(name, what, took, f"{error:.1e}"))
        total = {side: total[side] + took[side] for side in total}
    return [*rows, row(name, "both", total, "")]


def row(name: str, what: str, took: dict[str, float], error: str) -> list[str]:
    ratio = f"{took['theirs'] / took['ours']:.2f}x"
    return [name, what, f"{took['theirs']:.2f} s", f"{took['ours']:.2f} s", ratio, error]


def main() -> None:
    torch.set_num_threads(ARGS.threads)
    rows = [row for name in ARGS.models for row in measure(name, ARGS)]
    print(
        f"{environment()}, torch {torch.__version__}, diffusers {diffusers.__version__}\n"
        f"{ARGS.frames} frames of {ARGS.size[0]} x {ARGS.size[1]}, {ARGS.width:g} times the "
        f"published channels, {ARGS.clock} time\n"
    )
    print(table(["autoencoder", "what", "diffusers", "here", "speed", "difference"], rows))


if __name__ == "__main__":
    main()
