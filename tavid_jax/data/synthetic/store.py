"""Synthetic scenes on disk: built once, then read at random."""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging

from tavid_jax.data.clip import Clip
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.records import decode_record
from tavid_jax.data.synthetic.seeds import split_seeds

_ABANDONED = 600.0  # seconds without a write after which an unfinished build counts as dead
_PIXELS = ("video", "segment_map")

# TFDS is imported where it is used: it takes a second, and scenes in memory need none of it.


class TfdsSource:
    """Clips of a data set that `open_synthetic` built.

    Reading is thread-safe (each `__getitem__` is independent) and the source can be sent to
    other processes, which open the files anew.

    Args:
      data_dir: root folder of the data sets.
      split: "train" or "test".
      config: distribution of scenes.
      num_scenes: size of the split.
      video: False leaves video and segment map packed and unread.

    Raises:
      FileNotFoundError: no complete data set of this config lies in `data_dir`.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike,
        split: str,
        config: SceneConfig,
        num_scenes: int,
        *,
        video: bool = True,
    ):
        self._arguments = (os.fspath(data_dir), split, config, num_scenes)
        self._video = video
        self.config, self.split = config, split
        self.name = f"synthetic-{split}-{config.digest()}"
        self._open()

    def _open(self) -> None:
        builder = _builder(*self._arguments)
        if not _is_complete(builder, self._arguments):
            raise FileNotFoundError(
                f"no complete data set of these scenes in {builder.data_dir}: "
                "build it with open_synthetic(...)"
            )
        decoders = None
        if not self._video:
            import tensorflow_datasets as tfds

            skip = tfds.decode.SkipDecoding()
            hidden = set(_PIXELS) & set(builder.info.features)
            decoders = dict.fromkeys(hidden, skip)
            if self.config.twins:
                decoders["twin"] = dict(decoders)
        self._records = builder.as_data_source(self._arguments[1], decoders=decoders)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Clip:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)} in {self.name}")
        record = self._records[index % len(self)]
        if not self._video:
            record = _without_pixels(record)
        return decode_record(self.config, record)

    def __getstate__(self):
        return {**self.__dict__, "_records": None}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._open()

    def __repr__(self) -> str:
        return f"TfdsSource({self.name}, {len(self)} scenes in {self._arguments[0]})"


def _without_pixels(record: dict) -> dict:
    """A record, and its twin's, without what was left packed."""
    kept = {name: value for name, value in record.items() if name not in _PIXELS}
    return kept | ({"twin": _without_pixels(record["twin"])} if "twin" in record else {})


def open_synthetic(
    data_dir: str | os.PathLike,
    config: SceneConfig,
    split: str,
    num_scenes: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    workers: int | None = None,
    video: bool = True,
) -> TfdsSource:
    """Opens scenes on disk; draws and writes them first if they are not there.

    The folder's name holds a hash of the config, so data of another config is never read.  TFDS
    writes into a temporary folder and renames it at the end: what is half written is not found.

    Args:
      data_dir: root folder of the data sets.
      config: distribution of scenes.
      split: "train" or "test"; the seeds are the first of `seeds.split_seeds`.
      num_scenes: scenes of the split.
      progress: called with (done, total) while building.
      workers: processes that draw; one per core if None.
      video: False reads tracks only (the video stays on disk).

    Returns:
      Source of `num_scenes` clips.

    Raises:
      ValueError: no scenes asked for, or unknown split.
      OSError: the folder cannot be written or its disk is full.
    """
    if num_scenes < 1:
        raise ValueError(f"num_scenes={num_scenes}: at least one scene is needed")
    split_seeds(split, num_scenes)  # before anything is written
    arguments = (os.fspath(data_dir), split, config, num_scenes)
    with _explained(data_dir):
        Path(data_dir).mkdir(parents=True, exist_ok=True)
        if not _is_complete(_builder(*arguments), arguments):
            with _one_at_a_time(data_dir, config):
                _make(arguments, workers, progress)
    return TfdsSource(data_dir, split, config, num_scenes, video=video)


