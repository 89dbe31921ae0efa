"""Finding a checkpoint: single files, folders of shards, expert pairs, the Hugging Face hub.

Accepted are: a file; a folder with one file, or shards with their index; a diffusers pipeline
folder (its `transformer/`, and `transformer_2/` if there); an original Wan2.2 A14B folder
(`high_noise_model/`, `low_noise_model/`); and `hf:owner/name[@revision][/subfolder]`. A file
or folder in a bucket (`gs://bucket/name`) is read from a local copy.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavid_jax import places
from tavid_jax.untrusted import texts
from tavid_jax.untrusted.errors import UnsafeNameError, reading
from tavid_jax.untrusted.names import check_name
from tavid_jax.weights.files import SUFFIXES, read_file, strip_wrappers
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.problems import WeightsError, fold, raise_all

HUB = "hf:"
# Folders of two experts, and of one model inside a pipeline: folder -> name in our trees.
EXPERT_FOLDERS = (
    {"high_noise_model": "high_noise", "low_noise_model": "low_noise"},
    {"transformer": "high_noise", "transformer_2": "low_noise"},
)
MODEL_FOLDER = "transformer"
# Under which of these keys training scripts store the tensors, where the kind of checkpoint does
# not tell.
CONTAINERS = (
    "state_dict", "model", "model_state_dict", "generator", "predictor", "vae", "ema_state_dict",
)  # fmt: skip
_OTHER_FOLDERS = ("image_encoder", "text_encoder", "tokenizer", "vae")
_INDEX_ENDING = ".index.json"
WEIGHT_FILES = ("*config.json", "*.safetensors", f"*{_INDEX_ENDING}")
_AGAIN = "download or copy it again"
_DIGITS = 5  # of a number of shards
_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)(\.\w+)")


@dataclass(frozen=True)
class Source:
    """A checkpoint whose tensors are not read yet.

    Attributes:
      name: what the user called it.
      tensors: key -> array that is read when asked for; keys of a pair of experts begin with
        "high_noise/" and "low_noise/".
      files: what the tensors lie in.
      config: content of config.json (of the first expert), None without one.
      config_path: where that lies.
    """

    name: str
    tensors: dict[str, LazyArray]
    files: tuple[Path, ...]
    config: dict[str, Any] | None = None
    config_path: Path | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def open_source(source: str | Path, containers: Sequence[str] = CONTAINERS) -> Source:
    """Find and index a checkpoint; no tensor is read.

    Args:
      source: see the module.
      containers: for `.pt` files, keys under which the tensors may be stored.

    Raises:
      WeightsError: nothing usable there; says what was looked for.
    """
    if str(source).startswith(HUB):
        return _open_folder(download(str(source)), str(source), containers)
    path = places.pull(places.place(source)).expanduser()
    if path.is_dir():
        return _open_folder(path, str(source), containers)
    if path.name.endswith(_INDEX_ENDING) and path.is_file():
        tensors, files = _from_index(path, containers)
    else:
        tensors, files = read_file(path, containers), (path,)
    return Source(str(source), tensors, files, *_config(path.parent))


def _open_folder(folder: Path, name: str, containers: Sequence[str]) -> Source:
    for names in EXPERT_FOLDERS:
        if all((folder / sub).is_dir() for sub in names):
            return _open_experts({ours: folder / sub for sub, ours in names.items()}, name)
    found = _weights_in(folder)
    if not found and (folder / MODEL_FOLDER).is_dir():
        folder = folder / MODEL_FOLDER
        found = _weights_in(folder)
    if not found:
        inside = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise WeightsError(
            f"no checkpoint in {folder}: expected {', '.join('*' + s for s in SUFFIXES)}, an "
            f"index of shards, or a folder {MODEL_FOLDER}/; found {inside}"
        )
    tensors, files = _read_parts(folder, found, containers)
    return Source(name, tensors, files, *_config(folder))


def _open_experts(folders: Mapping[str, Path], name: str) -> Source:
    parts = {expert: _open_folder(folder, str(folder), ()) for expert, folder in folders.items()}
    first, *others = parts.values()
    for other in others:
        if first.config and other.config and _sizes(first.config) != _sizes(other.config):
            raise WeightsError(f"{name}: the two experts' config.json files disagree")
    return Source(
        name,
        {f"{e}/{key}": t for e, part in parts.items() for key, t in part.tensors.items()},
        tuple(file for part in parts.values() for file in part.files),
        first.config,
        first.config_path,
    )


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _weights_in(folder: Path) -> list[Path]:
    """The index of shards if there is one, else all files of the best kind and variant."""
    files = sorted(p for p in folder.iterdir() if p.is_file())
    for suffix in SUFFIXES:
        indices = [p for p in files if p.name.endswith(suffix + _INDEX_ENDING)]
        weights = [p for p in files if p.suffix == suffix]
        for found in (indices, weights):
            # A variant ("model.fp16.safetensors") is taken only where there is nothing else.
            plain = [p for p in found if not _variant(p, suffix)]
            if plain or found:
                return plain or found
    return []


def _variant(path: Path, suffix: str) -> bool:
    stem = path.name.removesuffix(_INDEX_ENDING).removesuffix(suffix)
    return "." in stem


def _read_parts(
    folder: Path, found: Sequence[Path], containers: Sequence[str]
) -> tuple[dict[str, LazyArray], tuple[Path, ...]]:
    if found[0].name.endswith(_INDEX_ENDING):
        if len(found) > 1:
            names = ", ".join(p.name for p in found)
            raise WeightsError(f"{folder} holds several checkpoints ({names}); name one of them")
        return _from_index(found[0], containers)
    shards = [_SHARD.fullmatch(p.name) for p in found]
    if len(found) > 1 and not all(shards):
        names = ", ".join(p.name for p in found[:8])
        raise WeightsError(f"{folder} holds several checkpoints ({names}); name one of them")
    if all(shards) and len(shards[0][3]) > _DIGITS:
        raise WeightsError(f"{found[0]}: no checkpoint has so many shards")
    if all(shards):
        stem, _, count, suffix = shards[0].groups()
        wanted = [f"{stem}-{i:0{len(count)}d}-of-{count}{suffix}" for i in range(1, int(count) + 1)]
        missing = sorted(set(wanted) - {p.name for p in found})
        raise_all({"missing shards": missing}, f"{folder} is not complete", _AGAIN)
    tensors: dict[str, LazyArray] = {}
    for path in found:
        tensors.update(read_file(path, containers))
    return tensors, tuple(found)


def _from_index(
    index: Path, containers: Sequence[str]
) -> tuple[dict[str, LazyArray], tuple[Path, ...]]:
    """The tensors that an index names; every shard must be there and hold what is said of it."""
    try:
        where = texts.read_json(index)["weight_map"]
        names = sorted(set(where.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index}: not an index of shards ({error!r})") from error
    outside = [ascii(name) for name in names if not _is_plain(name)]
    raise_all({"shards outside the folder": outside}, f"{index} cannot be used", _AGAIN)
    files = tuple(index.parent / name for name in names)
    gone = [path.name for path in files if not path.is_file()]
    raise_all({"missing shards": gone}, f"{index} cannot be used", _AGAIN)
    shards = {path.name: read_file(path, containers) for path in files}
    tensors = {key: tensor for shard in shards.values() for key, tensor in shard.items()}
    lost = [key for key in where if strip_wrappers(key) not in shards[where[key]]]
    wrong = {"tensors that their shard does not hold": fold(lost)}
    raise_all(wrong, f"{index} disagrees with the shards", _AGAIN)
    return tensors, files


def _is_plain(name: Any) -> bool:
    """Whether it names a file of the folder itself; the hub's caches make that a link."""
    try:
        return bool(check_name(name))
    except UnsafeNameError:
        return False


