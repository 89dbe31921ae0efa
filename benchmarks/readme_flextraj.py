"""Draws the README's picture of FlexTraj from a finished demo: one unseen scene, steered in rows by
less and less.

python benchmarks/readme_flextraj.py --workdir=runs/flextraj_demo --out=docs/flextraj.webp
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
from tavid_jax.methods.flextraj.evaluation import base_follow
from tavid_jax.methods.flextraj.films import with_points
from tavid_jax.methods.flextraj.variants import control_fields, read_granularities
from tavid_jax.pipelines.following import guide_of, steering_of
from tavid_jax.viz import canvas, media, panels

HEIGHT = 144


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/flextraj_demo", help="a finished run")
    parser.add_argument("--out", default="docs/flextraj.webp")
    parser.add_argument("--scene", type=int, default=7, help="an unseen one")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument(
        "--granularities", nargs="+", default=["dense", "points_5", "frames_3", "unaligned"]
    )
    args = parser.parse_args()

    config = ConfigDict(json.loads(Path(args.workdir, "config.json").read_text()))
    clip = ConfiguredInputs(config, Path(args.workdir)).open("test")[args.scene]
    model, base = tavid_jax.load(args.workdir), tavid_jax.load(config.checkpoint)
    options = {"guidance": config.sampling.options.guidance}
    plain = base.sample(clip.caption, image=clip.video[0], seed=args.seed, **options).frames
    shown = []
    for granularity in read_granularities(config):
        if granularity.name not in args.granularities:
            continue
        fields = control_fields(clip, granularity.of(base_follow(config)), args.seed)
        job = job_of(model, clip, seed=args.seed, **fields)
        guide = guide_of(job, model.published.sampling, [clip.video[0]])
        still = np.repeat(clip.video[:1], len(clip.video), axis=0)
        points = with_points(still, steering_of(job, len(clip.video)), HEIGHT)
        (video,) = model.run([job])
        for label, frames, accent in (
            (granularity.short, points, canvas.THEME.history),
            ("identities", at_height(guide.videos()[0], HEIGHT), None),
            ("FlexTraj", at_height(video.frames, HEIGHT), canvas.THEME.prediction),
            ("no control", at_height(plain, HEIGHT), None),
            ("true clip", at_height(clip.video, HEIGHT), canvas.THEME.truth),
        ):
            shown.append(panels.Panel(label, frames, accent=accent))
    frames = panels.side_by_side(shown, columns=5)
    frames = np.concatenate([frames, np.repeat(frames[-1:], 5, axis=0)])  # the end, a little longer
    film = media.encode_animation(frames, fps=6, max_bytes=400_000)
    media.save(args.out, film)
    size = f"{film.width}x{film.height}, {film.frames} frames, {len(film.data) / 1e3:.0f} kB"
    print(f"{args.out}: {size}")


if __name__ == "__main__":
    main()
