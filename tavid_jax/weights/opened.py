"""Parameters of a checkpoint of any form: published, or imported to disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavid_jax.weights.identified import identify
from tavid_jax.weights.imported import imported_leaves, is_imported, read_record, recorded_config
from tavid_jax.weights.lazy import LazyArray


@dataclass(frozen=True)
class Opened:
    """Parameters that are read when asked for.

    Attributes:
      origin: what the user called the checkpoint.
      name: key of `CHECKPOINTS`.
      config: of the model.
      preset: published name of the config, None if it has none.
      leaves: path -> parameter.
      record: for an imported folder, content of its weights.json.
    """

    origin: str
    name: str
    config: Any
    preset: str | None
    leaves: Mapping[str, LazyArray]
    record: Mapping[str, Any] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all parameters."""
        return sum(leaf.nbytes for leaf in self.leaves.values())


def open_parameters(source: str | Path, name: str | None = None, config: Any = None) -> Opened:
    """Open anything that holds parameters; nothing is read yet.

    Args:
      source: an imported folder, or file, folder or `hf:` name of a published checkpoint.
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
    found = identify(source, name, config)
    return Opened(str(source), found.name, found.config, found.preset, found.plan())
