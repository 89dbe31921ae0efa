"""Draws the README's picture of TAViD from a finished demo: unseen scenes, two masks each.

python benchmarks/readme_tavid.py --workdir=runs/tavid_demo --out=docs/tavid.webp
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

import tavid_jax
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.methods.finetune.pages import at_height
from tavid_jax.methods.finetune.samples import job_of
from tavid_jax.methods.tavid.pages import MASKED, OTHER, outlined
from tavid_jax.methods.tavid.variants import lookalike
from tavid_jax.viz import media, panels

HEIGHT = 144


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/tavid_demo", help="a finished run")
    parser.add_argument("--out", default="docs/tavid.webp")
    parser.add_argument("--scenes", type=int, nargs="+", default=[0, 1, 2], help="unseen ones")
    parser.add_argument("--seed", type=int, default=0, help="of the first scene's noise")
    args = parser.parse_args()

    config = ConfigDict(json.loads(Path(args.workdir, "config.json").read_text()))
    source = ConfiguredInputs(config, Path(args.workdir)).open("test")
    clips = [source[i] for i in args.scenes]
    seeds = [args.seed + i for i in args.scenes]
    model, base = tavid_jax.load(args.workdir), tavid_jax.load(config.checkpoint)
    others = [clip.replace(target=lookalike(clip)) for clip in clips]
    films = {}
    for label, pipeline, told in (
        ("this mask", model, clips),
        ("that mask", model, others),
        ("text alone", base, clips),
    ):
        jobs = [job_of(pipeline, c, seed=s) for c, s in zip(told, seeds, strict=True)]
        films[label] = [video.frames for video in pipeline.run(jobs, len(jobs))]
    accents = {"this mask": MASKED, "that mask": OTHER}
    shown = []
    for row, clip in enumerate(clips):
        marked = outlined(clip.video[:1], clip.masks[clip.target - 1], HEIGHT, MASKED)
        marked = outlined(marked, clip.masks[lookalike(clip) - 1], HEIGHT, OTHER)
        shown.append(panels.Panel("image, masks", np.repeat(marked, len(clip.video), axis=0)))
        for label, videos in films.items():
            frames = at_height(videos[row], HEIGHT)
            shown.append(panels.Panel(label, frames, accent=accents.get(label)))
    frames = panels.side_by_side(shown, columns=4)
    frames = np.concatenate([frames, np.repeat(frames[-1:], 5, axis=0)])  # the end, a little longer
    film = media.encode_animation(frames, fps=8, max_bytes=400_000)
    media.save(args.out, film)
    size = f"{film.width}x{film.height}, {film.frames} frames, {len(film.data) / 1e3:.0f} kB"
    print(f"{args.out}: {size}")


if __name__ == "__main__":
    main()
