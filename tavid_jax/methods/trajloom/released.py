"""TrajLoom as its authors released it: three checkpoints become a predictor of tracks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from tavid_jax.methods.trajloom.examples import Geometry
from tavid_jax.methods.trajloom.features import Encoders
from tavid_jax.methods.trajloom.flow import FlowLosses
from tavid_jax.methods.trajloom.forecaster import Forecaster, Sampling
from tavid_jax.methods.trajloom.predictor import TrajLoomPredictor
from tavid_jax.methods.trajloom.settings import Settings
from tavid_jax.methods.trajloom.vae import VAELosses
from tavid_jax.methods.trajloom.visibility import VisibilityLosses
from tavid_jax.models.latte.flow import TrackFlow
from tavid_jax.models.latte.vae import TrackVAE
from tavid_jax.models.latte.visibility import VisibilityHead
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import replicated
from tavid_jax.pipelines.trajloom_release import (
    ReleasedTracks,
    open_released_tracks,
    save_released_tracks,
)

PARTS = ("vae", "flow", "visibility")
# Theirs -> ours.
_SOURCES = {"noise": "noise", "anchor_first": "anchor_first"}
_STATISTICS = {"z_all": "all", "z_hist": "history", "z_fut": "future"}


def open_released(
    source: str | Path | Mapping[str, str | Path],
    *,
    sampling: Sampling | None = None,
    conditions: Encoders | None = None,
    dtype: Any = "float32",
    configs: Mapping[str, Any] | None = None,
    mesh: Mesh | None = None,
) -> TrajLoomPredictor:
    """Open the released checkpoints, to forecast tracks of 480x832 clips.

    Coordinates, norms and the solver's state are float32 in any case. Bit for bit the official
    runner feeds no history visibility: `Sampling(history_visibility="zeros")` does the same.

    Args:
      source: the folder of `trajloom_vae.pt`, `trajloom_generator.pt`, `visibility_predictor.pt`
        (with the JSON configs and `vae_latent_stats.json`, if they are there); `hf:owner/name`; or
        the paths {"vae", "flow", "visibility"}, with "configs" and "statistics" as needed.
      sampling: solver and steps; default: 10 Euler steps.
      conditions: encodes the past's frames and the caption. None: the flow runs without them.
      dtype: of the weights and of the blocks' arithmetic.
      configs: part -> config where no file states it rightly.
      mesh: devices; all of them if None.

    Raises:
      ValueError: what is missing, damaged, of another kind or of another config (its fields).
    """
    opened = open_released_tracks(source, configs)
    features = "none" if conditions is None else "encoders"
    forecaster = read_forecaster(opened, sampling, dtype, features, mesh)
    facts = {
        "weights": opened.fingerprints(),
        "statistics_from": opened.statistics_from,
        "dtype": jnp.dtype(dtype).name,
        "release": opened.release.origin,
    }
    return TrajLoomPredictor(forecaster, facts, conditions)


def read_forecaster(
    opened: ReleasedTracks,
    sampling: Sampling | None = None,
    dtype: Any = "float32",
    features: str = "none",
    mesh: Mesh | None = None,
) -> Forecaster:
    """The weights of an opened release, each read straight into its place.

    Args:
      features: what its clips come with beside tracks, "encoders" or "none".
    """
    settings = released_settings(opened, dtype, features)
    mesh = mesh or make_mesh()
    params = opened.read(lambda array: jax.device_put(array, replicated(mesh)), dtype)
    return Forecaster(settings, params, sampling, mesh)


def save_released(folder: str | Path, forecaster: Forecaster) -> list[Path]:
    """Writes what was trained here as the three checkpoints that TrajLoom's own code reads.

    Returns:
      The files: checkpoints, JSON configs, statistics of latents.

    Raises:
      ValueError: no visibility head, tracks that do not start at the top left of their cells, a
        source of the flow that their code does not have, or a folder that is there already.
    """
    settings, learned = forecaster.settings, forecaster.settings.flow_losses
    if "visibility" not in forecaster.params:
        raise ValueError("a release has a visibility predictor: train the stage `visibility` too")
    if settings.geometry.origin != "topleft":
        raise ValueError(
            f"data.origin is {settings.geometry.origin!r}: TrajLoom's code reads the "
            "top-left pixel of every cell; train with data.origin='topleft'"
        )
    if learned.source not in _SOURCES.values():
        raise ValueError(
            f"learn.flow.source is {learned.source!r}: TrajLoom's code has {list(_SOURCES)}"
        )
    tables = {ours: theirs for theirs, ours in _STATISTICS.items()}
    training = {
        "x0_mode": learned.source,
        "x0_noise_std": learned.source_std,
        "x0_fix_first_latent": learned.fix_first,
        "latent_stats_key": tables[learned.statistics],
    }
    configs = {name: getattr(settings, name).config for name in PARTS}
    return save_released_tracks(folder, forecaster.params, configs, training)


def named_paths(text: str) -> str | dict[str, str]:
    """What `config.released` names: a folder or hub name, or three files with commas between.

    Raises ValueError for another number of files.
    """
    names = [name.strip() for name in text.split(",")]
    if len(names) == 1:
        return names[0]
    if len(names) != len(PARTS):
        raise ValueError(
            f"config.released names {len(names)} files: give a folder, or the checkpoints of "
            f"{', '.join(PARTS)} in this order, with commas between"
        )
    return dict(zip(PARTS, names, strict=True))


def released_settings(
    opened: ReleasedTracks, dtype: Any = "float32", features: str = "none"
) -> Settings:
    """What the release's configs decide, as a trained run's settings.

    Args:
      opened: the release.
      dtype: of the blocks' arithmetic.
      features: where those beside tracks come from, "encoders" or "none".

    Raises:
      ValueError: a source of the flow, or a table of statistics, that is not known.
    """
    config = opened.configs()
    vae, flow = config["vae"], config["flow"]
    computing = jnp.dtype(dtype)
    return Settings(
        geometry=Geometry(vae.size_hw, vae.patch, "topleft", vae.num_frames, vae.temporal_stride),
        vae=TrackVAE(vae, dtype=computing),
        flow=TrackFlow(flow, dtype=computing),
        visibility=VisibilityHead(config["visibility"], dtype=computing),
        vae_losses=VAELosses(),
        flow_losses=_flow_losses(opened.release.training),
        visibility_losses=VisibilityLosses(),
        source=features,
    )


def _flow_losses(training: Mapping[str, Any]) -> FlowLosses:
    """Source of the flow and its table of statistics, from the generator's config file.

    Without one they are those of the release; a field that the file lacks has the default of the
    public code.
    """
    if not training:
        return FlowLosses()
    source = training.get("x0_mode", "noise")
    table = training.get("latent_stats_key", "z_fut")
    if source not in _SOURCES:
        raise ValueError(f"train.x0_mode {source!r} of the generator is none of {list(_SOURCES)}")
    if table not in _STATISTICS:
        raise ValueError(
            f"train.latent_stats_key {table!r} of the generator is none of {list(_STATISTICS)}"
        )
    return FlowLosses(
        source=_SOURCES[source],
        source_std=float(training.get("x0_noise_std", 0.5)),
        fix_first=bool(training.get("x0_fix_first_latent", False)),
        statistics=_STATISTICS[table],
    )
