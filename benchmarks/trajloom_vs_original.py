"""Forecasting 81 frames with TrajLoom's published PyTorch code and here: seconds and memory.

    python benchmarks/trajloom_vs_original.py --original DIR [--samples 1 4] [--depth 16]

DIR is the published code, as fetched. History to forecast at the released size (16 + 16 blocks of
the VAE, 16 of the flow, 480 x 832, a track per 32 pixels): encode, Euler steps, decode, visibility,
read at the query pixels; float32 on the CPU. Both sides hold the same random weights (exported) and
read the same tracks, video features, text and noise; their outputs are compared. Features of video
and text are given: the autoencoder and the text encoder that make them are outside. Of several
samples of one clip, both sides encode the history once; the original draws one after another, or
all as one batch (--batched), whichever is faster (the first, on two cores).

`--depth 2` cuts all three stacks, for a look at what a pair of blocks takes. Memory is that of a
process of its own for each side: the highest resident size after the weights are loaded, less the
size then; ours includes compilation.
"""

import argparse
import ctypes
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", type=Path, required=True, help="published code's folder")
    parser.add_argument(
        "--samples", type=int, nargs="+", default=[1, 4], help="forecasts of a clip"
    )
    parser.add_argument("--depth", type=int, default=16, help="blocks of each of the three stacks")
    parser.add_argument("--steps", type=int, default=10, help="Euler steps")
    parser.add_argument("--repeats", type=int, default=1, help="runs; the fastest counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batched", action="store_true", help="the original's samples as a batch")
    parser.add_argument("--no-memory", action="store_true", help="measure seconds alone")
    parser.add_argument("--side", choices=["original", "here"], help=argparse.SUPPRESS)
    return parser.parse_args()


ARGS = parse()
if hasattr(os, "sched_setaffinity"):  # read when the libraries make their thread pools
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: ARGS.threads]))
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import numpy as np  # noqa: E402
from timing import environment, mib, table  # noqa: E402

from tavid_jax import weights  # noqa: E402
from tavid_jax.methods.trajloom.examples import Geometry  # noqa: E402
from tavid_jax.methods.trajloom.flow import FlowLosses, draw_source  # noqa: E402
from tavid_jax.methods.trajloom.forecaster import Forecaster, Sampling  # noqa: E402
from tavid_jax.methods.trajloom.settings import Settings  # noqa: E402
from tavid_jax.methods.trajloom.vae import VAELosses  # noqa: E402
from tavid_jax.methods.trajloom.visibility import VisibilityLosses  # noqa: E402
from tavid_jax.models.latte.flow import TrackFlow, TrackFlowConfig  # noqa: E402
from tavid_jax.models.latte.vae import TrackVAE, TrackVAEConfig  # noqa: E402
from tavid_jax.models.latte.visibility import VisibilityConfig, VisibilityHead  # noqa: E402
from tavid_jax.weights.registry import checkpoint_kind  # noqa: E402

PHASES = ("encode", "integrate", "decode")


def settings(depth: int) -> Settings:
    """The released sizes, with so many blocks."""
    return Settings(
        geometry=Geometry((480, 832), 32, "topleft", 81),
        vae=TrackVAE(TrackVAEConfig(encoder_depth=depth, decoder_depth=depth)),
        flow=TrackFlow(TrackFlowConfig(depth=depth)),
        visibility=VisibilityHead(VisibilityConfig()),
        vae_losses=VAELosses(),
        flow_losses=FlowLosses(),
        visibility_losses=VisibilityLosses(),
    )


