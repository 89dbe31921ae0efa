"""TrajLoom's release: three checkpoints, their configs and the statistics of latents, as one.

    trajloom_vae.pt  trajloom_generator.pt  visibility_predictor.pt
    [configs/] trajloom_vae_config.json  trajloom_generator_config.json  vis_predictor_config.json
    [configs/] vae_latent_stats.json

What is in brackets, and the JSON files, may be absent. A config that no file states is the
published one. Every file that states the same model must agree with the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tavid_jax.weights.imported import whole_or_absent
from tavid_jax.weights.opened import Opened, open_parameters
from tavid_jax.weights.problems import WeightsError, raise_all
from tavid_jax.weights.registry import checkpoint_kind, export
from tavid_jax.weights.source import HUB, download, read_json
from tavid_jax.weights.torch_zip import write_torch_zip
from tavid_jax.weights.trajloom_configs import section_of, stated_fields


class Part(NamedTuple):
    """One of the three networks: kind of its checkpoint, its file's stem, its config's file."""

    kind: str
    stem: str
    config: str


PARTS = {
    "vae": Part("trajloom_vae", "trajloom_vae", "trajloom_vae_config.json"),
    "flow": Part("trajloom_flow", "trajloom_generator", "trajloom_generator_config.json"),
    "visibility": Part("trajloom_visibility", "visibility_predictor", "vis_predictor_config.json"),
}
STATISTICS = ("vae_latent_stats.json", "latent_stats_cache.json")
SUFFIXES = (".pt", ".pth", ".safetensors")
# Fields that two of the networks must share: name -> (part, its field) pairs.
_SHARED = ("latent_channels", "size_hw", "patch", "num_frames", "temporal_stride")


@dataclass(frozen=True)
class TrajLoomRelease:
    """A release whose weights are not read yet.

    Attributes:
      origin: what the user called it.
      parts: "vae", "flow", "visibility" -> weights that are read when asked for, with config.
      training: section "train" of the generator's config file: source of the flow, statistics.
      statistics: the statistics' file, None where there is none.
    """

    origin: str
    parts: Mapping[str, Opened]
    training: Mapping[str, Any]
    statistics: Path | None

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(part.nbytes for part in self.parts.values())


def open_trajloom_release(
    source: str | Path | Mapping[str, str | Path], configs: Mapping[str, Any] | None = None
) -> TrajLoomRelease:
    """Find and index the three checkpoints; no weight is read. No code in them is run.

    Args:
      source: the folder; `hf:owner/name[@revision][/subfolder]`; or paths of the three files,
        {"vae", "flow", "visibility"}, with "configs" and "statistics" where those lie elsewhere.
      configs: part -> our config, for those that no file states rightly; they are checked against
        what the files state.

    Raises:
      WeightsError: what is missing; files that state different models (the fields are listed); a
        checkpoint of another model, another config (fields listed), or damaged.
    """
    found = _locate(source)
    stated = _statements(found.configs)
    opened = {}
    for name, part in PARTS.items():
        config = _agreed(stated[name], name, (configs or {}).get(name))
        opened[name] = open_parameters(found.files[name], part.kind, config)
    _check_together(found.origin, opened)
    generator = found.configs.get("flow")
    training = read_json(generator).get("train", {}) if generator else {}
    return TrajLoomRelease(found.origin, opened, training, found.statistics)


def write_trajloom_release(
    folder: str | Path,
    params: Mapping[str, Any],
    configs: Mapping[str, Any],
    training: Mapping[str, Any],
) -> list[Path]:
    """Writes networks that were trained here as a release, for TrajLoom's own code.

    Args:
      folder: to be created, with the folders above it.
      params: {"vae", "flow", "visibility"}: nested parameters; more is ignored.
      configs: the same -> config of the network.
      training: section "train" of the generator's config file; its "latent_stats_json" is set.

    Returns:
      The files; that of the statistics is left to the caller (`STATISTICS[0]`).

    Raises:
      WeightsError: a folder that is there already, or parameters that are not the config's.
    """
    folder = Path(folder).expanduser()
    if folder.exists():
        raise WeightsError(f"{folder} is there already: name a new folder")
    tensors = {
        name: export(part.kind, params[name], configs[name], "keep") for name, part in PARTS.items()
    }
    vae, flow = configs["vae"], configs["flow"]
    frames, (height, width) = vae.num_frames, vae.size_hw
    data = {"video_dir": "", "tracks_dir": "", "hist_len": frames, "future_len": frames}
    data |= {"raw_height": height, "raw_width": width, "track_stride": vae.patch}
    data |= {"use_overlap": flow.use_overlap}
    autoencoder = {"config": section_of(vae)}
    train = {**training, "latent_stats_json": STATISTICS[0]}
    texts = {
        "vae": {"data": data, "trajloom_vae": autoencoder},
        "flow": {
            "data": data,
            "generator": section_of(flow),
            "trajloom_vae": {"ckpt_path": f"{PARTS['vae'].stem}.pt", **autoencoder},
            "train": train,
        },
        "visibility": {
            "predictor": section_of(configs["visibility"]),
            "patch_size": vae.patch,
            "temp_stride": vae.temporal_stride,
        },
    }
    files, nbytes = [], sum(a.nbytes for part in tensors.values() for a in part.values())
    with whole_or_absent(folder, nbytes) as new:
        for name, part in PARTS.items():
            write_torch_zip(new / f"{part.stem}.pt", tensors[name])
            text = json.dumps(texts[name], indent=2) + "\n"
            (new / part.config).write_text(text, encoding="utf-8")
            files += [folder / f"{part.stem}.pt", folder / part.config]
    return files


def is_trajloom_release(source: str | Path) -> bool:
    """Whether this is a folder on this machine with the generator's checkpoint in it."""
    folder = Path(source).expanduser()
    return folder.is_dir() and _file(folder, PARTS["flow"].stem) is not None


