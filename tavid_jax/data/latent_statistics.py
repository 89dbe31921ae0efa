"""Statistics of track latents as TrajLoom publishes them: `vae_latent_stats.json`, both ways.

The file holds, for the latents of histories (`z_hist`), of futures (`z_fut`) and of both together
(`z_all`), count, mean, population standard deviation, least and greatest value: over all numbers,
and under `per_channel` for each channel, where `count` is the number of tokens.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from tavid_jax.data.cache import write_whole
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.texts import read_json

#: Our names of the three tables -> those in the file.
TABLES = {"history": "z_hist", "future": "z_fut", "all": "z_all"}

Statistics = dict[str, dict[str, np.ndarray]]


class StatisticsError(ValueError):
    """A file of statistics cannot be used; the message names the file and the key."""


def read_statistics(path: str | os.PathLike) -> Statistics:
    """Reads per-channel mean and standard deviation of C latent channels.

    Returns:
      {"history" | "future" | "all": {"mean": (C,), "std": (C,)}}, float32: what the stage that
      measures latents leaves, see `methods.trajloom.latents`.

    Raises:
      StatisticsError: no such file, no JSON, a missing key, tables of different lengths, values
        that are not finite, or a negative deviation.
    """
    held = _json(path)
    tables = {name: _table(path, held, key) for name, key in TABLES.items()}
    lengths = {TABLES[name]: len(table["mean"]) for name, table in tables.items()}
    if len(set(lengths.values())) > 1:
        raise StatisticsError(f"{path}: tables have different numbers of channels ({lengths})")
    return tables


def write_statistics(
    path: str | os.PathLike,
    statistics: Mapping[str, Mapping[str, Any]],
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Writes such a file, whole or not at all; TrajLoom's code and `read_statistics` read it.

    Args:
      path: of the file.
      statistics: by name of the table, "mean" and "std" (C,), and where they are known "count"
        (tokens), "min" and "max" (C,), see `LatentSums`. What is not known is left out of the file;
        moments over all channels follow from those of the channels.
      meta: JSON-able facts about where they come from.

    Raises:
      StatisticsError: a table or its mean or std is missing.
    """
    missing = [
        f"{name}/{field}"
        for name in TABLES
        for field in ("mean", "std")
        if field not in statistics.get(name, {})
    ]
    if missing:
        raise StatisticsError(f"{path}: statistics lack {', '.join(missing)}")
    tables = {key: _written(statistics[name]) for name, key in TABLES.items()}
    deviation = tables["z_all"]["std"]
    content = {
        "meta": {**(meta or {}), "latent_channels": len(np.asarray(statistics["all"]["mean"]))},
        **tables,
        "suggested_latent_scale": 1.0 / deviation if deviation > 0 else None,
    }
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


class LatentSums:
    """Running statistics of latents, in float64.

    L latent frames, N tokens, C channels; clips are added one by one.
    """

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, np.ndarray]] = {}

    def add(self, history: Float[np.ndarray, "L N C"], future: Float[np.ndarray, "L N C"]) -> None:
        """Adds one clip's two halves, unscaled."""
        for name, latents in (("history", history), ("future", future)):
            part = _sums(latents)
            self._sums[name] = part if name not in self._sums else _merged(self._sums[name], part)

    def statistics(self) -> Statistics:
        """All three tables: "mean", "std", "min", "max" float64 (C,), "count" int64 ().

        Raises:
          StatisticsError: nothing was added.
        """
        if not self._sums:
            raise StatisticsError("no latents were added: there are no statistics of nothing")
        sums = {**self._sums, "all": _merged(self._sums["history"], self._sums["future"])}
        return {name: _moments(part) for name, part in sums.items()}


