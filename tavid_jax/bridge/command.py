"""The future of a video: its tracks are forecast by TrajLoom, its frames made by Wan-Move.

    python -m tavid_jax.bridge street.mp4 --forecast TrajLoom --model wan-move-14b-480p \\
        --checkpoint Wan-Move-14B-480P --prompt "Cars drive by." --out future

The last frames of the video, as many as the forecast is given (81 of TrajLoom's released weights),
are tracked; the last one is the image that goes on, along the tracks seen in it and the forecast
behind. --align reproduction begins with the true frame behind the past instead.

The tracks may be changed on the way: by a file of edits (--edits), tracks drawn by hand
(--add drag.json, of `python -m tavid_jax.data drag`), or by anything that writes files of tracks:

    python -m tavid_jax.bridge street.mp4 --forecast TrajLoom --save-tracks tracks.npz
    python -m tavid_jax.bridge street.mp4 --tracks tracks.npz --model ... --prompt ...

(with the same options of the past). A file of edits is

    {"edits": [{"what": "delete", "region": [0, 0, 400, 480]},      x0, y0, x1, y1 px of the image
               {"what": "move", "by": [60, -20], "region": [450, 100, 600, 300]},
               {"what": "scale", "by": 1.5}]}                       and "still", "keep"

--forecast is a folder of released weights or of a finished run (FOLDER@VARIANT), stand_still,
constant_velocity, or module:function. Written are NAME.mp4, NAME_tracks.npz, NAME_bridge.mp4 (past,
tracks and video side by side) and NAME.json with all that they depend on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from tavid_jax import __version__
from tavid_jax.bridge import page
from tavid_jax.bridge.alignment import (
    ALIGNMENTS,
    CAUSAL,
    MOST,
    aligned,
    chosen,
    forecast_frames,
    joined,
)
from tavid_jax.bridge.history import History, Window, read_history
from tavid_jax.data.cache import write_whole
from tavid_jax.data.edit_files import read_edits
from tavid_jax.data.trajectory_files import read_trajectories, write_trajectories
from tavid_jax.pipelines import options
from tavid_jax.pipelines.follow_options import add_move, move_fields
from tavid_jax.pipelines.jobs import Job
from tavid_jax.pipelines.memory import SMALLEST, Memory
from tavid_jax.pipelines.moving import check_reads_image
from tavid_jax.pipelines.opening import open_pipeline
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.tracks.edits import edited
from tavid_jax.tracks.forecasting import Predictor
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.trajloombench.methods import read_method, read_solver
from tavid_jax.viz import media
from tavid_jax.viz.media import check_mp4

INTERRUPTED = "interrupted; files that were written are whole"


def main(argv: Sequence[str] | None = None) -> int:
    """Makes tracks and video; returns the exit code."""
    args = _parser().parse_args(argv)
    return options.run_command(lambda: _run(args), INTERRUPTED)


def _run(args: argparse.Namespace) -> int:
    started = time.perf_counter()
    _check(args)
    out = Path(args.out)
    pipeline = None if args.save_tracks else _pipeline(args, out)
    frames = args.frames or (81 if pipeline is None else pipeline.published.sampling.frames)
    predictor = None if args.tracks else _predictor(args)
    history = _history(args, predictor)
    tracks, facts = _tracks(args, history, predictor, frames)
    facts = {"tavid_jax": __version__, "history": history.facts, **facts}
    if pipeline is None:
        write_trajectories(args.save_tracks, tracks)
        logging.info("%s: %d tracks; go on by --tracks", args.save_tracks, tracks.num_points)
        return 0
    write_trajectories(out / f"{args.name}_tracks.npz", tracks)
    job = _job(args, history, tracks, frames)
    (video,) = pipeline.run([job])
    facts |= {"seconds": round(time.perf_counter() - started, 1)}
    video = dataclasses.replace(video, provenance={**video.provenance, "bridge": facts})
    video.save(out / f"{args.name}.mp4")
    moved = video.guide.trajectories if video.guide else tracks
    shown = page.animation(history.image, moved, video.frames, history.past)
    film = media.encode_animation(
        shown, history.fps, format="mp4", provenance=video.provenance, hold_last=0.0
    )
    media.save(out / f"{args.name}_bridge.mp4", film)
    card = json.dumps(video.provenance, indent=1, default=str) + "\n"
    write_whole(out / f"{args.name}.json", card.encode())
    logging.info("%s.mp4 after %.0f s", out / args.name, time.perf_counter() - started)
    return 0


# ---- the parts ------------------------------------------------------------------------------


def _check(args: argparse.Namespace) -> None:
    """What is wrong with the options, before anything is opened."""
    if bool(args.forecast) == bool(args.tracks):
        raise ValueError("give either --forecast, what forecasts the tracks, or --tracks, a file")
    if args.save_tracks:
        _check_free([Path(args.save_tracks)], args)
        return
    if not args.model or not args.prompt:
        raise ValueError(
            "give --model and --prompt of the video, or --save-tracks to stop at its tracks"
        )
    options.check_folder(Path(args.out))
    files = [Path(args.out) / f"{args.name}{end}" for end in (".mp4", "_bridge.mp4", ".json")]
    _check_free(files, args)
    check_mp4()


def _check_free(files: Sequence[Path], args: argparse.Namespace) -> None:
    there = [file for file in files if file.exists()]
    if there and not args.overwrite:
        raise ValueError(f"{there[0]} exists already: choose another name or give --overwrite")


def _pipeline(args: argparse.Namespace, out: Path) -> Pipeline:
    """The model of the video, opened; one that reads no image by channels is refused."""
    memory = (
        SMALLEST
        if args.smallest
        else Memory(
            keep=args.keep,
            encoders_on="cpu" if args.encoders_on_cpu else "device",
            tiles=args.tiles,
        )
    )
    pipeline = open_pipeline(
        args.model,
        args.checkpoint,
        parts=options.parts(args),
        dtype=args.dtype,
        memory=memory,
        mesh=options.mesh(args),
        negative_prompt=args.negative_prompt,
        strict=not args.any_size,
    )
    sampling = pipeline.published.sampling.changed(_sampling(args))
    check_reads_image(pipeline.backbone(sampling, has_image=True))
    if pipeline.published.move is None and move_fields(args) is None:
        raise ValueError(
            f"{args.model} was not trained to move its image along tracks: use wan-move-14b-480p, "
            "or try it by --move"
        )
    out.mkdir(parents=True, exist_ok=True)
    return pipeline


def _predictor(args: argparse.Namespace) -> Predictor:
    encoders = args.checkpoint if args.encoders is None else args.encoders or None
    method = read_method(f"forecast={args.forecast}", encoders)
    return method.open(read_solver(args.solver))


def _history(args: argparse.Namespace, predictor: Predictor | None) -> History:
    known = _window(predictor)
    given = {
        "size_hw": args.history_size,
        "stride": args.stride,
        "origin": args.origin,
        "frames": args.history,
    }
    window = dataclasses.replace(known, **{k: v for k, v in given.items() if v is not None})
    return read_history(
        args.video,
        window,
        args.align,
        tracks=args.history_tracks,
        start=args.start,
        fps=args.fps,
        caption=args.caption or args.prompt or "",
        tracked=predictor is not None,
    )


def _window(predictor: Predictor | None) -> Window:
    """What a TrajLoom was made for; others take any past: that of TrajLoom's released weights."""
    g = getattr(getattr(getattr(predictor, "forecaster", None), "settings", None), "geometry", None)
    if g is None:
        return Window()
    return Window(tuple(g.size_hw), g.stride, g.origin, g.frames)


