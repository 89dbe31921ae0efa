"""The folder of a run: its config, its lock, and the places of its stages."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tavid_jax.engine import trees


class WorkdirError(RuntimeError):
    """The folder cannot be used for this run."""


class Workdir:
    """Opens (and creates) a run's folder and holds its lock until the process ends.

    Raises WorkdirError when the folder cannot be written, when another process uses it, or when
    it was begun with another config.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any], volatile: tuple[str, ...]):
        self.path = Path(folder)
        self.config = to_plain(config)
        self.fingerprint = config_hash(self.config, volatile)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise WorkdirError(
                f"workdir {self.path} cannot be written ({error.strerror}); "
                "choose another one by --workdir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WorkdirError(
                f"workdir {self.path} is in use by another process; wait for it or choose another"
            ) from None
        self._check_config(volatile)
        write_json(self.path / "config.json", self.config)

    def _check_config(self, volatile: tuple[str, ...]) -> None:
        known = self.path / "config.json"
        if not known.exists():
            return
        old, new = (
            trees.flatten(strip(c, volatile)) for c in (json.loads(known.read_text()), self.config)
        )
        differing = [
            f"  {key}: {old.get(key, '(absent)')!r} there, {new.get(key, '(absent)')!r} now"
            for key in sorted(old.keys() | new.keys())
            if old.get(key, "(absent)") != new.get(key, "(absent)")
        ]
        if differing:
            shown = "\n".join(differing[:12] + (["  ..."] if len(differing) > 12 else []))
            raise WorkdirError(
                f"workdir {self.path} belongs to a run of another config; these keys differ:\n"
                f"{shown}\nSet them back, or choose another --workdir"
            )

    def stage(self, name: str) -> Path:
        return self.path / "stages" / name

    def close(self) -> None:
        self._lock.close()


def to_plain(config: Any) -> Any:
    """A config tree as JSON-able dicts and lists."""
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_plain(value) for value in config]
    return config


def strip(config: Mapping[str, Any], volatile: tuple[str, ...]) -> dict[str, Any]:
    """The config without the top-level keys that do not change what is trained."""
    return {key: value for key, value in config.items() if key not in volatile}


def config_hash(config: Mapping[str, Any], volatile: tuple[str, ...] = ()) -> str:
    """A short hash of everything in the config that changes what is trained."""
    text = json.dumps(strip(config, volatile), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that readers see the old file or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")
    temporary.replace(path)
