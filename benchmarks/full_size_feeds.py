"""Feeds of full-size examples for a chip that is only slept for; see data_wait.py."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import math
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import timing

from tavid_jax.data.clip import Clip
from tavid_jax.data.folder import open_clips
from tavid_jax.data.pipeline import batches
from tavid_jax.data.plan import Plan
from tavid_jax.data.records import RecordSource, RecordWriter
from tavid_jax.data.shards import write_shards
from tavid_jax.data.video import read_video
from tavid_jax.engine.method import Method, Spec
from tavid_jax.methods.finetune import flops as counting
from tavid_jax.methods.registry import make_system
from tavid_jax.models.layers.flops import Work
from tavid_jax.parallel.mesh import make_mesh, to_global
from tavid_jax.parallel.peaks import TERA, peak_flops

CHIPS = {"v5e": "TPU v5e", "v5p": "TPU v5p", "v6e": "TPU v6e", "h200": "NVIDIA H200"}
# Not counted: threads have to read ahead first.
SETTLING = 2
POINTS = 4900  # of FlexTraj's dense tracks, 70x70
HEAD = ["feed", "examples a step", "MB a step", "step s", "steps", "data wait", "cores busy"]


@dataclasses.dataclass(frozen=True)
class Simulated:
    """One host's chips, or some of them.

    Attributes:
      flops: per second, of all of them at the share of their peak that is reached.
      chips: how many.
    """

    flops: float
    chips: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the feeds."""
    parser.add_argument("--feeds", default="", help=f"of {', '.join(FEEDS)}, or all; '' for none")
    parser.add_argument("--chip", default="v5p", choices=CHIPS, help="that is simulated")
    parser.add_argument(
        "--chips", type=int, default=1, help="of one host; what its cores do grows with them"
    )
    parser.add_argument("--mfu", type=float, default=0.4, help="share of its peak that is reached")
    parser.add_argument("--threads", type=int, default=2, help="that prepare batches")
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare batches")
    parser.add_argument("--seconds", type=float, default=60.0, help="of every feed, about")


def run(args: argparse.Namespace) -> None:
    """Measures the feeds that are asked for, and prints them."""
    names = list(FEEDS) if args.feeds == "all" else [n for n in args.feeds.split(",") if n]
    unknown = sorted(set(names) - set(FEEDS))
    if unknown:
        raise SystemExit(f"no feed {unknown[0]!r}; there are {', '.join(FEEDS)}")
    if not names:
        return
    peak = peak_flops(CHIPS[args.chip])
    host = Simulated(peak * args.mfu * args.chips, args.chips)
    print(
        f"\none host with {args.chips} x {args.chip} at {100 * args.mfu:.0f} % of "
        f"{peak / TERA:.0f} TFLOP/s; {args.threads} threads, {args.workers} workers\n"
    )
    print(timing.table(HEAD, []), flush=True)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            row = FEEDS[name](Path(folder), host, args)
        print(f"| {name} | {' | '.join(row)} |", flush=True)


def method_of(config_name: str, preset: str, stage: str, **changes: Any) -> tuple[Method, Any]:
    """The method of a published preset's stage, and the stage."""
    config = importlib.import_module(f"configs.{config_name}").get_config(preset)
    for key, value in changes.items():
        config[key] = value
    return make_system(config).method(stage), config.stages[stage]


def slept_through(
    source: Any, prepare: Callable, rows: int, seconds: float, args: argparse.Namespace
) -> list[str]:
    """Feeds steps of so many seconds, as the training loop does: a batch is asked for when the
    step before it is on its way."""
    mesh = make_mesh(devices=jax.devices()[:1])
    count = max(5, math.ceil(args.seconds / seconds))
    feed = batches(
        source, prepare, batch_size=rows, seed=0, threads=args.threads, workers=args.workers
    )
    waited, size, busy = 0.0, 0, 0.0
    for step in range(SETTLING + count):
        if step == SETTLING:
            waited, began, busy = 0.0, time.perf_counter(), cpu_seconds()
        asked = time.perf_counter()
        arrays = to_global(next(feed).arrays, mesh)  # which goes on while the step runs
        waited += time.perf_counter() - asked
        size = sum(x.nbytes for x in arrays.values())
        time.sleep(seconds)
    whole = time.perf_counter() - began
    cores = (cpu_seconds() - busy) / whole
    feed.close()
    return told(rows, size, seconds, count, waited / whole, cores)


