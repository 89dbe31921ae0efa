"""The folder of a run: its config, its lock, and the places of its stages."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from tavid_jax import places
from tavid_jax.engine import lock, trees
from tavid_jax.parallel.processes import first_does, index
from tavid_jax.places import Place

#: what a disk that is full, over quota or read-only answers
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


#: what writers leave beside their files when they are killed
_HALF_WRITTEN = (
    ".*.part",
    "*/.*.part",
    "stages/*/.*.part",
    "stages/*/*.orbax-checkpoint-tmp*",
)


class WorkdirError(RuntimeError):
    """The folder cannot be used for this run."""


def holds_run(folder: Place) -> bool:
    """Whether a run was begun there. Raises WorkdirError for a bucket that cannot be asked."""
    try:
        return (folder / "config.json").exists()
    except Exception as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Place, error: Exception) -> WorkdirError:
    if isinstance(error, WorkdirError):
        return error
    if places.is_remote(folder):
        return WorkdirError(
            f"workdir {folder} cannot be used ({type(error).__name__}: {error}); look at the "
            "bucket's name and whether this machine may write there "
            "(`gcloud auth application-default login`)"
        )
    return WorkdirError(
        f"workdir {folder} cannot be written ({getattr(error, 'strerror', error)}); "
        "make it writable or choose another one by --workdir"
    )


class Workdir:
    """Opens (and creates) a run's folder and holds its lock until the process ends.

    Of several processes the first one does so; all of them see the same folder.

    The folder may lie in a bucket ("gs://bucket/run"); see `places` for what of it is written here
    first, and `lock` for what stands for the lock.

    Raises WorkdirError when the folder cannot be written, when another process uses it, or when
    it was begun with another config.
    """

    def __init__(self, folder: str | Place, config: Any, volatile: Sequence[str] = ()):
        self.path = places.place(folder)
        # Through JSON, so that it compares equal to what is read back.
        self.config = json.loads(json.dumps(to_plain(config), default=str))
        self.fingerprint = config_hash(self.config, volatile)
        self._lock = None
        first_does(lambda: self._open(volatile))
        if not (self.path / "config.json").exists():
            raise WorkdirError(
                f"workdir {self.path} was made by process 0 and is not there for process {index()}:"
                " give a --workdir that all hosts share, or gs://bucket/name"
            )

    def _open(self, volatile: Sequence[str]) -> None:
        try:
            places.make_folder(self.path)
            self._take_lock()
            self._check_config(volatile)
            self._sweep()
            write_json(self.path / "config.json", self.config)
        except Exception as error:
            self.close()
            if isinstance(error, OSError) or places.is_remote(self.path):
                raise _unusable(self.path, error) from error
            raise

    def _take_lock(self) -> None:
        try:
            self._lock = lock.take(self.path)
        except lock.InUse as held:
            raise WorkdirError(
                f"workdir {self.path} is in use {held}; wait for it or choose another"
            ) from None

    def _check_config(self, volatile: Sequence[str]) -> None:
        known = self.path / "config.json"
        # Until a stage has begun there is nothing that another config could spoil.
        if not known.exists() or not (self.path / "stages").exists():
            return
        try:
            there = json.loads(known.read_text())
        except ValueError as error:
            raise WorkdirError(f"{known} is damaged ({error}); choose another --workdir") from error
        old, new = strip(there, volatile), strip(self.config, volatile)
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

    def _sweep(self) -> None:
        """Deletes what a killed process has left half-written; nobody else is at work here."""
        if places.is_remote(self.path):
            return
        for glob in _HALF_WRITTEN:
            for left in self.path.glob(glob):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)

    def keep(self, name: str, facts: Mapping[str, Any], mend: str) -> None:
        """Facts that may not change while the run goes on: written at its beginning, into
        `<name>.json`, and compared at every other start.

        Raises WorkdirError with those that have changed, and the mend.
        """
        known = self.path / f"{name}.json"
        if not known.exists() or not (self.path / "stages").exists():
            write_json(known, facts)
            return
        try:
            there = json.loads(known.read_text())
            changed = {key: there.get(key) for key in facts if there.get(key) != facts[key]}
        except (ValueError, AttributeError) as error:
            raise WorkdirError(f"{known} is damaged ({error}); choose another --workdir") from error
        if changed:
            told = "; ".join(f"{key}: {old} then, {facts[key]} now" for key, old in changed.items())
            raise WorkdirError(f"workdir {self.path} was begun with other {name} ({told}): {mend}")

    def stage(self, name: str) -> Place:
        return self.path / "stages" / name

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()


def to_plain(config: Any) -> Any:
    """A config tree as JSON-able dicts and lists."""
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_plain(value) for value in config]
    return config


def strip(config: Mapping[str, Any], volatile: Sequence[str]) -> dict[str, Any]:
    """{"a.b.c": leaf} of a plain config without what does not change what is trained.

    Args:
      volatile: dotted keys, with all that lies under them; `*` stands for anything
        ("report", "stages.*.log_every").
    """
    leaves = {path.replace("/", "."): leaf for path, leaf in trees.flatten(config).items()}
    return {
        key: leaf
        for key, leaf in leaves.items()
        if not any(fnmatchcase(key, v) or fnmatchcase(key, f"{v}.*") for v in volatile)
    }


def config_hash(config: Any, volatile: Sequence[str] = ()) -> str:
    """A short hash of everything in the config that changes what is trained."""
    text = json.dumps(strip(to_plain(config), volatile), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def raise_if_disk(error: OSError, folder: Place) -> None:
    """Turn an error of a full or read-only disk into a WorkdirError that says what to do."""
    if error.errno in DISK_ERRORS:
        raise WorkdirError(
            f"{folder} takes no more ({error.strerror}: {error.filename or folder}); free space or "
            "make it writable, then run the same command again: finished steps are kept"
        ) from error


def write_json(path: Place, value: Any) -> None:
    """Write JSON so that readers see the old file or the new one, never a part."""
    text = json.dumps(value, indent=2, sort_keys=True, default=str)
    places.write_text(path, text + "\n")
