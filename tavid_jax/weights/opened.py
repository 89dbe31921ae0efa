"""Parameters of a checkpoint of any form: published, or imported to disk."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavid_jax.weights.identified import identify
from tavid_jax.weights.imported import imported_leaves, is_imported, read_record, recorded_config
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.model_json import PARAMETER_FREE, class_of, config_from_json, preset_of
from tavid_jax.weights.source import read_json

# Bytes at each end of a file that tell it from another.
_LOOKED_AT = 2**20


@dataclass(frozen=True)
class Opened:
    """Parameters that are read when asked for.

    Attributes:
      origin: what the user called the checkpoint.
      name: key of `CHECKPOINTS`, or the class of a model without parameters.
      config: of the model.
      preset: published name of the config, None if it has none.
      leaves: path -> parameter.
      record: for an imported folder, content of its weights.json.
      files: of a published checkpoint.
    """

    origin: str
    name: str
    config: Any
    preset: str | None
    leaves: Mapping[str, LazyArray]
    record: Mapping[str, Any] | None = None
    files: tuple[Path, ...] = ()

    def fingerprint(self) -> str:
        """Tells these weights from others: the content's hash where one is recorded, otherwise one
        of the files' names, sizes, beginnings and ends (gigabytes are not read for it).
        """
        if self.record is not None:
            return self.record["weights"]
        digest = hashlib.sha256()
        for file in self.files:
            size = file.stat().st_size
            digest.update(f"{file.name} {size} ".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(_LOOKED_AT))
                stream.seek(max(0, size - _LOOKED_AT))
                digest.update(stream.read())
        return digest.hexdigest()[:12]

    @property
    def nbytes(self) -> int:
        """Bytes of all parameters."""
        return sum(leaf.nbytes for leaf in self.leaves.values())


def open_parameters(source: str | Path, name: str | None = None, config: Any = None) -> Opened:
    """Open anything that holds parameters; nothing is read yet.

    Args:
      source: an imported folder, or file, folder or `hf:` name of a published checkpoint; of a
        model without parameters the folder of its config.json.
      name, config: for a published one, see `identify`.

    Raises:
      WeightsError: nothing usable there, or it does not fit its config.
    """
    if is_imported(source):
        folder = Path(source).expanduser()
        record = read_record(folder)
        return Opened(
            str(source),
            record["kind"],
            recorded_config(record),
            record["preset"],
            imported_leaves(folder),
            record,
        )
    if name is None and _is_parameter_free(source):
        return _without_parameters(Path(source).expanduser())
    found = identify(source, name, config)
    return Opened(
        str(source),
        found.name,
        found.config,
        found.preset,
        found.plan(),
        files=found.source.files,
    )


def _is_parameter_free(source: str | Path) -> bool:
    path = Path(source).expanduser() / "config.json"
    return path.is_file() and class_of(read_json(path)) in PARAMETER_FREE


def _without_parameters(folder: Path) -> Opened:
    path = folder / "config.json"
    config = config_from_json(path)
    name = class_of(read_json(path))
    return Opened(str(folder), name, config, preset_of(config), {}, files=(path,))