def told(rows: int, size: int, seconds: float, count: int, share: float, cores: float) -> list[str]:
    """A row of the table, without its name."""
    numbers = [f"{rows}", f"{size / 1e6:.0f}", f"{seconds:.2f}", f"{count}"]
    return [*numbers, f"{100 * share:.2f} %", f"{cores:.2f}"]


def cpu_seconds() -> float:
    """Of this process; of its workers, those that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def random_example(spec: dict[str, Spec], rng: np.random.Generator) -> dict[str, Any]:
    """Noise does not compress: the worst that a cache can hold."""
    example = {}
    for name, one in spec.items():
        if np.issubdtype(one.dtype, np.integer):
            example[name] = np.zeros(one.shape, one.dtype)
        else:
            example[name] = rng.standard_normal(one.shape, np.float32).astype(one.dtype)
    return example


def cached(folder: Path, examples: Iterator[dict[str, Any]]) -> RecordSource:
    """An ArrayRecord of examples, as encode stages leave them."""
    with RecordWriter(folder / "cache") as writer:
        for number, example in enumerate(examples):
            writer.write({"id": str(number), **example})
    return RecordSource(folder / "cache")


def latents(folder: Path, host: Simulated, args: argparse.Namespace) -> list[str]:
    """Wan 2.1 14B, 81x480x832, adapters: latents and text features from ArrayRecord."""
    method, _ = method_of("finetune", "wan2_1_14b_lora", "finetune")
    rng = np.random.default_rng(0)
    source = cached(folder, (random_example(method.encoded_spec(), rng) for _ in range(16)))
    rows = host.chips
    return slept_through(source, method.recall, rows, method.flops(rows) / host.flops, args)


def trajectories(folder: Path, host: Simulated, args: argparse.Namespace) -> list[str]:
    """TGT's dense stage at 14B: the same, and 20 to 40 of 400 trajectories drawn in every step."""
    method, _ = method_of("tgt", "paper", "dense")
    rng = np.random.default_rng(0)
    keep, spec = method.keep, method.cached_spec()
    frames, (height, width) = 81, method.backbone.geometry.size_hw
    room, dim = keep.room, spec["text"].shape[1]

    def one() -> dict[str, Any]:
        places = rng.uniform((0, 0), (width, height), (400, frames, 2)).astype(np.float32)
        return random_example(spec, rng) | {
            "path_places": places,
            "path_seen": rng.random((400, frames)) > 0.2,
            "path_object": rng.integers(0, 6, 400).astype(np.int32),
            "path_area": rng.integers(100, 10_000, 400),
            "path_text": rng.integers(0, 6, 400).astype(np.int32),
            "phrases": rng.standard_normal((6, room, dim), np.float32).astype(spec["text"].dtype),
            "phrase_lengths": rng.integers(2, room, 6).astype(np.int32),
        }

    source, rows = cached(folder, (one() for _ in range(16))), host.chips
    return slept_through(source, method.recall, rows, method.flops(rows) / host.flops, args)


def tracks(folder: Path, host: Simulated, args: argparse.Namespace) -> list[str]:
    """TrajLoom's flow, 81 + 81 frames: latents, features of the video and of the caption; the
    smallest steps that there are at full size."""
    method, stage = method_of("trajloom", "paper", "flow")
    rng = np.random.default_rng(0)
    source = cached(folder, (random_example(method.encoded_spec(), rng) for _ in range(64)))
    rows = 8 * host.chips
    return slept_through(source, method.recall, rows, method.flops(rows) / host.flops, args)


