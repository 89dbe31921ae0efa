"""Forecasts of clips as TrajLoom's runner leaves them: one folder per clip, read and written.

    query_xy.npy              int64 (N, 2), (x, y) px
    grid_idx.npy              int64 (N,), y * W + x
    gt_tracks.npy             float32 (T, N, 2) px
    gt_visibility.npy         uint8 (T, N)
    pred_tracks.npy           float32 (T, N, 2) px
    pred_visibility.npy       uint8 (T, N)
    pred_visibility_prob.npy  float16 (T, N), where the forecast has one
    meta.json                 frame size, windows, solver, and all else that is known

Tracks in the files are time-major, here point-major as everywhere. A point that is not finite, or
outside of 0 <= x <= W - 1, 0 <= y <= H - 1, is written as unseen. What is read is as the files say,
so that metrics of a folder are those of TrajLoom's scripts, whoever wrote it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tavid_jax.data.official import TrackFile, write_tracks
from tavid_jax.data.video import natural_key
from tavid_jax.tracks.coordinates import in_bounds
from tavid_jax.tracks.grid import pixel_index, row_major_order
from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.names import inside
from tavid_jax.untrusted.npy import float32, load_npy
from tavid_jax.untrusted.texts import read_json

META = "meta.json"
PROBABILITY = "pred_visibility_prob.npy"
FULL_TRACKS = "gt_full.npz"  # where the official renderer looks for the history
_LARGEST_SIDE = 2**20  # px
_ARRAYS = ("query_xy", "gt_tracks", "gt_visibility", "pred_tracks", "pred_visibility")


class ForecastFileError(ValueError):
    """A forecast's folder cannot be used; the message names the file and what is wrong."""


@dataclasses.dataclass(frozen=True, eq=False)
class ForecastFiles:
    """One forecast of one clip beside what was tracked: N points of a grid, row-major, T frames.

    Attributes:
      query_xy: (N, 2) whole pixels (x, y) at which the points were seeded in the first frame.
      gt_tracks, pred_tracks: (N, T, 2), (x, y) px of `size_hw`; pixel centres at integers.
      gt_visibility, pred_visibility: (N, T); written, only points inside of the frame are seen.
      pred_probability: (N, T) of being visible, None where the forecast has no such thing.
      meta: JSON-able facts; at least the frame's "H" and "W".
    """

    query_xy: Int[np.ndarray, "N 2"]
    gt_tracks: Float[np.ndarray, "N T 2"]
    gt_visibility: Bool[np.ndarray, "N T"]
    pred_tracks: Float[np.ndarray, "N T 2"]
    pred_visibility: Bool[np.ndarray, "N T"]
    pred_probability: Float[np.ndarray, "N T"] | None
    meta: Mapping[str, Any]

    @property
    def size_hw(self) -> tuple[int, int]:
        """(H, W) that the pixels refer to."""
        return int(self.meta["H"]), int(self.meta["W"])

    @property
    def grid_hw(self) -> tuple[int, int]:
        """(gh, gw) points."""
        return len(np.unique(self.query_xy[:, 1])), len(np.unique(self.query_xy[:, 0]))

    @property
    def frames(self) -> int:
        """T."""
        return self.gt_tracks.shape[1]


