"""Writing such a cache, so that TrajLoom's own code reads it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tavid_jax.data.latent_statistics import LatentSums, write_statistics
from tavid_jax.pipelines.latent_cache.reader import (
    ARRAYS,
    META,
    STATISTICS,
    LatentCacheError,
)
from tavid_jax.weights.torch_zip import write_torch_zip

_VISIBILITY = ("hist_vis_lat", "fut_vis_lat")


class LatentCacheWriter:
    """Writes a cache; the folder appears whole when the `with` block ends well, or not at all.

      with LatentCacheWriter(folder, {"vae": fingerprint}) as writer:
        writer.write(example)

    Args:
      folder: to make.
      meta: JSON-able facts that the latents depend on; "vae", the fingerprint of its weights, is
        what a reader compares.
      dtype: of floating arrays on disk; the released cache seems to be bfloat16.

    Raises:
      LatentCacheError: the folder is there already; on leaving, no training clip was written.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        meta: Mapping[str, Any] | None = None,
        dtype: Any = np.float32,
    ):
        self.folder = Path(folder)
        if self.folder.exists():
            raise LatentCacheError(f"{folder}: is there already; delete it or name another folder")
        self.place = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.part")
        self._meta, self._dtype = dict(meta or {}), np.dtype(dtype)
        self._lines: dict[str, list[str]] = {"train": [], "eval": []}
        self._sums = LatentSums()
        self._names: set[str] = set()

    def __enter__(self) -> LatentCacheWriter:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self.place, ignore_errors=True)

    def write(
        self,
        example: Mapping[str, Any],
        split: str = "train",
        *,
        caption: str = "",
        video_path: str = "",
        tracks_path: str = "",
    ) -> None:
        """Adds a clip: an example with the names that `reader.read_clip` gives.

        A clip whose name was written before gets a number behind it.
        """
        vid = str(example["id"])
        file = self._file(vid, split)
        values: dict[str, Any] = {
            "vid": vid,
            "caption": caption,
            "video_path": video_path,
            "tracks_path": tracks_path,
            "stored_scaled_latents": False,
        }
        for key, (name, _) in ARRAYS.items():
            values[key] = self._stored(key, example.get(name))
        (self.place / file).parent.mkdir(exist_ok=True)
        write_torch_zip(self.place / file, values)
        entry = {"vid": vid, "path": file, "video_path": video_path, "tracks_path": tracks_path}
        self._lines[split].append(json.dumps(entry))
        if split == "train":
            halves = (np.asarray(values[key], np.float32) for key in ("z_hist", "z_fut"))
            self._sums.add(*halves)

    def _file(self, vid: str, split: str) -> str:
        base = re.sub(r"[^\w.@=+-]+", "_", vid).lstrip(".") or "clip"
        name, number = base, 1
        while name in self._names:
            number += 1
            name = f"{base}-{number}"
        self._names.add(name)
        return f"{split}/{name}.pt"

    def _stored(self, key: str, value: Any) -> np.ndarray | None:
        if value is None:
            return None
        if key in _VISIBILITY:
            return np.asarray(value) > 0.5
        return np.ascontiguousarray(np.asarray(value, self._dtype))

    def _finish(self) -> None:
        counts = {split: len(lines) for split, lines in self._lines.items()}
        if not counts["train"]:
            raise LatentCacheError(f"{self.folder}: no training clip was written")
        for split, lines in self._lines.items():
            if lines:
                text = "".join(f"{line}\n" for line in lines)
                (self.place / f"manifest_{split}.jsonl").write_text(text, encoding="utf-8")
        statistics = self._sums.statistics()
        source = {"split": "train", "num_files": counts["train"]}
        write_statistics(self.place / STATISTICS, statistics, source)
        tables = {
            name: {field: table[field].tolist() for field in ("mean", "std")}
            for name, table in statistics.items()
        }
        meta = {**self._meta, "clips": counts, "dtype": self._dtype.name, "statistics": tables}
        (self.place / META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        os.replace(self.place, self.folder)
