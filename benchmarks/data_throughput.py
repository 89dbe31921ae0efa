"""Samples per second of the data pipeline, for several numbers of threads and workers.

    python benchmarks/data_throughput.py [--batch=16] [--batches=20]

All settings of one source are measured side by side in one run, in turns, so that what else the
machine does falls on all of them; the table gives each one's median and its ratio to no threads
and no workers. Start-up (of worker processes) is measured apart: time to the first batch.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import grain
import numpy as np
from absl import flags

from tavid_jax.data.folder import open_clips
from tavid_jax.data.pipeline import batches
from tavid_jax.data.records import RecordSource, RecordWriter
from tavid_jax.data.synthetic import SceneConfig, SyntheticSource

SETTINGS = ((0, 0), (1, 0), (2, 0), (1, 1), (1, 2))  # (threads, workers)


def prepare(clip, rng):
    """What TrajLoom needs of a clip: tracks and visibility; and the frames."""
    del rng
    return {"tracks": clip.tracks, "visibility": clip.visibility, "video": clip.video}


def as_is(example, rng):
    """Cached examples need nothing."""
    del rng
    return example


def video_folder(folder: Path, count: int) -> Path:
    """Writes small videos of drifting noise."""
    rng = np.random.default_rng(0)
    for i in range(count):
        noise = cv2.GaussianBlur(rng.integers(0, 255, (360, 480, 3)).astype(np.uint8), (0, 0), 3)
        writer = cv2.VideoWriter(
            str(folder / f"{i}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 24.0, (320, 240)
        )
        for t in range(68):
            writer.write(np.ascontiguousarray(noise[t : t + 240, 2 * t : 2 * t + 320]))
        writer.release()
    return folder


def sources(folder: Path, clips: str):
    """Yields (name, source, prepare) of everything that is measured."""
    config = SceneConfig(render=True)
    scenes = SyntheticSource(config, range(256))
    yield f"synthetic scenes, rendered {config.num_frames}x64x64", scenes, prepare
    with RecordWriter(folder / "cache") as writer:
        rng = np.random.default_rng(0)
        for i in range(2048):
            latents = rng.normal(size=(5, 64, 16)).astype(np.float32)
            writer.write({"id": str(i), "history": latents, "future": latents})
    yield "cached latents 2x5x64x16 (ArrayRecord)", RecordSource(folder / "cache"), as_is
    settings = dict(size_hw=(64, 64), num_frames=34, stride=8, origin="center", keep_mb=0)
    (folder / "videos").mkdir()
    paths = clips or video_folder(folder / "videos", 3)
    kept = open_clips(paths, cache_dir=folder / "tracks", **settings)
    for i in range(len(kept)):
        kept[i]
    yield f"{len(kept)} video windows, frames and tracks cached", kept, prepare
    lean = open_clips(paths, cache_dir=folder / "lean", cache_frames_mb=0, **settings)
    for i in range(len(lean)):
        lean[i]
    yield f"{len(lean)} video windows, decoded, tracks cached", lean, prepare


def measure(source, prepare_fn, batch: int, count: int, threads: int, workers: int):
    """(seconds to the first batch, samples per second after it)."""
    start = time.perf_counter()
    feed = batches(source, prepare_fn, batch_size=batch, seed=0, threads=threads, workers=workers)
    next(feed)
    first = time.perf_counter() - start
    for _ in range(2 * threads * max(workers, 1) + 2 * workers):
        next(feed)  # made ahead while nobody looked: not counted
    start = time.perf_counter()
    for _ in range(count):
        next(feed)
    rate = batch * count / (time.perf_counter() - start)
    feed.close()
    return first, rate


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=10, help="timed batches a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--clips", default="", help="real videos instead of generated ones")
    args = parser.parse_args()
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}, "
        f"OpenCV {cv2.__version__}, Grain {grain.__version__}; batch {args.batch}, "
        f"{args.batches} batches x {args.turns} turns\n"
    )
    print("| source | threads | workers | samples/s | ratio | first batch s |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, source, prepare_fn in sources(Path(folder), args.clips):
            turns = [
                [measure(source, prepare_fn, args.batch, args.batches, *s) for s in SETTINGS]
                for _ in range(args.turns)
            ]
            base = statistics.median(turn[0][1] for turn in turns)
            for i, (threads, workers) in enumerate(SETTINGS):
                first = statistics.median(turn[i][0] for turn in turns)
                rate = statistics.median(turn[i][1] for turn in turns)
                print(
                    f"| {name} | {threads} | {workers} | {rate:,.0f} | {rate / base:.2f} "
                    f"| {first:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