def write_forecast(
    folder: str | os.PathLike, forecast: ForecastFiles, full: TrackFile | None = None
) -> Path:
    """Writes a clip's folder, all files or none; TrajLoom's scripts and `read_forecast` read it.

    An earlier forecast there is replaced; files of other names are kept.

    Args:
      folder: to be created, with the folders above it.
      forecast: what to write. The meta is completed by what follows from the arrays.
      full: tracks of the clip's past and future; they let the official renderer draw the past.

    Raises:
      ForecastFileError: arrays that do not fit together, or points that are no grid.
      OSError: the folder cannot be written.
    """
    folder = Path(folder)
    arrays = _checked(folder, _time_major(forecast), forecast.meta)
    meta = {**_derived_meta(arrays, forecast.size_hw), **forecast.meta}
    seen = {name: _seen(arrays, name, forecast.size_hw) for name in ("gt", "pred")}
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        os.chmod(fresh, 0o755)
        np.save(fresh / "query_xy.npy", arrays["query_xy"].astype(np.int64))
        np.save(fresh / "grid_idx.npy", pixel_index(arrays["query_xy"], forecast.size_hw[1]))
        for name, visible in seen.items():
            np.save(fresh / f"{name}_tracks.npy", arrays[f"{name}_tracks"].astype(np.float32))
            np.save(fresh / f"{name}_visibility.npy", visible.astype(np.uint8))
        if "probability" in arrays:
            np.save(fresh / PROBABILITY, arrays["probability"].astype(np.float16))
        if full is not None:
            write_tracks(fresh / FULL_TRACKS, full)
        text = json.dumps(meta, indent=2, default=str)
        (fresh / META).write_text(text + "\n", encoding="utf-8")
        _put(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def write_forecasts(
    root: str | os.PathLike,
    name: str,
    forecasts: Sequence[ForecastFiles],
    full: TrackFile | None = None,
) -> list[Path]:
    """Writes samples of one clip: the first in `root/name`, sample k in `root_k/name`.

    So each root holds one forecast of each clip, as benchmarks want it.
    """
    root = Path(root)
    with reading(root, ForecastFileError, "a folder of forecasts"):
        inside(root, name)
    roots = [root if k == 0 else root.with_name(f"{root.name}_{k}") for k in range(len(forecasts))]
    return [
        write_forecast(base / name, forecast, full)
        for base, forecast in zip(roots, forecasts, strict=True)
    ]


def read_forecast(folder: str | os.PathLike) -> ForecastFiles:
    """Reads one clip's folder, whoever wrote it. Points come out in row-major order.

    Raises:
      ForecastFileError: a missing or damaged file, shapes that disagree, points that are no grid,
        or a grid_idx.npy of other points.
    """
    folder = Path(folder)
    meta = _read_meta(folder)
    arrays = {name: _load(folder / f"{name}.npy") for name in _ARRAYS}
    if (folder / PROBABILITY).exists():
        arrays["probability"] = _load(folder / PROBABILITY)
    arrays = _checked(folder, arrays, meta)
    size_hw = int(meta["H"]), int(meta["W"])
    query_xy = np.rint(arrays["query_xy"]).astype(np.int64)
    if (folder / "grid_idx.npy").exists():
        index = _load(folder / "grid_idx.npy")
        if not np.array_equal(index, pixel_index(query_xy, size_hw[1])):
            raise ForecastFileError(
                f"{folder}: grid_idx.npy is not y * {size_hw[1]} + x of query_xy.npy: one of the "
                "two, or the width in meta.json, is of another grid"
            )
    order, _ = row_major_order(query_xy)

    def points(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.swapaxes(array, 0, 1)[order])

    probability = arrays.get("probability")
    return ForecastFiles(
        query_xy=query_xy[order],
        gt_tracks=points(float32(arrays["gt_tracks"])),
        gt_visibility=points(arrays["gt_visibility"] != 0),
        pred_tracks=points(float32(arrays["pred_tracks"])),
        pred_visibility=points(arrays["pred_visibility"] != 0),
        pred_probability=None if probability is None else points(float32(probability)),
        meta=meta,
    )


def read_forecasts(root: str | os.PathLike) -> dict[str, ForecastFiles]:
    """Every clip's folder below `root`, {name relative to root: forecast}, in natural order.

    Raises:
      ForecastFileError: see `read_forecast`; no forecast there, or clips of different frame sizes,
        grids or lengths.
    """
    root = Path(root)
    if not root.is_dir():
        raise ForecastFileError(f"{root} is no folder of forecasts")
    files = sorted(root.rglob("pred_tracks.npy"), key=lambda p: natural_key(str(p)))
    folders = [p.parent for p in files if not _is_hidden(p.parent.relative_to(root))]
    if not folders:
        raise ForecastFileError(f"{root}: no folder below it holds a pred_tracks.npy")
    forecasts = {str(folder.relative_to(root)): read_forecast(folder) for folder in folders}
    (first, reference), *others = forecasts.items()
    for name, forecast in others:
        for what in ("size_hw", "grid_hw", "frames"):
            here, there = getattr(forecast, what), getattr(reference, what)
            if here != there:
                raise ForecastFileError(
                    f"{root}: {name} has {what} {here}, but {first} has {there}: evaluate them in "
                    "folders of their own"
                )
        if not np.array_equal(forecast.query_xy, reference.query_xy):
            raise ForecastFileError(f"{root}: the points of {name} are other ones than {first}'s")
    return forecasts


def _is_hidden(folder: Path) -> bool:
    """Whether it is part of a write that was killed."""
    return any(part.startswith(".") for part in folder.parts)


def _time_major(forecast: ForecastFiles) -> dict[str, np.ndarray]:
    names = ("gt_tracks", "gt_visibility", "pred_tracks", "pred_visibility")
    arrays = {name: np.swapaxes(getattr(forecast, name), 0, 1) for name in names}
    if forecast.pred_probability is not None:
        arrays["probability"] = np.swapaxes(forecast.pred_probability, 0, 1)
    return {"query_xy": forecast.query_xy, **arrays}


def _seen(arrays: Mapping[str, np.ndarray], name: str, size_hw: tuple[int, int]) -> np.ndarray:
    """bool (T, N)."""
    return (arrays[f"{name}_visibility"] != 0) & in_bounds(arrays[f"{name}_tracks"], size_hw)


def _derived_meta(arrays: Mapping[str, np.ndarray], size_hw: tuple[int, int]) -> dict[str, Any]:
    """What the official meta.json says of the arrays."""
    x, y = np.unique(arrays["query_xy"][:, 0]), np.unique(arrays["query_xy"][:, 1])
    stride = next((int(v[1] - v[0]) for v in (x, y) if len(v) > 1), min(size_hw))
    return {
        "H": size_hw[0],
        "W": size_hw[1],
        "pred_len": len(arrays["pred_tracks"]),
        "num_points": len(arrays["query_xy"]),
        "grid_stride": stride,
        "grid_border": 0,
        "grid_origin": "topleft" if x[0] == 0 and y[0] == 0 else "center",
    }


def _checked(
    folder: Path, arrays: dict[str, np.ndarray], meta: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The arrays as they are, after all that can be wrong with them."""
    for key in ("H", "W"):
        value = meta.get(key)
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not 1 <= value <= _LARGEST_SIDE:
            raise ForecastFileError(f"{folder}: {META} must say the frame's {key!r}, got {value!r}")
    query, truth = arrays["query_xy"], arrays["gt_tracks"]
    if query.ndim != 2 or query.shape[-1] != 2 or query.dtype.kind not in "iuf":
        raise ForecastFileError(f"{folder}: query_xy.npy must be (N, 2), got {query.shape}")
    if truth.ndim != 3 or truth.shape[1:] != (len(query), 2) or not len(truth):
        raise ForecastFileError(
            f"{folder}: gt_tracks.npy must be (T, N, 2) with the N = {len(query)} points of "
            f"query_xy.npy, got {truth.shape}"
        )
    with reading(folder / "gt_tracks.npy", ForecastFileError, "tracks"):
        limits.check_tracks(*truth.shape[1::-1])
    wanted = {"pred_tracks": truth.shape}
    wanted |= dict.fromkeys(("gt_visibility", "pred_visibility"), truth.shape[:2])
    wanted |= {"probability": truth.shape[:2]} if "probability" in arrays else {}
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            file = PROBABILITY if name == "probability" else f"{name}.npy"
            raise ForecastFileError(
                f"{folder}: {file} must be {shape} as gt_tracks.npy, got {arrays[name].shape}"
            )
    for name in ("gt_visibility", "pred_visibility"):
        if arrays[name].dtype.kind not in "biu" or not np.isin(arrays[name], (0, 1)).all():
            raise ForecastFileError(
                f"{folder}: {name}.npy must hold 0 and 1 alone, got {arrays[name].dtype}"
            )
    try:
        row_major_order(query)
    except ValueError as error:
        raise ForecastFileError(f"{folder}: {error}") from error
    return arrays


def _read_meta(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ForecastFileError(f"{folder} is no folder of a forecast")
    gone = [name for name in (*(f"{n}.npy" for n in _ARRAYS), META) if not (folder / name).exists()]
    if gone:
        raise ForecastFileError(
            f"{folder} is no whole forecast: it lacks {', '.join(gone)}; write it again"
        )
    with reading(folder / META, ForecastFileError, "JSON"):
        meta = read_json(folder / META)
    if not isinstance(meta, dict) or not {"H", "W"} <= meta.keys():
        raise ForecastFileError(f"{folder / META} must hold an object with the frame's H and W")
    return meta


def _load(path: Path) -> np.ndarray:
    with reading(path, ForecastFileError, "an array"):
        return load_npy(path)


def _put(fresh: Path, folder: Path) -> None:
    """Moves a finished folder to its place; of the one before it, files of other names stay."""
    if not folder.exists():
        os.rename(fresh, folder)
        return
    ours = {path.name for path in fresh.iterdir()} | {PROBABILITY, FULL_TRACKS}
    for path in folder.iterdir():
        if path.name not in ours:
            os.rename(path, fresh / path.name)
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
    os.rename(folder, old / folder.name)
    os.rename(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)
