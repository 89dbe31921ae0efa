"""Draws the README's picture from a finished run: two unseen synthetic scenes, one above the other.

python benchmarks/readme_picture.py --workdir=runs/trajloom_demo --out=docs/forecast.webp
"""

import argparse
from pathlib import Path

import numpy as np

import tavid_jax
from tavid_jax.viz import media


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/trajloom_demo", help="a finished run")
    parser.add_argument("--out", default="docs/forecast.webp")
    parser.add_argument(
        "--scenes", type=int, nargs="+", default=[0, 1], help="unseen scenes to draw"
    )
    args = parser.parse_args()

    model = tavid_jax.load(args.workdir)
    forecast = model.sample_scenes(args.scenes)
    rows = [forecast.frames(row) for row in range(len(args.scenes))]
    film = media.encode_animation(
        np.concatenate(rows, axis=1), fps=8, provenance=model.provenance, max_bytes=900_000
    )
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    media.save(args.out, film)
    size = f"{film.width}x{film.height}, {film.frames} frames, {len(film.data) / 1e3:.0f} kB"
    print(f"{args.out}: {size}")


if __name__ == "__main__":
    main()