def _tracks(
    args: argparse.Namespace, history: History, predictor: Predictor | None, frames: int
) -> tuple[Trajectories, dict[str, Any]]:
    """The tracks of the video, in pixels of its image, and what they depend on."""
    if predictor is None:
        found = read_trajectories(args.tracks, size_hw=history.image_hw, rescale=bool(args.rescale))
        facts: dict[str, Any] = {"tracks": {"file": Path(args.tracks).name}}
    else:
        found = _forecast(args, history, predictor, frames)
        facts = {"forecast": {"name": predictor.name, "seed": args.seed, **predictor.facts}}
    if found.num_frames != frames:
        raise ValueError(
            f"tracks have {found.num_frames} frames, the video {frames}: give tracks of so many, "
            f"or make a video of theirs (--frames {found.num_frames})"
        )
    count, kept = found.num_points, chosen(found, args.most)
    facts["points"] = {"found": count, "in_image": int(found.visibility[:, 0].sum())}
    if args.edits:
        edits = read_edits(args.edits, kept.size_hw)
        kept = chosen(edited(kept, edits), args.most)
        facts["edits"] = [dataclasses.asdict(edit) for edit in edits]
    for path in args.add:
        more = read_trajectories(
            path, size_hw=history.image_hw, frames=frames, rescale=bool(args.rescale)
        )
        kept = joined(more, kept)  # what is drawn by hand wins where tracks meet
        facts.setdefault("added", []).append({"file": Path(path).name, "points": more.num_points})
    facts["points"]["used"] = kept.num_points
    logging.info("%d of %d tracks move the image", kept.num_points, count)
    return kept, facts


