"""Forecasts and reconstructions of every clip of every data set, by every method; it goes on where
it stopped.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax import __version__
from tavid_jax.data.forecast_files import ForecastFiles, write_forecast
from tavid_jax.data.video import read_video
from tavid_jax.engine.telemetry import Progress
from tavid_jax.tracks.coordinates import in_bounds
from tavid_jax.tracks.forecasting import Predictor
from tavid_jax.trajloombench import outputs
from tavid_jax.trajloombench.datasets import BenchClip, Dataset, Example, load, open_datasets
from tavid_jax.trajloombench.methods import DOPRI5, EULER_10, Method, Solver
from tavid_jax.trajloombench.outputs import FORECAST, RECONSTRUCTION, Folder
from tavid_jax.trajloombench.protocol import BenchError, Protocol


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be evaluated.

    Attributes:
      datasets: folder of data sets, see `datasets`.
      out: where outputs go.
      methods: what is compared.
      protocol: sizes and horizons.
      solvers: of methods that integrate a flow.
      seeds: of the noise; every clip starts from the same noise, as in the released script.
      only: names of data sets; () = all.
      limit: the first clips of each data set, None = all.
      captions: whether methods are given the captions of the data sets.
      reconstructions: whether autoencoders are evaluated too.
    """

    datasets: str | os.PathLike
    out: str | os.PathLike
    methods: tuple[Method, ...]
    protocol: Protocol = Protocol()
    solvers: tuple[Solver, ...] = (EULER_10, DOPRI5)
    seeds: tuple[int, ...] = (42,)
    only: tuple[str, ...] = ()
    limit: int | None = None
    captions: bool = True
    reconstructions: bool = True

    def solvers_of(self, method: Method) -> tuple[Solver | None, ...]:
        """What a method is run with."""
        return self.solvers if method.integrates else (None,)

    def seeds_of(self, method: Method) -> tuple[int, ...]:
        """A method without a solver makes no noise: one seed stands for all."""
        return self.seeds if method.integrates else self.seeds[:1]


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """What was done.

    Attributes:
      made, kept: clips that were made now, and those that were there.
      skipped: (video, reason) of the data sets.
    """

    made: int
    kept: int
    skipped: tuple[tuple[str, str], ...]


def evaluate(job: Job) -> Evaluated:
    """Makes all outputs that are not there; see `outputs` for where they lie.

    Raises:
      BenchError: see `open_datasets` and `outputs.begin`; a method that cannot be opened, or that
        refuses a clip.
    """
    data = open_datasets(job.datasets, job.protocol, job.only, job.captions)
    clips = {one.name: one.clips[: job.limit] for one in data}
    passes = sum(len(job.solvers_of(method)) for method in job.methods)
    work = _Work(job, passes * sum(map(len, clips.values())))
    for method in job.methods:
        for number, solver in enumerate(job.solvers_of(method)):
            predictor = method.open(solver)
            for one in data:
                vae = job.reconstructions and number == 0
                work.go_through(method, solver, predictor, one, clips[one.name], vae)
            del predictor  # its weights, before the next one's come
    skipped = tuple(item for one in data for item in one.skipped)
    return Evaluated(work.made, work.kept, skipped)


class _Work:
    """Counts what is done."""

    def __init__(self, job: Job, total: int):
        self._job, self._total, self._progress = job, total, Progress("clips", total)
        self.made = self.kept = self._done = 0

    def go_through(
        self,
        method: Method,
        solver: Solver | None,
        predictor: Predictor,
        data: Dataset,
        clips: Sequence[BenchClip],
        vae: bool,
    ) -> None:
        """One data set by one method, solved in one way."""
        job = self._job
        folders = [
            _begin(job, method, predictor, data, solver, frames, seed)
            for seed in job.seeds_of(method)
            for frames in sorted(job.protocol.horizons, reverse=True)
        ]
        decoder = None
        for clip in clips:
            wanted = [folder for folder in folders if not outputs.is_done(folder, clip.name)]
            example = None
            if wanted:
                example = load(clip, job.protocol, method.video)
                for folder, files in _forecasts(method, predictor, example, clip, wanted, job):
                    write_forecast(folder.path / clip.name, files)
            if vae:
                decoder = self._reconstruct(method, predictor, data, clip, example, decoder)
                vae = decoder is not None
            self.made += len(wanted)
            self.kept += len(folders) - len(wanted)
            self._done += 1
            how = f"{method.label}, {solver}" if solver else method.label
            text = f"| {how} on {data.heading}: {clip.name}"
            self._progress.show(self._done, text, last=self._done == self._total)

    def _reconstruct(
        self,
        method: Method,
        predictor: Predictor,
        data: Dataset,
        clip: BenchClip,
        example: Example | None,
        folder: Folder | None,
    ) -> Folder | None:
        """The future window through the autoencoder; None if there is no autoencoder."""
        job = self._job
        if folder is None:
            facts = _facts(job, method, predictor, data, job.protocol.future)
            folder = outputs.folder_of(job.out, RECONSTRUCTION, facts)
        if outputs.is_done(folder, clip.name):
            outputs.begin(folder)
            self.kept += 1
            return folder
        example = example or load(clip, job.protocol, video=False)
        try:
            decoded = _reconstructed(predictor, clip, example, job.protocol)
        except ValueError as error:
            raise BenchError(f"{method.label} on {data.name}/{clip.name}: {error}") from error
        if decoded is None:
            return None
        outputs.begin(folder)
        seen = in_bounds(decoded, job.protocol.size_hw)
        facts = {**_meta(clip, example, job.protocol), "baseline": "vae_reconstruction"}
        files = _files(example, decoded, seen, None, facts)
        write_forecast(folder.path / clip.name, files)
        self.made += 1
        return folder


