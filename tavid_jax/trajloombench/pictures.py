"""History | method A | method B | truth of single clips, as films and as their last frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tavid_jax.data.clip import ClipError
from tavid_jax.data.forecast_files import FULL_TRACKS, META, ForecastFiles, read_forecast
from tavid_jax.data.official import read_tracks
from tavid_jax.data.video import VideoError, natural_key, read_video
from tavid_jax.tracks.grid import row_major_order
from tavid_jax.trajloombench.methods import EULER_10
from tavid_jax.trajloombench.outputs import FORECAST, Folder
from tavid_jax.trajloombench.protocol import BenchError
from tavid_jax.viz import media
from tavid_jax.viz.panels import forecast_panel

HEIGHT, FPS = 208, 24
MOST_FRAMES = 82  # of a film; longer clips are thinned


@dataclasses.dataclass(frozen=True)
class Picture:
    """One clip by two methods.

    Attributes:
      dataset, clip: names.
      film: moving, WebP.
      still: its last frame, PNG.
    """

    dataset: str
    clip: str
    film: media.Media
    still: media.Media


def pairs(folders: Sequence[Folder], methods: Sequence[str] = ()) -> dict[str, list[Folder]]:
    """Data set -> the longest forecasts of two methods (of one, where there is no other).

    Args:
      folders: all that there are.
      methods: labels of the two; () = the first two that there are.

    Raises:
      BenchError: a label without forecasts.
    """
    forecasts = [folder for folder in folders if folder.kind == FORECAST]
    there = list(dict.fromkeys(folder.method for folder in forecasts))
    unknown = [label for label in methods if label not in there]
    if unknown:
        raise BenchError(f"no forecasts of method {unknown[0]!r}; there are {', '.join(there)}")
    found: dict[str, list[Folder]] = {}
    for label in list(methods or there)[:2]:
        of_label = [folder for folder in forecasts if folder.method == label]
        for dataset in dict.fromkeys(folder.dataset for folder in of_label):
            here = [folder for folder in of_label if folder.dataset == dataset]
            longest = max(folder.frames for folder in here)
            here = [folder for folder in here if folder.frames == longest]
            chosen = min(here, key=lambda folder: folder.solver != str(EULER_10))
            found.setdefault(dataset, []).append(chosen)
    return found


def draw(folders: Sequence[Folder], count: int) -> list[Picture]:
    """Clips of one data set, those whose points move most.

    Args:
      folders: of `pairs`, of equal length.
      count: how many clips.
    """
    names = [{p.parent.name for p in folder.path.glob(f"*/{META}")} for folder in folders]
    common = sorted(set.intersection(*names), key=natural_key)
    moved = {name: _motion(folders[0].path / name) for name in common}
    chosen = sorted(common, key=lambda name: -moved[name])[:count]
    return [_picture(folders, name) for name in chosen]


def _motion(folder: Path) -> float:
    """Mean distance in px from the first to the last place of the true points."""
    tracks = read_forecast(folder).gt_tracks.swapaxes(0, 1)
    return float(np.nanmean(np.linalg.norm(tracks[-1] - tracks[0], axis=-1)))


def _picture(folders: Sequence[Folder], name: str) -> Picture:
    forecasts = [read_forecast(folder.path / name) for folder in folders]
    first = forecasts[0]
    frames = min(forecast.frames for forecast in forecasts)
    history, seen, video = _past(folders[0].path / name, first, frames)
    step = -(-(history.shape[1] + frames) // MOST_FRAMES)
    # Thinned from the last frame of the history, and to the last of the future, which stay.
    past = slice((history.shape[1] - 1) % step, None, step)
    ahead = slice((frames - 1) % step, frames, step)
    given = history.shape[1]
    strip = forecast_panel(
        None if video is None else video[:given][past],
        history[:, past],
        seen[:, past],
        np.stack([forecast.pred_tracks[:, ahead] for forecast in forecasts]),
        np.stack([forecast.pred_visibility[:, ahead] for forecast in forecasts]),
        first.gt_tracks[:, ahead],
        first.gt_visibility[:, ahead],
        size_hw=first.size_hw,
        out_height=HEIGHT,
        future_frames=None if video is None else video[given:][ahead],
        prediction_labels=[_label(folder) for folder in folders],
        truth_label=f"tracked by {folders[0].tracker}",
        columns=2,
    )
    about = {"data set": folders[0].dataset, "clip": name}
    about |= {f"method {i + 1}": str(folder.path) for i, folder in enumerate(folders)}
    film = media.encode_animation(strip, FPS / step, provenance=about, max_bytes=900_000)
    return Picture(folders[0].dataset, name, film, media.encode_png(strip[-1], provenance=about))


def _label(folder: Folder) -> str:
    return f"{folder.method}, {folder.solver}" if folder.solver else folder.method


def _past(
    folder: Path, forecast: ForecastFiles, frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Tracks and visibility before the forecast, and the video of past and future.

    The tracks lie beside the forecast, or in the file that its meta names. Without them the past is
    one frame, the first that was forecast, and there is no video.
    """
    about = forecast.meta.get("gt_meta") or {}
    count = int(forecast.meta.get("hist_len", 0))
    beside = folder / FULL_TRACKS
    try:
        file = read_tracks(beside if beside.is_file() else str(about.get("path", "")))
        tracks, seen = file.tracks, file.visibility
        if tracks.shape[0] != len(forecast.query_xy) or tracks.shape[1] < count or count < 1:
            raise ClipError("it is of other points")
        if file.query_xy is not None:
            order, _ = row_major_order(np.rint(file.query_xy))
            tracks, seen = tracks[order], seen[order]
    except ClipError:
        return forecast.gt_tracks[:, :1], forecast.gt_visibility[:, :1], None
    return tracks[:, :count], seen[:, :count], _frames(forecast, count + frames)


def _frames(forecast: ForecastFiles, count: int) -> UInt8[np.ndarray, "T H W 3"] | None:
    """The video's frames from where the past begins, small; None where they are not at hand."""
    path = str(forecast.meta.get("video_path", ""))
    start = int(forecast.meta.get("cond_index", 0)) - int(forecast.meta.get("hist_len", 0))
    height, width = forecast.size_hw
    size_hw = (HEIGHT, round(width * HEIGHT / height))
    try:
        shown = range(max(start, 0), max(start, 0) + count)
        return read_video(path, shown, size_hw=size_hw, resize="squash") if path else None
    except (VideoError, OSError):
        return None
