"""Drawing a clip's points: all at once against point by point, and on the device.

    python benchmarks/rasteriser.py [--points 4900] [--frames 49]

The peer stamps the visible points of a frame one after the other, in the order of their depth, by
assignments to slices of a numpy array. All draw the same pixels (asserted); they take turns. The
CPU's own time is what counts on a machine that others use too.
"""

import argparse
import time

import numpy as np
from timing import environment, table

from tavid_jax.tracks import stamps, stamps_device


def point_by_point(tracks, visibility, colours, size_hw, stamp, depth):
    """One slice assignment for each visible point and frame."""
    height, width = size_hw
    half_w, half_h = stamp
    video = np.zeros((tracks.shape[1], height, width, 3), np.uint8)
    for t in range(tracks.shape[1]):
        frame = video[t]
        for n in np.argsort(depth[:, t], kind="stable"):
            if not visibility[n, t]:
                continue
            x, y = tracks[n, t]
            left, right = max(int(x - half_w), 0), min(int(x + half_w), width)
            top, bottom = max(int(y - half_h), 0), min(int(y + half_h), height)
            if left < right and top < bottom:
                frame[top:bottom, left:right] = colours[n]
    return video


def scene(args: argparse.Namespace):
    """Points that drift over the frame, all of them visible."""
    rng = np.random.default_rng(0)
    size = (args.width, args.height)
    start, end = rng.uniform(0, size, (2, args.points, 1, 2))
    tracks = start + (end - start) * np.linspace(0, 0.5, args.frames)[:, None]
    shape = (args.points, args.frames)
    return {
        "tracks": tracks.astype(np.float32),
        "visibility": np.ones(shape, bool),
        "colours": rng.integers(1, 256, (args.points, 3)).astype(np.uint8),
        "size_hw": (args.height, args.width),
        "stamp": stamps.released_stamp(args.points),
        "depth": rng.random(shape).astype(np.float32),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=4900)
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=720)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    given = scene(args)
    programs = {
        "point by point": lambda: point_by_point(**given),
        "all at once, numpy": lambda: stamps.draw(**given),
        "all at once, device": lambda: stamps_device.draw(**given).block_until_ready(),
    }
    videos = [np.asarray(draw()) for draw in programs.values()]
    if not all(np.array_equal(videos[0], video) for video in videos[1:]):
        raise SystemExit("the pictures differ")
    seconds = {name: [] for name in programs}
    for _ in range(args.repeats):
        for name, draw in programs.items():
            start = time.perf_counter(), time.process_time()
            draw()
            end = time.perf_counter(), time.process_time()
            seconds[name].append(np.subtract(end, start))
    median = {name: np.median(values, axis=0) for name, values in seconds.items()}
    print(f"{environment()}, numpy {np.__version__}; {vars(args)}\n")
    first = median["point by point"]
    rows = [
        [name, *(f"{1000 * s:.0f} ms" for s in both), *(f"{r:.1f}x" for r in first / both)]
        for name, both in median.items()
    ]
    print(table(["drawing", "a clip", "of the CPU", "speed", "by the CPU's time"], rows))


if __name__ == "__main__":
    main()