class Videos:
    """Videos of a size as clips with tracks: frames are decoded, tracks are there."""

    name = "videos"

    def __init__(self, folder: Path, count: int, frames: int, size_hw: tuple[int, int]):
        self.paths = write_videos(folder, count, frames, size_hw)
        self.size_hw, rng = size_hw, np.random.default_rng(1)
        start = rng.uniform((0, 0), size_hw[::-1], (POINTS, 1, 2))
        drift = rng.normal(0, 2, (POINTS, 1, 2)) * np.arange(frames)[None, :, None]
        self.tracks = (start + drift).astype(np.float32)
        self.visibility = rng.random((POINTS, frames)) > 0.2
        rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
        self.masks = ((rows // 120 == 1) & (columns // 120 == 2))[None]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Clip:
        return Clip(
            id=f"video{index}",
            size_hw=self.size_hw,
            fps=16.0,
            video=read_video(self.paths[index]),
            tracks=self.tracks,
            visibility=self.visibility,
            masks=self.masks,
            caption="Waves of noise drift to the left.",
        )


def write_videos(folder: Path, count: int, frames: int, size_hw: tuple[int, int]) -> list[Path]:
    """Drifting clouds, mp4."""
    rng, (height, width) = np.random.default_rng(0), size_hw
    paths = []
    for number in range(count):
        size = (height + frames, width + 2 * frames, 3)
        noise = cv2.GaussianBlur(rng.integers(0, 255, size).astype(np.uint8), (0, 0), 3)
        path = folder / f"video{number}.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 16.0, (width, height))
        for t in range(frames):
            writer.write(np.ascontiguousarray(noise[t : t + height, 2 * t : 2 * t + width]))
        writer.release()
        path.with_suffix(".txt").write_text("Waves of noise drift to the left.")
        paths.append(path)
    return paths


def condition_videos(folder: Path, host: Simulated, args: argparse.Namespace) -> list[str]:
    """FlexTraj on CogVideoX-5B, 49x480x720: videos decoded, two condition videos drawn of 4900
    points for each, all three encoded in the step."""
    method, stage = method_of("flextraj", "paper", "sparse")
    geometry = method.backbone.geometry
    source = Videos(folder, 8, geometry.frames, tuple(geometry.size_hw))
    rows = host.chips
    seconds = method.flops(rows, encode=True) / host.flops
    return slept_through(source, WithWords(method), rows, seconds, args)


class WithWords:
    """`prepare` without a tokenizer's file: ids of a caption are zeros, drawn in no time anyway."""

    def __init__(self, method: Method):
        self.controls, self.mixture = method.controls, method.schedule.at(0)

    def __call__(self, clip: Clip, rng: np.random.Generator) -> dict[str, Any]:
        made = self.controls(clip, self.mixture, rng)
        videos = np.stack([made.ids, made.colours])
        return {"id": clip.id, "video": clip.video, "control_videos": videos}


class SleepingEncoder:
    """In the place of the encoders: waits for the next clip, then as long as the chips take."""

    def __init__(self, spec: dict[str, Spec], seconds: float):
        self.seconds, self.waited, self.slept = seconds, 0.0, 0.0
        self.example = random_example(spec, np.random.default_rng(0))

    def facts(self) -> dict[str, Any]:
        """None that matter."""
        return {}

    def shared(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def examples(self, captions: Any, clips: Iterator[Clip]) -> Iterator[dict[str, Any]]:
        """One for each clip; the first ones, that nobody could read ahead, are not counted."""
        for number in range(len(captions)):
            asked = time.perf_counter()
            clip = next(clips)
            if number >= SETTLING:
                self.waited += time.perf_counter() - asked
                self.slept += self.seconds
            assert clip.video.ndim == 4
            time.sleep(self.seconds)
            yield self.example


def encoding(folder: Path, host: Simulated, args: argparse.Namespace) -> list[str]:
    """The encode stage of Wan 2.1, 81x480x832: videos decoded, encoded, written into shards."""
    method, _ = method_of("finetune", "wan2_1_14b_lora", "finetune")
    geometry = method.backbone.geometry
    work = Work()
    counting.videos(work, method, 1)
    seconds = work.flops / host.flops  # chips share the clips
    count = SETTLING + max(5, math.ceil(args.seconds / seconds))
    videos = folder / "videos"
    videos.mkdir()
    first, *rest = write_videos(videos, 1, geometry.frames, tuple(geometry.size_hw))
    for number in range(1, count):
        for suffix in (".mp4", ".txt"):
            name = videos / f"video{number}{suffix}"
            name.write_bytes(first.with_suffix(suffix).read_bytes())
    clips = open_clips(
        str(videos),
        size_hw=tuple(geometry.size_hw),
        num_frames=geometry.frames,
        track=False,
        cache_frames_mb=0,
        keep_mb=0,
    )
    encoder = SleepingEncoder(method.cached_spec(), seconds)
    plan = Plan.of(clips, encoder.facts())
    busy = cpu_seconds()
    began = time.perf_counter()
    write_shards(folder / "cache", plan, clips, encoder)
    whole = time.perf_counter() - began
    share = encoder.waited / (encoder.waited + encoder.slept)
    size = geometry.frames * math.prod(geometry.size_hw) * 3
    return told(1, size, seconds, count, share, (cpu_seconds() - busy) / whole)


#: name -> what measures it
FEEDS: dict[str, Callable[[Path, Simulated, argparse.Namespace], list[str]]] = {
    "latents": latents,
    "trajectories": trajectories,
    "tracks": tracks,
    "encoding": encoding,
    "condition_videos": condition_videos,
}
