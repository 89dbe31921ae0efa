"""TrajLoom's released networks for methods: opened, described, read one weight at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.data.latent_statistics import read_statistics, write_statistics
from tavid_jax.models.latte.vae import TrackVAEConfig
from tavid_jax.pipelines.bases import FOLDER
from tavid_jax.weights.lazy import to_dtype
from tavid_jax.weights.table import nest
from tavid_jax.weights.trajloom_release import (
    STATISTICS,
    TrajLoomRelease,
    open_trajloom_release,
    write_trajloom_release,
)

#: Statistics of the released VAE's latents over its training clips (TrajLoom's vae_latent_stats).
PUBLISHED_STATISTICS = FOLDER / "trajloom" / "vae_latent_stats.json"
PUBLISHED = "published"


@dataclass(frozen=True)
class ReleasedTracks:
    """The release and the statistics that standardise its latents.

    Attributes:
      release: networks and configs; no weight is read yet.
      statistics: {"history" | "future" | "all": {"mean": (C,), "std": (C,)}}, float32.
      statistics_from: the file, or "published" for the table of the released VAE.
    """

    release: TrajLoomRelease
    statistics: Mapping[str, Mapping[str, np.ndarray]]
    statistics_from: str

    def configs(self) -> dict[str, Any]:
        """{"vae", "flow", "visibility"}: configs of the networks."""
        return {name: part.config for name, part in self.release.parts.items()}

    def fingerprints(self) -> dict[str, str]:
        """{network: short hash of its file}."""
        return {name: part.fingerprint() for name, part in self.release.parts.items()}

    def read(
        self, place: Callable[[np.ndarray], jax.Array] | None = None, dtype: Any = "float32"
    ) -> dict[str, Any]:
        """Parameters {"vae", "flow", "visibility", "statistics"}; one weight at a time is in
        memory besides those that are in their place.

        Args:
          place: where each goes; default: the default device.
          dtype: of the weights; "keep" for the files'.
        """
        place, chosen = place or jnp.asarray, to_dtype(dtype)

        def weight(leaf: Any) -> jax.Array:
            array = leaf.read()
            return place(array if chosen is None else array.astype(chosen, copy=False))

        params: dict[str, Any] = {
            name: nest({path: weight(leaf) for path, leaf in part.leaves.items()})
            for name, part in self.release.parts.items()
        }
        tables = {
            name: {field: place(values) for field, values in table.items()}
            for name, table in self.statistics.items()
        }
        return params | {"statistics": tables}


def open_released_tracks(
    source: str | Path | Mapping[str, str | Path], configs: Mapping[str, Any] | None = None
) -> ReleasedTracks:
    """Open TrajLoom's three checkpoints; arguments and errors as `open_trajloom_release`.

    Raises:
      ValueError: statistics of another number of channels, or none for a VAE of other sizes than
        the published one.
    """
    release = open_trajloom_release(source, configs)
    vae = release.parts["vae"].config
    path = release.statistics
    if path is None:
        if vae != TrackVAEConfig():
            raise ValueError(
                f"{release.origin}: no statistics of the latents are there, and its VAE is not the "
                "published one, whose statistics come with this package: put a "
                "vae_latent_stats.json beside the checkpoints"
            )
        path = PUBLISHED_STATISTICS
    statistics = read_statistics(path)
    channels = len(statistics["all"]["mean"])
    if channels != vae.latent_channels:
        raise ValueError(
            f"{path} holds statistics of {channels} channels, and the VAE of {release.origin} has "
            f"{vae.latent_channels}: they are those of another VAE"
        )
    origin = PUBLISHED if path == PUBLISHED_STATISTICS else str(path)
    return ReleasedTracks(release, statistics, origin)


def save_released_tracks(
    folder: str | Path,
    params: Mapping[str, Any],
    configs: Mapping[str, Any],
    training: Mapping[str, Any],
) -> list[Path]:
    """Writes networks and statistics that were made here as a release; see
    `write_trajloom_release`.

    Args:
      params: {"vae", "flow", "visibility", "statistics"}.

    Returns:
      The files.
    """
    files = write_trajloom_release(folder, params, configs, training)
    path = Path(folder).expanduser() / STATISTICS[0]
    write_statistics(path, jax.device_get(params["statistics"]))
    return [*files, path]
