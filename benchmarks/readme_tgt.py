"""Draws the README's picture of TGT from a finished demo: an unseen scene, the same with its texts
exchanged, and what the base makes of the words alone.

python benchmarks/readme_tgt.py --workdir=runs/tgt_demo --out=docs/tgt.webp
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

import tavid_jax
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.data.segments import object_tracks
from tavid_jax.methods.tgt.films import with_paths
from tavid_jax.viz import canvas, media, panels

HEIGHT = 144


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/tgt_demo", help="a finished run")
    parser.add_argument("--out", default="docs/tgt.webp")
    parser.add_argument("--scenes", type=int, nargs="+", default=[1, 3], help="unseen ones")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    args = parser.parse_args()

    config = ConfigDict(json.loads(Path(args.workdir, "config.json").read_text()))
    source = ConfiguredInputs(config, Path(args.workdir)).open("test")
    model, base = tavid_jax.load(args.workdir), tavid_jax.load(config.checkpoint)
    shown = []
    for number in args.scenes:
        clip, seed = source[number], args.seed + number
        tracks = object_tracks(clip)
        plain = base.sample(clip.caption, seed=seed)
        video = model.sample(clip.caption, tracks=tracks, seed=seed)
        other = tracks.texts[::-1]
        exchanged = model.sample(clip.caption, tracks=tracks, texts=other, seed=seed)
        for label, frames, accent in (
            ("true clip", clip.video, canvas.THEME.truth),
            ("TGT", video.frames, canvas.THEME.prediction),
            ("exchanged", exchanged.frames, canvas.THEME.prediction),
            ("text alone", plain.frames, None),
        ):
            shown.append(panels.Panel(label, with_paths(frames, tracks, HEIGHT), accent=accent))
    frames = panels.side_by_side(shown, columns=4)
    frames = np.concatenate([frames, np.repeat(frames[-1:], 5, axis=0)])  # the end, a little longer
    film = media.encode_animation(frames, fps=6, max_bytes=400_000)
    media.save(args.out, film)
    size = f"{film.width}x{film.height}, {film.frames} frames, {len(film.data) / 1e3:.0f} kB"
    print(f"{args.out}: {size}")


if __name__ == "__main__":
    main()