@contextlib.contextmanager
def _one_at_a_time(data_dir, config: SceneConfig) -> Iterator[None]:
    """Of several processes that want the same scenes one draws them, and the others wait for it."""
    with Path(data_dir, f".{config.digest()}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("waiting for another process that draws these scenes")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # some network file systems know no locks: both draw, one set is kept
            pass
        yield


def _make(arguments, workers, progress) -> None:
    builder = _builder(*arguments, workers=workers, progress=progress)
    if _is_complete(builder, arguments):  # by now
        return
    if os.path.exists(builder.data_dir):
        logging.warning("data set %s is damaged: drawing it again", builder.data_dir)
        shutil.rmtree(builder.data_dir)
        builder = _builder(*arguments, workers=workers, progress=progress)
    _build(builder, arguments)


def _builder(data_dir, split, config, num_scenes, *, workers=None, progress=None):
    from tavid_jax.data.synthetic.builder import MotionScenes, MotionScenesConfig

    named = MotionScenesConfig.of(config, {split: num_scenes}, workers=workers)
    return MotionScenes(config=named, data_dir=data_dir, progress=progress)


def _is_complete(builder, arguments) -> bool:
    """Whether the data set is there with every record it promises."""
    _, split, _, num_scenes = arguments
    if not os.path.exists(builder.data_dir):
        return False
    info = builder.info.splits.get(split)
    if info is None or info.num_examples != num_scenes:
        return False
    shards = zip(info.filenames, info.shard_lengths, strict=True)
    return all(_num_records(Path(builder.data_dir, name)) == length for name, length in shards)


def _num_records(path: Path) -> int:
    """Records of an ArrayRecord file; -1 if it is missing or has no proper end."""
    from array_record.python import array_record_module

    try:
        reader = array_record_module.ArrayRecordReader(os.fspath(path))
        count = reader.num_records()
        reader.close()
    except (OSError, RuntimeError, ValueError, IndexError):
        return -1
    return count


def _build(builder, arguments) -> None:
    """Draws and writes, if there is room."""
    data_dir, split, config, num_scenes = arguments
    target = Path(builder.data_dir)
    _remove_leftovers(target)
    needed = num_scenes * _bytes_per_scene(config)
    free = shutil.disk_usage(data_dir).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"{num_scenes} scenes need about {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free",
        )
    logging.info("drawing %d scenes (%s) into %s", num_scenes, split, target)
    try:
        with tempfile.TemporaryDirectory() as nothing:  # TFDS wants a folder for downloads
            builder.download_and_prepare(download_dir=nothing, file_format="array_record")
    except OSError:
        if target.exists():  # another process was faster: its data are the same
            return
        raise


def _remove_leftovers(target: Path) -> None:
    """Deletes what killed builds of this data set left behind, but not a build under way."""
    for folder in target.parent.glob(f"incomplete.*_{target.name}"):
        newest = max(path.stat().st_mtime for path in (folder, *folder.glob("*")))
        if time.time() - newest > _ABANDONED:
            logging.info("removing the unfinished data set %s", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _bytes_per_scene(config: SceneConfig) -> int:
    """A cautious guess of what a record takes on disk."""
    (H, W), (gh, gw), T = config.size_hw, config.grid_hw, config.num_frames
    pixels = H * W * T
    clip = int(12 * gh * gw * T + 4000 + (1.8 * pixels if config.render else 0))
    return clip * (1 + config.twins)


@contextlib.contextmanager
def _explained(data_dir) -> Iterator[None]:
    """Turns errors of the file system into one sentence with the folder and the mend."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EACCES: "no permission to write there",
            errno.EPERM: "no permission to write there",
            errno.EROFS: "the file system is read-only",
            errno.ENOTDIR: "a part of this path is a file",
            errno.EEXIST: "there is a file of this name",
        }
        reason = reasons.get(error.errno, "writing failed")
        raise OSError(
            error.errno,
            f"cannot write synthetic scenes to {os.fspath(data_dir)}: {reason} ({error}); "
            "free some space or choose another folder",
        ) from error