def _config(folder: Path) -> tuple[dict[str, Any] | None, Path | None]:
    path = folder / "config.json"
    if not path.is_file():
        return None, None
    return read_json(path), path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; WeightsError naming the file if it is none."""
    with reading(path, WeightsError, "JSON"):
        content = texts.read_json(path)
    if not isinstance(content, dict):
        raise WeightsError(f"{path} is not a JSON object")
    return content


def download(source: str, files: Sequence[str] = WEIGHT_FILES) -> Path:
    """The local folder of `hf:owner/name[@revision][/subfolder]`, downloaded where needed.

    Args:
      source: what to fetch.
      files: patterns of the file names that are wanted.

    Raises:
      WeightsError: another form of name, no huggingface_hub, or no connection.
    """
    parts = re.fullmatch(r"hf:([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+?))?/?", source)
    if not parts:
        raise WeightsError(f"{source}: expected hf:owner/name[@revision][/subfolder]")
    try:
        import huggingface_hub
    except ImportError as error:
        raise WeightsError(
            f"{source}: reading from the hub needs huggingface_hub (pip install huggingface_hub); "
            "or download the folder yourself and give its path"
        ) from error
    repo, revision, subfolder = parts.groups()
    within = f"{subfolder}/" if subfolder else ""
    patterns = [within + end for end in files]
    # The pattern's "*" matches "/" too: keep the pipeline's other models out.
    others = [] if subfolder else [f"{f}*/*" for f in _OTHER_FOLDERS]
    try:
        local = huggingface_hub.snapshot_download(
            repo, revision=revision, allow_patterns=patterns, ignore_patterns=others
        )
    except Exception as error:  # the hub's errors, and those of the network below it
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(
            f"{source} cannot be downloaded ({type(error).__name__}: {line}); check the name and "
            "the connection, or download the folder elsewhere and give its path"
        ) from error
    return Path(local, subfolder) if subfolder else Path(local)