def _forecast(
    args: argparse.Namespace, history: History, predictor: Predictor, frames: int
) -> Trajectories:
    needed = forecast_frames(frames, args.align)
    most = getattr(predictor, "frames", None)
    if most is not None and needed > most:
        longest = most + (args.align == CAUSAL)
        raise ValueError(
            f"a video of {frames} frames needs a forecast of {needed}, {predictor.name} gives "
            f"{most}: make a shorter one, --frames {(longest - 1) // 4 * 4 + 1}"
        )
    logging.info("forecast of %d tracks, %d frames", len(history.past.tracks), needed)
    future = predictor.predict(history.past, needed, seed=args.seed)
    return aligned(history.past, future, args.align, history.image_hw)


def _job(args: argparse.Namespace, history: History, tracks: Trajectories, frames: int) -> Job:
    fields: dict[str, Any] = {
        "prompt": args.prompt,
        "image": history.image,
        "tracks": tracks,
        "move": move_fields(args),
        "seed": args.seed,
        "name": args.name,
        "frames": frames,
        "fps": history.fps,
        **_sampling(args),
    }
    return Job.of(fields)


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    names = ("size_hw", "frames", "sampler", "steps", "guidance", "shift")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


# ---- options --------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.bridge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("video", help="whose last frames are the past: a file, or a folder")
    _add_past(parser.add_argument_group("the past"))
    _add_tracks(parser.add_argument_group("the tracks"))
    made = parser.add_argument_group("the video (default: as published)")
    made.add_argument("--model", help="wan-move-14b-480p, a folder trained here, or with --move "
                      "any Wan image-to-video by channels")  # fmt: skip
    made.add_argument("--checkpoint", help="of a published model: its folder, or hf:owner/name")
    made.add_argument("--prompt")
    made.add_argument("--negative-prompt", default="", help="what guidance leads away from")
    made.add_argument("--size-hw", type=options.size_hw, metavar="HxW")
    made.add_argument("--frames", type=int, help="4k + 1, as many as the tracks have")
    made.add_argument("--sampler", help="unipc or euler")
    made.add_argument("--steps", type=int)
    made.add_argument("--guidance", type=float)
    made.add_argument("--shift", type=float)
    made.add_argument("--seed", type=int, default=0, help="of forecast and video (default: 0)")
    made.add_argument("--out", default="videos", help="folder (default: %(default)s)")
    made.add_argument("--name", default="future", help="of the files (default: %(default)s)")
    made.add_argument("--overwrite", action="store_true", help="replace files that are there")
    add_move(parser)
    options.add_running(parser)
    options.add_memory(parser)
    return parser


def _add_past(past: Any) -> None:
    past.add_argument(
        "--align",
        choices=ALIGNMENTS,
        default=CAUSAL,
        help="begin with the last frame that was seen, or (for measurements) with the true one "
        "behind it (default: %(default)s)",
    )
    past.add_argument("--start", type=int, help="its first frame (default: so that it ends last)")
    past.add_argument("--fps", type=float, help="read the video at this rate; of the result too")
    past.add_argument(
        "--history-tracks",
        metavar="NPZ",
        help="of the whole video, in TrajLoom's layout (default: by optical flow)",
    )
    past.add_argument("--caption", help="of the past, for the forecast (default: --prompt)")
    for name, kind, text in (
        ("--history", int, "frames"),
        ("--history-size", options.size_hw, "HxW px that it is cut and resized to"),
        ("--stride", int, "px from track to track"),
        ("--origin", str, "topleft or center: where in its cell a track starts"),
    ):
        past.add_argument(name, type=kind, help=f"{text} (default: what the forecast is made for)")


def _add_tracks(tracks: Any) -> None:
    tracks.add_argument("--forecast", metavar="PATH", help="what forecasts them")
    tracks.add_argument(
        "--encoders",
        metavar="WAN",
        help="checkpoint of a Wan 2.1 by which released weights read video and caption (default: "
        '--checkpoint; "" = without both)',
    )
    tracks.add_argument("--solver", default="euler-10", help="of it (default: %(default)s), dopri5")
    tracks.add_argument(
        "--most",
        type=int,
        default=MOST,
        help="tracks that are used, spread evenly (default: %(default)s)",
    )
    tracks.add_argument("--edits", metavar="JSON", help="changes of them")
    tracks.add_argument(
        "--add",
        metavar="FILE",
        action="append",
        default=[],
        help="further tracks on the image, over the others; may be repeated",
    )
    tracks.add_argument("--save-tracks", metavar="FILE", help="stop when they are written there")
    tracks.add_argument("--tracks", metavar="FILE", help="go on from such a file, no forecast")