def _reconstructed(
    predictor: Predictor, clip: BenchClip, example: Example, protocol: Protocol
) -> np.ndarray | None:
    """The future window; autoencoders that look at its first frame, as WHN's, are shown it."""
    sees = "picture" in inspect.signature(predictor.reconstruct).parameters
    if not sees or clip.video is None:
        return predictor.reconstruct(example.future)
    frame = read_video(clip.video, [protocol.history], size_hw=protocol.size_hw, resize="squash")
    return predictor.reconstruct(example.future, picture=frame[0])


def _begin(
    job: Job,
    method: Method,
    predictor: Predictor,
    data: Dataset,
    solver: Solver | None,
    frames: int,
    seed: int,
) -> Folder:
    facts = _facts(job, method, predictor, data, frames)
    made_with = {"solver": str(solver or ""), "seed": seed, "captions": job.captions}
    folder = outputs.folder_of(job.out, FORECAST, {**facts, **made_with})
    outputs.begin(folder)
    return folder


def _facts(
    job: Job, method: Method, predictor: Predictor, data: Dataset, frames: int
) -> dict[str, Any]:
    return {
        "method": method.label,
        "path": method.path,
        "predictor": predictor.name,
        "predictor_facts": dict(predictor.facts),
        "dataset": data.name,
        "dataset_fingerprint": data.fingerprint,
        "tracker": data.tracker,
        "frames": frames,
        "protocol": job.protocol.describe(),
        "version": __version__,
    }


def _forecasts(
    method: Method,
    predictor: Predictor,
    example: Example,
    clip: BenchClip,
    wanted: Sequence[Folder],
    job: Job,
) -> Iterator[tuple[Folder, ForecastFiles]]:
    """Files of one clip for every folder that lacks it; the longest is cut where that may be."""
    cache: dict[int | None, Any] = {}
    for folder in wanted:
        if not (method.prefix and folder.seed in cache):
            try:
                cache[folder.seed] = predictor.predict(
                    example.past, folder.frames, samples=1, seed=folder.seed
                )
            except ValueError as error:
                where = f"{method.label} on {folder.dataset}/{clip.name}"
                raise BenchError(f"{where}: {error}") from error
        future, cut = cache[folder.seed], slice(0, folder.frames)
        probability = None if future.probability is None else future.probability[0][:, cut]
        facts = {
            **_meta(clip, example, job.protocol),
            "solver": folder.solver.partition("-")[0],
            "steps": int(folder.solver.partition("-")[2] or 0),
            "noise_seed": folder.seed,
            "caption": clip.caption,
            "predictor": predictor.name,
        }
        tracks, seen = future.tracks[0][:, cut], future.visible[0][:, cut]
        yield folder, _files(example, tracks, seen, probability, facts)


def _files(
    example: Example,
    tracks: np.ndarray,
    seen: np.ndarray,
    probability: np.ndarray | None,
    facts: Mapping[str, Any],
) -> ForecastFiles:
    frames = tracks.shape[1]
    return ForecastFiles(
        query_xy=np.rint(example.full.query_xy).astype(np.int64),
        gt_tracks=example.future[:, :frames],
        gt_visibility=example.future_visible[:, :frames],
        pred_tracks=np.asarray(tracks, np.float32),
        pred_visibility=seen,
        pred_probability=probability,
        meta=dict(facts),
    )


def _meta(clip: BenchClip, example: Example, protocol: Protocol) -> dict[str, Any]:
    """What TrajLoom's meta.json says of where clip and past come from."""
    height, width = protocol.size_hw
    history, total = protocol.history, protocol.frames
    return {
        "video_path": str(Path(clip.video).absolute()) if clip.video else "",
        "H": height,
        "W": width,
        "cond_index": history,
        "hist_len": history,
        "future_len": protocol.future,
        "use_overlap": False,
        "save_offset": 0,
        "gt_meta": {
            "path": str(Path(clip.tracks).absolute()),
            "gt_coord_mode": "pixel",
            "gt_swap_xy": False,
            "gt_grid_origin_used": protocol.origin,
            "gt_time0_used": 0,
            "gt_hist_slice": [0, history],
            "gt_fut_slice": [history, total],
            "gt_eval_slice": [history, total],
        },
    }
