"""Sources by name, as a config describes them: what the engine and the methods read from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from tavid_jax.data.augment import Augmentation
from tavid_jax.data.clip import Clip
from tavid_jax.data.folder import ClipFolder, open_clips
from tavid_jax.data.masks import option
from tavid_jax.data.pipeline import Batch, batches
from tavid_jax.data.plan import Plan
from tavid_jax.data.records import RecordSource, RecordWriter
from tavid_jax.data.shards import ShardedRecords, write_shards
from tavid_jax.data.synthetic import (
    SceneConfig,
    open_synthetic,
    sample_scene,
    scene_clip,
    split_seeds,
)


class ConfiguredInputs:
    """Opens what `config.data`, `config.clips` and `config.train_clips` name.

    Names: "train" (synthetic scenes, or the user's training clips), "test" (unseen synthetic
    scenes), further sets of scenes in `data.splits`, "held_out" (the last part of the training
    clips), "clips" (videos to forecast), and the name of any compute stage (the examples that it
    cached).

    `progress(done, total)` is called while scenes are drawn.
    """

    def __init__(
        self, config: Any, workdir: Path, progress: Callable[[int, int], None] | None = None
    ):
        self.config, self.workdir, self._progress = config, Path(workdir), progress
        self._data_dir = Path(config.data_dir).expanduser()

    @property
    def window(self) -> int:
        """Frames of a clip: of one window, or of history and future."""
        return self.config.data.windows * self.config.data.frames

    def open(self, name: str) -> Any:
        """The source of that name. Raises ValueError listing the names there are."""
        if name in self.config.stages:
            return self._made(name)
        known = {
            "train": self._train,
            "test": functools.partial(self._synthetic_split, "test"),
            "held_out": lambda: self._training_clips[1],
            "clips": lambda: self._forecast_clips,
        }
        # Further sets of scenes, beside "train" and "test": each has its own fields.
        for other in set(self.config.data.get("splits", {})) - {"train", "test"}:
            known[other] = functools.partial(self._synthetic_split, other)
        if name not in known:
            raise ValueError(
                f"no data set {name!r}; there are {', '.join(known)} and the compute stages"
            )
        return known[name]()

    def open_scenes(self, changes: Any, count: int) -> Any:
        """The first `count` test scenes of `config.data.scene` with some fields changed.

        Raises ValueError for what no scene can be made from.
        """
        return self._synthetic("test", changes, count)

    def batches(self, source: Any, prepare: Any, **options: Any) -> Iterator[Batch]:
        """See `pipeline.batches`; training clips of the user are augmented on the way."""
        data = self.config.data
        if isinstance(source, ClipFolder) and source.name == "train":
            prepare = _Augmented(prepare, Augmentation(**data.augment.to_dict()))
        return batches(
            source,
            prepare,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            threads=data.threads,
            workers=data.workers,
            **options,
        )

    def cache(self, folder: Path, meta: dict[str, Any]) -> RecordWriter:
        return RecordWriter(folder, meta)

    def encode(
        self, name: str, folder: Path, method: Any, progress: Callable[[int, int], None]
    ) -> None:
        """See `engine.inputs.Inputs`; a cache that the config names is only checked."""
        if self.config.get("cache"):
            ShardedRecords(self.config.cache, expect=method.requirements())
            return
        stage = self.config.stages[name]
        source = self.open(stage.data)
        if isinstance(source, ClipFolder):
            source.check_captions()
        plan = Plan.of(source, method.facts(), stage.shard_size)
        hosts = {"index": jax.process_index(), "count": jax.process_count()}
        write_shards(folder, plan, source, method, progress=progress, **hosts)

    def _made(self, name: str) -> Any:
        """What a compute or encode stage has made."""
        folder = self.workdir / "stages" / name / "cache"
        if self.config.stages[name].kind == "encode":
            return ShardedRecords(self.config.get("cache") or folder)
        return RecordSource(folder)

    def frames(self, source: Any, index: int, height: int) -> UInt8[np.ndarray, "T H W 3"]:
        """The frames of a clip again, `height` pixels high, for pictures that people look at."""
        h, w = self.config.data.size_hw
        if isinstance(source, ClipFolder):
            return source.clip_frames(index, (height, round(w * height / h)))
        scene = sample_scene(source.config, split_seeds(source.split, len(source))[index])
        return scene_clip(scene, scale=height / h).video

    def _train(self) -> Any:
        if self.config.train_clips:
            return self._training_clips[0]
        return self._synthetic_split("train")

    def _synthetic_split(self, name: str) -> Any:
        """Scenes of a set; those of names that begin with "test" are never trained on."""
        data = self.config.data
        split = "test" if name.startswith("test") else "train"
        return self._synthetic(split, data.splits[name], data.scenes[name])

    def _synthetic(self, split: str, changes: Any, count: int) -> Any:
        data = self.config.data
        fields = {name: data[name] for name in ("size_hw", "stride", "origin") if name in data}
        fields |= {"num_frames": self.window, **data.scene, **changes}
        scenes = SceneConfig.from_dict(fields)
        return open_synthetic(self._data_dir, scenes, split, count, progress=self._progress)

    # Opened once: every file is looked at, and what is wrong with it is said.
    @functools.cached_property
    def _training_clips(self) -> tuple[ClipFolder, ClipFolder]:
        clips = self.config.data.clips
        folder = self.open_clips(self.config.train_clips, clips.train_hop)
        nothing = ClipFolder(folder.config, folder.files, ())
        train, held_out = folder.split(clips.holdout) if clips.holdout else (folder, nothing)
        train.name, held_out.name = "train", "held_out"
        return train, held_out

    @functools.cached_property
    def _forecast_clips(self) -> ClipFolder:
        if not self.config.clips:
            raise ValueError("no clips to forecast: give --config.clips=FOLDER")
        return self.open_clips(self.config.clips, self.config.data.clips.hop)

    def open_clips(self, paths: str, hop: int = 0) -> ClipFolder:
        """Videos as windows of this config's size, tracked where no track file is there.

        A config without a stride has no grid to track. `config.data.clips.masks` is "" (none),
        "beside" (beside the videos) or a folder.
        """
        data = self.config.data
        return open_clips(
            paths,
            size_hw=tuple(data.size_hw),
            num_frames=self.window,
            stride=data.get("stride", 0),
            origin=data.get("origin", "topleft"),
            fps=data.clips.fps or None,
            hop=hop or None,
            captions=data.clips.captions or None,
            tracks=data.clips.tracks or None,
            cache_dir=self._data_dir / "tracks",
            track="stride" in data,
            masks=option(data.clips.get("masks")),
            selected=data.clips.get("selected") or None,
        )


class _Augmented:
    """`prepare` after a random augmentation; a class, so that worker processes can have it."""

    def __init__(self, prepare: Any, augmentation: Augmentation):
        self._prepare, self._augmentation = prepare, augmentation

    def __call__(self, clip: Clip, rng: np.random.Generator, *step: int) -> dict[str, Any]:
        return self._prepare(self._augmentation(clip, rng), rng, *step)
