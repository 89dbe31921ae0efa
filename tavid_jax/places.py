"""Where files lie: a folder, or a bucket (`gs://bucket/run`), by the same few functions.

What a run writes in small pieces it writes into a local copy (`copy_of`), which `push` brings to
the bucket; what it reads at random it reads from one that `pull` has fetched. Of a local path the
copy is the path itself, and nothing is moved: callers need not ask which one they have.

Buckets need `pip install 'tavid_jax[cloud]'`. Copies lie in `$XDG_CACHE_HOME/tavid_jax/copies`
(~/.cache without that variable); a file is copied again where size or time differ. They may be
deleted whenever no run uses them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
from etils import epath

#: a file or folder here, or in a bucket
Place = Path | epath.Path

# Scheme -> what reads it, beside `etils` and `orbax`.
_READERS = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}
# One slash: what pathlib makes of two.
_REMOTE = re.compile(rf"({'|'.join(_READERS)}):/+")
_AT_ONCE = 8
# What file systems say that have no hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class _File(NamedTuple):
    size: int
    time: float  # seconds since 1970, 0 where the bucket does not say


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path names a bucket."""
    return _REMOTE.match(os.fspath(path)) is not None


def place(path: str | os.PathLike) -> Place:
    """A path by its name; nothing is looked up.

    Raises ValueError for a scheme that is not known, one whose reader is not installed, or a name
    in a bucket that has `..` in it.
    """
    text = os.fspath(path)
    found = _REMOTE.match(text)
    if found is None:
        if "://" in text:
            schemes = ", ".join(f"{scheme}://" for scheme in _READERS)
            raise ValueError(f"{text} is no place that is known: give a folder, or {schemes}")
        return Path(text)
    inside = text[found.end() :]
    if not inside or ".." in inside.split("/"):
        raise ValueError(f"{text} names no place in a bucket: give {found[1]}://BUCKET/NAME")
    _prepare(found[1])
    return epath.Path(f"{found[1]}://{inside}")


@functools.cache
def _prepare(scheme: str) -> None:
    reader = _READERS[scheme]
    try:
        import fsspec

        importlib.import_module(reader)
    except ImportError as error:
        mend = "'tavid_jax[cloud]'" if scheme == "gs" else f"fsspec {reader}"
        raise ValueError(f"{scheme}:// needs {reader}: pip install {mend} ({error})") from error
    # Others write beside us (other processes, and storage libraries below this one): what was
    # listed a moment ago says nothing.
    for name in ("gcs", scheme):
        fsspec.config.conf.setdefault(name, {}).setdefault("use_listings_cache", False)


def make_folder(path: Place) -> None:
    """A folder and those above it. A bucket has none, and none is made for a mistyped name."""
    if not is_remote(path):
        path.mkdir(parents=True, exist_ok=True)


def absolute(path: Place) -> Place:
    return path if is_remote(path) else Path(path).absolute()


def move(source: Place, target: Place) -> None:
    """A file or folder to another name, in place of what is there; in a bucket one by one."""
    if not is_remote(source):
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
        return
    target.rmtree(missing_ok=True)
    names = list(_files_in(source))
    old, new = ([_inside(path, name) for name in names] for path in (source, target))
    _filesystem(source).mv(old, new)


def write_text(path: Place, text: str) -> None:
    """Write so that readers see the old file or the new one, never a part."""
    write_bytes(path, text.encode())


def write_bytes(path: Place, content: bytes) -> None:
    """Write so that readers see the old file or the new one, never a part."""
    if is_remote(path):
        _filesystem(path).pipe_file(str(path), content)  # an object appears when it is whole
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def create(path: Place, content: bytes) -> bool:
    """Write unless it is there already, and say so; of several that try, one succeeds."""
    try:
        if is_remote(path):
            _filesystem(path).pipe_file(str(path), content, mode="create")
        elif path.exists():
            return False
        else:
            _create_here(Path(path), content)
    except FileExistsError:
        return False
    return True