class _Located(NamedTuple):
    origin: str
    files: dict[str, Path]
    configs: dict[str, Path]
    statistics: Path | None


def _locate(source: str | Path | Mapping[str, str | Path]) -> _Located:
    if isinstance(source, Mapping):
        return _locate_paths(source)
    if str(source).startswith(HUB):
        folder = download(str(source), ("*.pt", "*.json"))
    else:
        folder = Path(source).expanduser()
    if not folder.is_dir():
        raise WeightsError(f"{source} is no folder: give that of TrajLoom's three checkpoints")
    files = {name: _file(folder, part.stem) for name, part in PARTS.items()}
    missing = [f"{PARTS[name].stem}.pt" for name, file in files.items() if file is None]
    raise_all({"missing": missing}, f"{source} holds no TrajLoom release", "download it again")
    return _Located(
        str(source),
        {name: file for name, file in files.items() if file is not None},
        _configs(folder),
        _beside(folder, STATISTICS),
    )


def _locate_paths(paths: Mapping[str, str | Path]) -> _Located:
    known = (*PARTS, "configs", "statistics")
    unknown = [name for name in paths if name not in known]
    missing = [name for name in PARTS if not paths.get(name)]
    raise_all(
        {"unknown": unknown, "missing": missing},
        "these paths are no TrajLoom release",
        f"give {', '.join(known)}",
    )
    files = {name: Path(paths[name]).expanduser() for name in PARTS}
    folder = Path(paths["configs"]).expanduser() if paths.get("configs") else files["flow"].parent
    statistics = paths.get("statistics")
    return _Located(
        ", ".join(str(file) for file in files.values()),
        files,
        _configs(folder),
        Path(statistics).expanduser() if statistics else _beside(folder, STATISTICS),
    )


def _file(folder: Path, stem: str) -> Path | None:
    return _beside(folder, [stem + suffix for suffix in SUFFIXES], ("",))


def _configs(folder: Path) -> dict[str, Path]:
    found = {name: _beside(folder, (part.config,)) for name, part in PARTS.items()}
    return {name: file for name, file in found.items() if file is not None}


def _beside(folder: Path, names: Any, places: tuple[str, ...] = ("", "configs")) -> Path | None:
    paths = (folder / place / name for place in places for name in names)
    return next((path for path in paths if path.is_file()), None)


def _statements(files: Mapping[str, Path]) -> dict[str, list[tuple[str, Any]]]:
    """Part -> (file, config) of every file that states it; all three files state the VAE."""
    stated: dict[str, list[tuple[str, Any]]] = {name: [] for name in PARTS}
    for own, file in files.items():
        content = read_json(file)
        for name in dict.fromkeys((own, "vae")):
            config = checkpoint_kind(PARTS[name].kind).described(content, str(file))
            if config is not None:
                stated[name].append((str(file), config))
        if not any(where == str(file) for where, _ in stated[own]):
            raise WeightsError(f"{file} has no section for the model {own!r}")
    return stated


def _agreed(stated: list[tuple[str, Any]], name: str, wanted: Any) -> Any:
    """The one config, None where nothing states it."""
    stated = [*stated, *([("the config that was asked for", wanted)] if wanted else [])]
    if not stated:
        return None
    (first, config), *others = stated
    for where, other in others:
        lines = [
            f"{field}: {value!r} in {first}, {getattr(other, field)!r} in {where}"
            for field, value in stated_fields(config).items()
            if value != getattr(other, field)
        ]
        raise_all({"fields": lines}, f"two configs of the {name} disagree", "mend one of them")
    return wanted or config


def _check_together(origin: str, opened: Mapping[str, Opened]) -> None:
    """The three are made for each other."""
    vae = opened["vae"].config
    lines = [
        f"{field}: {getattr(vae, field)} of the vae, {getattr(part.config, field)} of the {name}"
        for name, part in opened.items()
        for field in _SHARED
        if hasattr(part.config, field) and getattr(part.config, field) != getattr(vae, field)
    ]
    raise_all({"fields": lines}, f"{origin}: the networks do not fit together", "take one release")
