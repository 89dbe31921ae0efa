"""FVMD, FlowSmoothTV, DivCurlEnergy and VEPE by TrajLoom's published scripts and here: seconds.

    python benchmarks/metrics_vs_original.py --original DIR [--clips 1000]

DIR is the published code, as fetched. Clips of 81 frames on a 15 x 26 grid, random and smooth, with
visibility, are written once in the layout that the scripts read; then each of the three scripts
reads and measures them in a process of its own, and so do we, all four metrics in one. Seconds are
those of whole processes, reading and start included. FVMD as in the paper: windows of 16 frames,
stride 1, masked.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", type=Path, required=True, help="published code's folder")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)  # measure this folder, alone
    return parser.parse_args()


ARGS = parse()
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: ARGS.threads]))
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(ARGS.threads)

os.environ["JAX_PLATFORMS"] = "cpu"  # JAX only says on what this ran

import numpy as np  # noqa: E402

SIZE_HW, STRIDE, FRAMES = (480, 832), 32, 81
GRID_HW = (SIZE_HW[0] // STRIDE, SIZE_HW[1] // STRIDE)
# Script of the original, its options, and {its name of a number: ours}.
SCRIPTS = {
    "compute_fvmd_from_trajectory": (
        ["--clip_len", "16", "--clip_stride", "1", "--use_gt_visibility"],
        {
            "fvmd_tracks_velocity": "fvmd_velocity",
            "fvmd_tracks_acceleration": "fvmd_acceleration",
            "fvmd_tracks_combine": "fvmd",
        },
    ),
    "compute_trajectory_quality_metrics": (
        ["--use_visibility"],
        {"flowsmooth_tv_video_mean": "flow_tv", "divcurl_energy_video_mean": "div_curl_energy"},
    ),
    "compute_vae_recon_metrics": ([], {"vepe_px": "vepe"}),
}


def write_clips(root: Path, count: int) -> None:
    """Forecasts in the layout that both sides read."""
    from tavid_jax.data.forecast_files import ForecastFiles, write_forecast

    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: GRID_HW[0], : GRID_HW[1]]
    query = np.stack([columns, rows], axis=-1).reshape(-1, 2) * STRIDE
    for index in range(count):
        truth = smooth_tracks(rng, query)
        guess = truth + smooth_tracks(rng, query) * 0.1
        forecast = ForecastFiles(
            query_xy=query,
            gt_tracks=truth,
            gt_visibility=smooth_noise(rng, 1)[..., 0] > -1.0,
            pred_tracks=guess.astype(np.float32),
            pred_visibility=smooth_noise(rng, 1)[..., 0] > -1.0,
            pred_probability=None,
            meta={"H": SIZE_HW[0], "W": SIZE_HW[1]},
        )
        write_forecast(root / f"clip_{index:05d}", forecast)


def smooth_tracks(rng: np.random.Generator, query: np.ndarray) -> np.ndarray:
    """(N, T, 2): sums of slow waves, of other speeds at other places."""
    speed = smooth_noise(rng, 2) * rng.uniform(0.2, 4)
    return (query[:, None] + speed.cumsum(axis=1)).astype(np.float32)


def smooth_noise(rng: np.random.Generator, channels: int) -> np.ndarray:
    """(N, T, channels) of about unit size, low frequencies in place and time."""
    t = np.linspace(0, 1, FRAMES)
    y, x = np.mgrid[0 : 1 : GRID_HW[0] * 1j, 0 : 1 : GRID_HW[1] * 1j].reshape(2, -1)
    total = 0.0
    for _ in range(4):
        rate = rng.normal(0, 4, (3, channels))
        phase = x[:, None, None] * rate[0] + y[:, None, None] * rate[1]
        total = total + np.sin(phase + t[:, None] * rate[2] + rng.uniform(0, 6.3, channels))
    return total / np.sqrt(2)


def measure_here(root: Path) -> dict[str, float]:
    """Our four metrics of a folder of forecasts, and the seconds of each."""
    start = time.perf_counter()
    from tavid_jax.data.forecast_files import read_forecasts
    from tavid_jax.metrics import result
    from tavid_jax.metrics.epe import epe
    from tavid_jax.metrics.fvmd import fvmd
    from tavid_jax.metrics.smoothness import div_curl_energy, flow_tv

    clock = {"start": time.perf_counter() - start}

    def timed(name: str, function, *args):
        start = time.perf_counter()
        value = function(*args)
        clock[name] = time.perf_counter() - start
        return value

    def read():
        forecasts = list(read_forecasts(root).values())
        names = ("pred_tracks", "gt_tracks", "gt_visibility")
        return [np.stack([getattr(f, name) for f in forecasts]) for name in names]

    guess, truth, seen = timed("read", read)
    distance = timed("FVMD", fvmd, guess, truth, seen, GRID_HW)
    tv = timed("FlowSmoothTV", flow_tv, guess, seen, GRID_HW, STRIDE)
    energy = timed("DivCurlEnergy", div_curl_energy, guess, seen, GRID_HW, STRIDE)
    error = timed("VEPE", epe, guess, truth, seen)
    values = {k: v for k, v in distance.items() if k.startswith("fvmd")}
    means = {"flow_tv": result.finite_mean(tv), "div_curl_energy": result.finite_mean(energy)}
    return {**values, **means, "vepe": error["epe"], "clock": clock}


def process(command: list[str], **options) -> tuple[float, float, str]:
    """Wall and processor seconds of a process, and what it printed."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, **options)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise SystemExit(done.stderr)
    spent = [after[i] - before[i] for i in (2, 3)]  # children's user and system seconds
    return wall, sum(spent), done.stdout


def main() -> None:
    from timing import environment, table

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_clips(root, ARGS.clips)
        ours = process([sys.executable, *sys.argv, "--here", str(root)])
        here = json.loads(ours[2].splitlines()[-1])
        rows, total = [], np.zeros(2)
        for script, (options, names) in SCRIPTS.items():
            command = [sys.executable, "-B", "-m", f"benchmark.{script}", *options]
            out = root.with_suffix(".json")
            command += ["--runs_root", str(root), "--out_json", str(out)]
            *took, _ = process(command, cwd=ARGS.original)
            found = json.loads(out.read_text())
            out.unlink()
            total += took
            for theirs, mine in names.items():
                error = abs(here[mine] / found[theirs] - 1)
                rows.append([theirs, f"{found[theirs]:.6g}", f"{here[mine]:.6g}", f"{error:.1e}"])
            print(f"{script}: {took[0]:.1f} s, {took[1]:.1f} s of the CPU", flush=True)
    print("here: " + ", ".join(f"{k} {v:.1f} s" for k, v in here["clock"].items()))
    print(f"\n{environment()}, numpy {np.__version__}")
    print(f"{ARGS.clips} clips of {FRAMES} frames on {GRID_HW[0]} x {GRID_HW[1]} points\n")
    speed = [
        [f"{a:.1f} s", f"{b:.1f} s", f"{a / b:.1f}x"] for a, b in zip(total, ours, strict=False)
    ]
    header = ["seconds", "original", "here", "speed"]
    print(table(header, [["wall", *speed[0]], ["of the CPU", *speed[1]]]))
    print("\n" + table(["number", "original", "here", "relative difference"], rows))


if __name__ == "__main__":
    print(json.dumps(measure_here(ARGS.here))) if ARGS.here else main()