def _create_here(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of several machines on one disk two may have processes of the same number.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        partial.write_bytes(content)
        os.link(partial, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _create_alone(path, content)
    finally:
        partial.unlink(missing_ok=True)


def _create_alone(path: Path, content: bytes) -> None:
    """Without links: others may see it half written, but it does not stay so."""
    with path.open("xb") as file:
        try:
            file.write(content)
            file.flush()
        except OSError:
            path.unlink()
            raise


def sizes(path: Place) -> dict[str, int]:
    """{name below path: bytes} of all files, in a folder the visible ones; `path` itself is ""."""
    if not is_remote(path):
        return _local_files(Path(path))
    return {name: file.size for name, file in _files_in(path).items()}


def copy_of(path: Place) -> Path:
    """Where the local copy of a bucket's file or folder lies; of a local path, the path itself."""
    if not is_remote(path):
        return Path(path)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return caches / "tavid_jax" / "copies" / str(path).replace("://", "/", 1)


def pull(path: Place, *, missing_ok: bool = False) -> Path:
    """Make the local copy equal to what lies in the bucket, and return it; says how it goes on.

    Several processes may do so at once.

    Args:
      missing_ok: whether there may be nothing, which leaves an empty copy.

    Raises FileNotFoundError when nothing is there, ValueError for objects whose names lead out of
    the folder, OSError when the disk does not take it.
    """
    local = copy_of(path)
    if not is_remote(path):
        return local
    there = _files_in(path)
    if not there and not missing_ok:
        raise FileNotFoundError(f"{path} is not there")
    for name in there:
        if {"..", "."} & set(name.split("/")) or "\\" in name or name.startswith("/"):
            raise ValueError(f"{path} holds an object named {name!r}, which leads out of it")
    if "" not in there:
        for file in _local_files(local).keys() - there.keys():
            (local / file).unlink(missing_ok=True)
    wanted = {name: file for name, file in there.items() if not _same(local / name, file)}
    files = _filesystem(path)

    def fetch(name: str) -> int:
        target = local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            files.get_file(_inside(path, name), str(part))
            os.utime(part, (there[name].time,) * 2)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return there[name].size

    _copy(f"{path} -> {local}", fetch, {name: file.size for name, file in wanted.items()})
    return local


def push(path: Place, *, last: str = "", strict: bool = True) -> None:
    """Bring what is new in the local copy to the bucket; of a local path there is nothing to do.

    Args:
      last: name of the file by which readers know that all the others are there.
      strict: whether a failure is raised; else it costs a warning, and the next push tries again.
    """
    if not is_remote(path):
        return
    try:
        _push(path, last)
    except Exception as error:
        if strict:
            raise
        logging.warning("%s is not up to date: %s", path, error)


def _push(path: Place, last: str) -> None:
    local, files = copy_of(path), _filesystem(path)
    there = _files_in(path)
    new = {
        name: size
        for name, size in _local_files(local).items()
        if name not in there or not _same(local / name, there[name])
    }

    def send(name: str) -> int:
        target = _inside(path, name)
        files.put_file(str(local / name), target)
        os.utime(local / name, (_file(files.info(target)).time,) * 2)
        return (local / name).stat().st_size

    ends = {name: new.pop(name) for name in (last,) if name and name in new}
    _copy(f"{local} -> {path}", send, new)
    for name in ends:
        send(name)


def _copy(what: str, one: Any, sizes: dict[str, int]) -> None:
    """Copy files, several at once, with a line now and then."""
    if not sizes:
        return
    total, done = sum(sizes.values()), 0
    begun = shown = time.perf_counter()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="copy") as pool:
        for size in pool.map(one, sizes):
            done, now = done + size, time.perf_counter()
            if now - shown > 5:
                rate, shown = done / (now - begun), now
                left = (total - done) / max(rate, 1)
                logging.info(
                    "%s: %.1f of %.1f GB | %.0f MB/s | %.0f s left",
                    what,
                    done / 1e9,
                    total / 1e9,
                    rate / 1e6,
                    left,
                )


def _filesystem(path: Place) -> Any:
    import fsspec

    return fsspec.core.url_to_fs(str(path))[0]


def _inside(path: Place, name: str) -> str:
    return f"{path}/{name}" if name else str(path)


def _files_in(path: Place) -> dict[str, _File]:
    """{name below path: what is known of it}; the name of `path` itself is ""."""
    files = _filesystem(path)
    root = files._strip_protocol(str(path))
    found = files.find(str(path), detail=True)
    return {
        name[len(root) + 1 :]: _file(facts)
        for name, facts in found.items()
        if facts.get("type") != "directory" and not name.endswith("/")
    }


def _local_files(folder: Path) -> dict[str, int]:
    """{name below folder: bytes}, without what is hidden; of a file, the name is ""."""
    if folder.is_file():
        return {"": folder.stat().st_size}
    found: Iterable[Path] = (file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for file in found
        if not file.name.startswith(".")
    }


def _file(facts: dict[str, Any]) -> _File:
    when = facts.get("mtime") or facts.get("updated") or facts.get("LastModified") or 0
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    return _File(int(facts["size"]), when.timestamp() if isinstance(when, datetime) else when)


def _same(local: Path, file: _File) -> bool:
    try:
        here = local.stat()
    except FileNotFoundError:
        return False
    return here.st_size == file.size and abs(here.st_mtime - file.time) < 1e-3
