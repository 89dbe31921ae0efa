"""Data sets, outputs and a predictor that several tests use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tavid_jax.data.official import TrackFile, write_tracks
from tavid_jax.data.video import write_video
from tavid_jax.tracks.forecasting import Future, Past
from tavid_jax.trajloombench.protocol import Protocol

# A grid of 5 x 6 points, so that FVMD has one cell.
TINY = Protocol(size_hw=(40, 48), stride=8, history=6, future=9, horizons=(5, 9))
TINY_FLAGS = [
    "--size", "40x48", "--stride", "8", "--history", "6", "--future", "9", "--frames", "5", "9",
]  # fmt: skip


def tracks_of(seed: int, frames: int, protocol: Protocol = TINY) -> tuple[np.ndarray, np.ndarray]:
    """(N, T, 2) px that start on the grid and drift, and (N, T) visibility."""
    rng = np.random.default_rng(seed)
    start = protocol.queries[:, None]
    time = np.arange(frames)[None, :, None]
    drift = rng.normal(0, 0.3, (len(start), 1, 2)) * time
    seen = rng.random((len(start), frames)) > 0.2
    seen[:, 0] = True
    return (start + drift).astype(np.float32), seen


def write_dataset(
    root: Path, name: str, count: int = 3, protocol: Protocol = TINY, tracker: str = "toy"
) -> None:
    """Videos and tracks of `count` clips, one frame longer than is needed."""
    for i in range(count):
        tracks, seen = tracks_of(i + 10 * len(name), protocol.frames + 1, protocol)
        folder = root / f"{name}_{tracker}_s{protocol.stride}"
        write_tracks(folder / f"c{i}.npz", TrackFile(tracks, seen, protocol.size_hw))
        video = np.full((protocol.frames + 1, *protocol.size_hw, 3), 40 * i + 30, np.uint8)
        write_video(root / f"{name}_video" / f"c{i}.mp4", video, 8)


def write_official(folder: Path, arrays: dict[str, np.ndarray], **meta) -> None:
    """A clip as TrajLoom's own runner leaves it: time-major arrays, nothing masked further."""
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    known = {"H": 480, "W": 832, "solver": "euler", "steps": 10, "noise_seed": 42}
    (folder / "meta.json").write_text(json.dumps(known | meta))


class Drifting:
    """Adds `seed` px a frame to the last place; halves tracks as its autoencoder."""

    def __init__(self):
        self.name, self.facts, self.asked = "drifting", {"weights": "a"}, []

    def predict(self, past: Past, frames: int, samples: int = 1, seed: int = 0) -> Future:
        self.asked.append((frames, seed, None if past.video is None else past.video.shape))
        ahead = np.arange(1, frames + 1, dtype=np.float32)[:, None] * np.float32(seed)
        tracks = past.tracks[:, -1:] + ahead
        tracks = np.repeat(tracks[None], samples, axis=0).astype(np.float32)
        seen = np.ones(tracks.shape[:-1], bool)
        return Future(tracks, seen, np.full(seen.shape, 0.75, np.float32))

    def reconstruct(self, tracks: np.ndarray) -> np.ndarray:
        return (tracks / 2).astype(np.float32)


def drifting() -> Drifting:
    """For --method NAME=module:function."""
    return Drifting()


def no_predictor() -> None:
    """Makes nothing."""


def standing(video: np.ndarray, query_xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A tracker after which nothing moves; every second point is seen."""
    shape = (len(query_xy), len(video))
    tracks = np.broadcast_to(query_xy[:, None], (*shape, 2))
    return tracks, np.broadcast_to(np.arange(len(query_xy))[:, None] % 2 == 0, shape)


def half(video: np.ndarray, query_xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A tracker that forgets half of the points."""
    tracks, seen = standing(video, query_xy)
    return tracks[::2], seen[::2]