def differing(one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float = 1e-3) -> str:
    """What differs between two sets of tables as words, "" if they are the same.

    Args:
      one, other: as `read_statistics` gives them.
      tolerance: allowed difference of a mean or a deviation, as a share of the deviation.
    """
    told = []
    for name in TABLES:
        mean, std = (np.asarray(one[name][k], np.float64) for k in ("mean", "std"))
        pair = [np.asarray(other[name][k], np.float64) for k in ("mean", "std")]
        if mean.shape != pair[0].shape:
            return f"{TABLES[name]} has {len(mean)} and {len(pair[0])} channels"
        scale = np.maximum(std, 1e-8)
        gap = np.maximum(np.abs(mean - pair[0]), np.abs(std - pair[1])) / scale
        if gap.max(initial=0.0) > tolerance:
            worst = int(gap.argmax())
            told.append(
                f"{TABLES[name]} channel {worst}: mean {mean[worst]:.6g} and {pair[0][worst]:.6g}, "
                f"std {std[worst]:.6g} and {pair[1][worst]:.6g}"
            )
    return "; ".join(told)


def _json(path: str | os.PathLike) -> Mapping[str, Any]:
    if not os.path.exists(path):
        raise StatisticsError(f"{path}: no such file of latent statistics")
    with reading(path, StatisticsError, "JSON of latent statistics"):
        held = read_json(path)
    if not isinstance(held, Mapping):
        raise StatisticsError(f"{path}: must hold an object with {', '.join(TABLES.values())}")
    return held


def _table(path: str | os.PathLike, held: Mapping[str, Any], key: str) -> dict[str, np.ndarray]:
    channels = held[key].get("per_channel") if isinstance(held.get(key), Mapping) else None
    if not isinstance(channels, Mapping) or not {"mean", "std"} <= set(channels):
        raise StatisticsError(
            f"{path}: has no {key}.per_channel.mean and .std; it holds {sorted(held)}"
        )
    try:
        with np.errstate(over="ignore"):  # what is too large is not finite, and refused below
            table = {field: np.asarray(channels[field], np.float32) for field in ("mean", "std")}
    except (OverflowError, TypeError, ValueError) as error:
        raise StatisticsError(f"{path}: {key}.per_channel holds no numbers ({error})") from error
    shapes = {field: array.shape for field, array in table.items()}
    if table["mean"].ndim != 1 or table["std"].shape != table["mean"].shape:
        raise StatisticsError(f"{path}: {key}.per_channel must be lists of one length: {shapes}")
    if not all(np.isfinite(array).all() for array in table.values()) or (table["std"] < 0).any():
        raise StatisticsError(f"{path}: {key}.per_channel must be finite, and std not negative")
    return table


def _written(table: Mapping[str, Any]) -> dict[str, Any]:
    """One table as it stands in the file."""
    mean, std = (np.asarray(table[field], np.float64) for field in ("mean", "std"))
    whole = float(mean.mean())
    variance = max(float((std**2 + mean**2).mean()) - whole**2, 0.0)
    outer: dict[str, Any] = {"mean": whole, "std": math.sqrt(variance)}
    inner: dict[str, Any] = {"mean": mean.tolist(), "std": std.tolist()}
    if "count" in table:
        inner["count"] = int(table["count"])
        outer["count"] = inner["count"] * len(mean)
    for field, most in (("min", np.min), ("max", np.max)):
        if field in table:
            inner[field] = np.asarray(table[field], np.float64).tolist()
            outer[field] = float(most(table[field]))
    return {**outer, "per_channel": inner}


def _sums(latents: Float[np.ndarray, "L N C"]) -> dict[str, np.ndarray]:
    z = np.asarray(latents, np.float64).reshape(-1, latents.shape[-1])
    return {
        "count": np.array(len(z)),
        "sum": z.sum(axis=0),
        "squares": np.square(z).sum(axis=0),
        "min": z.min(axis=0),
        "max": z.max(axis=0),
    }


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, np.ndarray]:
    how = {"min": np.minimum, "max": np.maximum}
    return {field: np.asarray(how.get(field, np.add)(one[field], other[field])) for field in one}


def _moments(sums: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Population mean and deviation, as TrajLoom's own script has them."""
    mean = sums["sum"] / sums["count"]
    variance = np.maximum(sums["squares"] / sums["count"] - mean**2, 0.0)
    return {
        "mean": mean,
        "std": np.sqrt(variance),
        **{field: sums[field] for field in ("count", "min", "max")},
    }
