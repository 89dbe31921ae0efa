"""`MotionScenes`: the synthetic scenes as a TFDS data set in ArrayRecord, without TensorFlow.

TFDS writes and reads records with its own protocol buffers; TensorFlow is only touched by its
shuffling writer and by `as_dataset`.  `ShardBasedBuilder` writes every shard in the order given, so
clip i of a split is the scene of the split's i-th seed, and `as_data_source` reads it.
"""

import contextlib
import dataclasses
import errno
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from array_record.python import array_record_module

from tavid_jax.data.synthetic.config import GENERATOR_VERSION, SceneConfig
from tavid_jax.data.synthetic.seeds import split_seeds
from tavid_jax.data.synthetic.workers import draw_records

SCENES_PER_SHARD = 256


class PackedTensor(tfds.features.Tensor):
    """A tensor stored zlib-compressed, which may be handed over already compressed.

    TFDS compresses at zlib's default level in the writing process; scenes come compressed from
    the processes that draw them.
    """

    def encode_example(self, example_data):
        """Bytes are taken as they are, arrays are compressed."""
        return (
            example_data
            if isinstance(example_data, bytes)
            else super().encode_example(example_data)
        )


class _PlainArrayRecordWriter(tfds.core.ExampleWriter):
    """Writes ArrayRecord without a second compression of what is compressed."""

    def write(self, path, examples: Iterable[tuple[int, bytes]]) -> None:
        with _file_errors():
            writer = array_record_module.ArrayRecordWriter(
                os.fspath(path), "group_size:1,uncompressed"
            )
        for _, record in examples:
            with _file_errors():
                writer.write(record)
        with _file_errors():
            writer.close()


@contextlib.contextmanager
def _file_errors():
    """ArrayRecord reports errors of the file system as RuntimeError: makes them OSError."""
    try:
        yield
    except RuntimeError as error:
        codes = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
        code = next((c for c in codes if os.strerror(c) in str(error)), errno.EIO)
        raise OSError(code, str(error)) from error


@dataclasses.dataclass(eq=False)
class MotionScenesConfig(tfds.core.BuilderConfig):
    """One data set: a distribution of scenes and how many of each split.

    Attributes:
      scene: distribution; its hash is part of `name` and so of the folder, and data of a changed
        config is never read by mistake.
      splits: (split, number of scenes) pairs; see `seeds` for what a split is.
      workers: processes that draw (not part of the name: the result is the same).
    """

    scene: SceneConfig = SceneConfig()
    splits: tuple[tuple[str, int], ...] = (("train", 6000), ("test", 200))
    workers: int | None = None

    @classmethod
    def of(cls, scene: SceneConfig, splits: dict[str, int], *, prefix="", workers=None):
        """The builder config of a scene config, named after all that decides the content."""
        counts = "-".join(f"{split}{count}" for split, count in splits.items())
        name = f"{prefix or 'scenes'}-{counts}-{scene.digest()}"
        return cls(name=name, scene=scene, splits=tuple(splits.items()), workers=workers)


def _features(config: SceneConfig) -> tfds.features.FeaturesDict:
    """Every field of a clip, and of its twin if the config has twins."""
    features = _clip_features(config)
    if config.twins:
        features["twin"] = tfds.features.FeaturesDict(_clip_features(config))
    return tfds.features.FeaturesDict({**features, "seed": tfds.features.Scalar(np.int64)})


def _clip_features(config: SceneConfig) -> dict:
    """Every field of a clip; video and segment map only if the config renders."""
    T, (H, W), (gh, gw) = config.num_frames, config.size_hw, config.grid_hw
    N = gh * gw
    packed = functools.partial(PackedTensor, encoding="zlib")
    features = {
        "id": tfds.features.Text(),
        "tracks": tfds.features.Tensor(shape=(N, T, 2), dtype=np.float32, encoding="bytes"),
        "segment": tfds.features.Tensor(shape=(N,), dtype=np.int32, encoding="bytes"),
        "visibility": packed(shape=(N, T), dtype=np.bool_),
        "depth": packed(shape=(N, T), dtype=np.float32),
        "masks": packed(shape=(None, H, W), dtype=np.bool_),
        "caption": tfds.features.Text(),
        "local_captions": tfds.features.Sequence(tfds.features.Text()),
        "kinds": tfds.features.Sequence(tfds.features.Text()),
        "actor": tfds.features.Scalar(np.int32),
        "target": tfds.features.Scalar(np.int32),
        "contact_frame": tfds.features.Scalar(np.int32),
    }
    if config.render:
        features["video"] = packed(shape=(T, H, W, 3), dtype=np.uint8)
        features["segment_map"] = packed(shape=(T, H, W), dtype=np.uint8)
    return features


class MotionScenes(tfds.core.ShardBasedBuilder):
    """Moving textured sprites with exact tracks, visibility, masks and captions.

    Use `open_synthetic` (it builds, checks and reads), or as any TFDS builder:

      builder = MotionScenes(config="demo", data_dir=...)
      builder.download_and_prepare(file_format="array_record")
      source = builder.as_data_source("train")
    """

    VERSION = tfds.core.Version(f"{GENERATOR_VERSION}.0.0")
    BUILDER_CONFIGS = [
        MotionScenesConfig(name="demo", description="Scenes of the forecasting demo."),
        MotionScenesConfig(
            name="interaction",
            description="An actor walks to one of several look-alikes.",
            scene=SceneConfig(interaction=True),
        ),
    ]

    def __init__(self, *, progress: Callable[[int, int], None] | None = None, **kwargs):
        """As `tfds.core.DatasetBuilder`, with `progress(done, total)` called while building."""
        self._progress = progress
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__class__.__doc__,
            features=_features(self.builder_config.scene),
        )

    def _shard_iterators_per_split(self, dl_manager):
        """Consecutive slices of one stream of records per split (shards are written in order)."""
        del dl_manager
        config = self.builder_config
        total, done = sum(count for _, count in config.splits), itertools.count(1)

        def stream(split: str, count: int) -> Iterator[tuple[int, dict]]:
            for record in draw_records(config.scene, split_seeds(split, count), config.workers):
                drawn = next(done)
                if self._progress and (drawn % 32 == 0 or drawn == total):
                    self._progress(drawn, total)
                yield int(record["seed"]), record

        shards = {}
        for split, count in config.splits:
            records = stream(split, count)
            sizes = [
                min(SCENES_PER_SHARD, count - start) for start in range(0, count, SCENES_PER_SHARD)
            ]
            shards[split] = [functools.partial(itertools.islice, records, size) for size in sizes]
        return shards

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return _PlainArrayRecordWriter(file_format=self.info.file_format)

    # TFDS warns about configs that are not in the class and prints to standard output.

    def _create_builder_config(self, builder_config, version):
        if isinstance(builder_config, MotionScenesConfig):
            return builder_config
        return super()._create_builder_config(builder_config, version)

    def _log_download_bytes(self) -> None:
        logging.info("writing scenes to %s", self.data_dir)

    def _log_download_done(self) -> None:
        logging.info("scenes are ready in %s", self.data_dir)