def random_params(s: Settings) -> dict:
    """Noise in every tensor, of a size that keeps activations near one; nothing is zero."""
    rng = np.random.default_rng(0)
    kinds = {"vae": s.vae.config, "flow": s.flow.config, "visibility": s.visibility.config}

    def fill(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = rng.standard_normal(shape.shape, np.float32)
        name = path[-1].key
        if name == "kernel":
            return noise / np.sqrt(np.prod(shape.shape[1:-1] or shape.shape[:1]))
        return 1 + 0.3 * noise if name == "scale" else 0.3 * noise

    params = {
        name: jax.tree_util.tree_map_with_path(
            fill, checkpoint_kind(f"trajloom_{name}").shapes(config)
        )
        for name, config in kinds.items()
    }
    for leaf in params["vae"]["final_layer"].values():
        leaf *= 0.05  # tracks that stay near where they start, mostly inside the frame
    mean, std = 0.1 * rng.standard_normal((2, s.vae.config.latent_channels), np.float32)
    params["statistics"] = {"all": {"mean": mean, "std": 1 + std}}
    return params


def inputs(s: Settings) -> dict[str, np.ndarray]:
    """One clip: smooth tracks from the query grid, features of video and text."""
    rng = np.random.default_rng(1)
    (gh, gw), g = s.geometry.grid_hw, s.geometry
    start = np.stack(np.meshgrid(np.arange(gw), np.arange(gh)), axis=-1) * float(g.stride)
    speed = rng.normal(0, 1, (gh, gw, 2))
    tracks = start + np.arange(g.frames)[:, None, None, None] * speed
    latent = (1, g.latent_frames, g.num_tokens)
    return {
        "history_tracks": tracks[None].astype(np.float32),
        "history_visibility": np.ones((1, g.frames, gh, gw), bool),
        "video": rng.standard_normal((*latent, s.flow.config.video_channels), np.float32),
        "text": rng.standard_normal((1, s.flow.config.text_dim), np.float32),
    }


class Here:
    """Our phases, each compiled before it is timed."""

    def __init__(self, s: Settings, params: dict):
        sampling = Sampling(steps=ARGS.steps, history_visibility="zeros")
        self.settings, self.forecaster = s, Forecaster(s, params, sampling)
        self.compile_seconds, self.temp_bytes, self._ready = 0.0, 0, {}

    def phase(self, name: str, count: int, *args, **options):
        """A compiled phase of the forecaster on its arguments."""
        if (name, count) not in self._ready:
            start = time.perf_counter()
            lowered = self.forecaster._compiled[name].lower(*args, **options)
            self._ready[name, count] = lowered.compile()
            self.compile_seconds += time.perf_counter() - start
            memory = self._ready[name, count].memory_analysis()
            self.temp_bytes = max(self.temp_bytes, memory.temp_size_in_bytes)
        return lambda: jax.block_until_ready(self._ready[name, count](*args))

    def run(self, given: dict, count: int, timed: Callable) -> dict[str, np.ndarray]:
        params, rng = self.forecaster.params, jax.random.key(0)
        prepared = timed("encode", self.phase("prepare", 1, params, given))
        keys = jax.random.split(rng, (1, count))
        options = dict(solver="euler", steps=ARGS.steps)
        integrate = self.phase("integrate", count, params, prepared, keys, **options)
        latents = timed("integrate", integrate)
        decode = self.phase("decode", count, params, prepared.history, latents)
        forecast = timed("decode", decode)
        return {
            "history": np.asarray(prepared.history),
            "latents": np.asarray(latents[0]),
            "tracks": np.asarray(forecast.tracks[0]),
            "probability": np.asarray(forecast.probability[0]),
            "visible": np.asarray(forecast.visible[0]),
        }

    def sources(self, history: np.ndarray, count: int) -> np.ndarray:
        """The noise that `run` starts from, (K, L, N, C)."""
        keys = jax.random.split(jax.random.key(0), (1, count))[0]
        repeated = np.repeat(np.asarray(history), count, axis=0)
        return np.asarray(draw_source(keys, repeated, self.settings.flow_losses))


def original(s: Settings, params: dict):
    """The published modules with our weights."""
    import torch
    from trajloom_vs_original_modules import Original

    torch.set_num_threads(ARGS.threads)
    states = {
        name: weights.export(f"trajloom_{name}", params[name], getattr(s, name).config)
        for name in ("vae", "flow", "visibility")
    }
    table_of = params["statistics"]["all"]
    return Original(ARGS.original, (ARGS.depth,) * 3, states, (table_of["mean"], table_of["std"]))


def run_original(theirs, s: Settings, given: dict, sources: Callable, timed: Callable) -> dict:
    """The same forecast by the published code."""
    tracks = given["history_tracks"][0].reshape(s.geometry.frames, -1, 2).swapaxes(0, 1).copy()
    history = timed("encode", lambda: theirs.encode(tracks))
    noise = sources(history.numpy())
    latents = timed(
        "integrate",
        lambda: theirs.integrate(
            history, given["video"], given["text"], noise, ARGS.steps, ARGS.batched
        ),
    )
    tracks, visible, chance = timed("decode", lambda: theirs.decode(latents))
    cells = (len(noise), s.geometry.frames, *s.geometry.grid_hw)
    return {
        "history": history.numpy(),
        "latents": latents.numpy(),
        "tracks": tracks.reshape(*cells, 2),
        "probability": chance.reshape(cells),
        "visible": visible.reshape(cells),
    }


def stopwatch(record: dict[str, tuple[float, float]]) -> Callable:
    """timed(name, call): runs it and keeps the fastest (wall, processor) seconds."""

    def timed(name: str, call: Callable):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        took = (time.perf_counter() - wall, time.process_time() - cpu)
        record[name] = min(took, record.get(name, took))
        print(f"  {name}: {took[0]:.2f} s", file=sys.stderr, flush=True)
        return result

    return timed


def seconds(count: int, s: Settings, here: Here, theirs, given: dict) -> list[list[str]]:
    """Rows of the table for one number of samples; the sides take turns."""
    ours, others = {}, {}
    for _ in range(ARGS.repeats):
        print(f"{count} samples, here", file=sys.stderr)
        got = here.run(given, count, stopwatch(ours))
        print(f"{count} samples, original", file=sys.stderr)
        noise = lambda history: here.sources(history, count)  # noqa: E731
        want = run_original(theirs, s, given, noise, stopwatch(others))
    for record in (ours, others):
        record["all"] = tuple(sum(record[phase][i] for phase in PHASES) for i in (0, 1))
    errors = {
        "encode": _difference(got["history"], want["history"]),
        "integrate": _difference(got["latents"], want["latents"]),
        "decode": f"{np.abs(got['tracks'] - want['tracks']).max():.1e} px, probability "
        f"{np.abs(got['probability'] - want['probability']).max():.1e}, "
        f"{np.mean(got['visible'] != want['visible']):.1%} flags",
    }
    return [
        [
            str(count),
            phase,
            f"{others[phase][0]:.2f} s",
            f"{ours[phase][0]:.2f} s",
            f"{others[phase][0] / ours[phase][0]:.2f}x",
            f"{others[phase][1] / ours[phase][1]:.2f}x",
            errors.get(phase, ""),
        ]
        for phase in (*PHASES, "all")
    ]


def _difference(got: np.ndarray, want: np.ndarray) -> str:
    return f"{np.abs(got - want).max() / np.sqrt(np.mean(np.square(want))):.1e}"


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def memory_of_side(side: str) -> None:
    """Prints what one side takes beyond its weights, as JSON; for a process of its own."""
    s = settings(ARGS.depth)
    params, given, count = random_params(s), inputs(s), ARGS.samples[0]
    if side == "here":
        runner = Here(s, params)
        jax.block_until_ready(runner.forecaster.params)
    else:
        theirs = original(s, params)
        history = np.zeros((1, s.geometry.latent_frames, s.geometry.num_tokens, 16), np.float32)
        noise = Here.sources(argparse.Namespace(settings=s), history, count)
    del params
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed while loading goes back to the system
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    start, quiet = resident(), lambda name, call: call()
    if side == "here":
        runner.run(given, count, quiet)
    else:
        run_original(theirs, s, given, lambda _: noise, quiet)
    status = Path("/proc/self/status").read_text().split()
    peak = int(status[status.index("VmHWM:") + 1]) * 1024
    counted = runner.temp_bytes if side == "here" else 0
    print(json.dumps({"weights": start, "peak": peak - start, "counted": counted}))


def memory(count: int) -> list[list[str]]:
    """Rows of the table of memory for one number of samples."""
    found = {}
    for side in ("original", "here"):
        # One step: its peak is that of all.
        options = ["--side", side, "--samples", str(count), "--steps", "1"]
        done = subprocess.run(
            [sys.executable, *sys.argv, *options], capture_output=True, text=True, check=True
        )
        found[side] = json.loads(done.stdout.splitlines()[-1])
    first = found["original"]["peak"]
    return [
        [
            str(count),
            side,
            mib(values["weights"]),
            mib(values["peak"]),
            f"{values['peak'] / first:.2f}",
            mib(values["counted"]) if values["counted"] else "",
        ]
        for side, values in found.items()
    ]


def main() -> None:
    import torch

    s = settings(ARGS.depth)
    params, given = random_params(s), inputs(s)
    theirs = original(s, params)
    here = Here(s, params)
    del params
    rows = [row for count in ARGS.samples for row in seconds(count, s, here, theirs, given)]
    form = "as one batch" if ARGS.batched else "one after another"
    print(f"{environment()}, torch {torch.__version__}")
    print(
        f"{ARGS.depth} blocks in each of three stacks, {ARGS.steps} Euler steps; the original's "
        f"samples {form}; ours compiled in {here.compile_seconds:.0f} s\n"
    )
    header = ["samples", "phase", "original", "here", "speed", "by CPU's time", "difference"]
    print(table(header, rows))
    if not ARGS.no_memory:
        header = ["samples", "side", "loaded", "beyond it", "of the original's", "counted by XLA"]
        print("\n" + table(header, [row for count in ARGS.samples for row in memory(count)]))


if __name__ == "__main__":
    memory_of_side(ARGS.side) if ARGS.side else main()
