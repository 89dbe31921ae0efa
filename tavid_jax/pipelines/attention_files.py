"""The files of `attention`: maps, films, the grid of blocks, and what a study found."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from tavid_jax.pipelines.looking import Looked, measured
from tavid_jax.pipelines.maps import IOU, chance
from tavid_jax.pipelines.ranking import record_of
from tavid_jax.viz import attention, curves, media

MAPS, GRID, BLOCKS, BARS, VIDEO = NAMES = (
    "maps.npz", "grid.png", "blocks.json", "blocks.png", "video.mp4",
)  # fmt: skip
_FILM = {"quality": 94, "hold_last": 0.0, "max_bytes": 1 << 40}  # as good as it is


def write_looked(out: Path, looked: Looked, **facts: Any) -> list[dict[str, Any]]:
    """All files of one video.

    Args:
      out: folder, made if need be.
      looked: what was seen.
      facts: how, for the records.

    Returns:
      Records of the words that have a mask, see `ranking.record_of`; `blocks.json` holds them.
    """
    out.mkdir(parents=True, exist_ok=True)
    _write(out / MAPS, _npz(looked))
    looked.video.save(out / VIDEO)
    made_by = dict(looked.video.provenance)
    for place, word in enumerate(looked.words):
        film = attention.heat_clip(
            looked.video.frames,
            looked.maps[:, :, place].mean((0, 1)),
            looked.spans,
            word,
            looked.masks[place],
        )
        for ending in ("mp4", "webp"):
            encoded = media.encode_animation(
                film, looked.video.fps, format=ending, provenance=made_by, **_FILM
            )
            _save(out / f"{file_name(word)}.{ending}", encoded)
    if 0 in looked.frames:
        grids = [grid_of(looked, place) for place in range(len(looked.words))]
        _save(out / GRID, media.encode_png(attention.stacked(grids), provenance=made_by))
    records = [
        _record(looked, place, facts)
        for place in range(len(looked.words))
        if looked.measured(place) is not None
    ]
    if records:
        write_records(out, records)
    return records


def write_records(out: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Records as JSON, and their bars; see `ranking.record_of`."""
    out.mkdir(parents=True, exist_ok=True)
    _write(out / BLOCKS, (json.dumps(records, indent=1) + "\n").encode())
    series = {
        f"“{', '.join(record['words'])}”": (
            [row[IOU] for row in record["blocks"]],
            None if record["clips"] == 1 else [row[f"{IOU}_error"] for row in record["blocks"]],
        )
        for record in records
    }
    bars = curves.numbered_bars(
        series,
        [row["block"] for row in records[0]["blocks"]],
        x_label="block",
        y_label="IoU of map and mask",
        reference=("a map that knows nothing", records[0]["chance"]),
        title=records[0]["model"],
        format="png",
    )
    _write(out / BARS, bars)


def grid_of(looked: Looked, word: int) -> np.ndarray:
    """Maps of a word in the first latent frame: the mean over blocks, as released, and all of them.

    A picture (H, W, 3), uint8.
    """
    maps, aim = looked.first(word), looked.aims[word]
    means = maps.mean(1)
    rows = [
        ("mean of all", means),
        *((f"block {b}", maps[:, i]) for i, b in enumerate(looked.blocks)),
    ]
    return attention.heat_grid(
        looked.video.frames[0],
        [
            attention.Row(label, some, () if aim is None else measured(some, aim)[IOU].tolist())
            for label, some in rows
        ],
        [f"step {step}" for step in looked.steps],
        f"attention of “{looked.words[word]}”: steps 0 to {looked.total_steps - 1}, least (blue) "
        "to most (yellow) of each map",
        looked.masks[word],
    )


def file_name(word: str) -> str:
    """A word as the name of a file."""
    return re.sub(r"\W+", "_", word.lower()).strip("_") or "word"


def _record(looked: Looked, word: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    found = looked.measured(word)
    return record_of(
        {name: x[:, None] for name, x in found.items()},
        levels=looked.steps,
        blocks=looked.blocks,
        kind="steps",
        words=[looked.words[word]],
        model=looked.video.provenance["model"],
        chance=chance(looked.aims[word].ravel()),
        made_by=dict(looked.video.provenance),
        **facts,
    )


def _npz(looked: Looked) -> bytes:
    """Every map as float16 shares of its largest value, which `scale` holds: what is seen of one
    token among thousands would be too small for float16."""
    scale = looked.maps.max((3, 4, 5), keepdims=True)
    aims = zip(looked.words, looked.aims, strict=True)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        maps=(looked.maps / np.maximum(scale, 1e-30)).astype(np.float16),
        scale=scale,
        words=np.array(looked.words),
        steps=np.array(looked.steps),
        blocks=np.array(looked.blocks),
        frames=np.array(looked.frames),
        spans=np.array(looked.spans),
        **{f"aim_{file_name(word)}": aim for word, aim in aims if aim is not None},
    )
    return buffer.getvalue()


def _save(path: Path, encoded: media.Media) -> None:
    media.save(path, encoded)
    logging.info("%s", path)


def _write(path: Path, data: bytes) -> None:
    _save(path, media.Media(data, "", 0, 0))
