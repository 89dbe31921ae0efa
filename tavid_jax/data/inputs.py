"""Sources by name, as a config describes them: what the engine and the methods read from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from tavid_jax.data.augment import Augmentation
from tavid_jax.data.clip import Clip
from tavid_jax.data.files import Paths
from tavid_jax.data.folder import ClipFolder, open_clips
from tavid_jax.data.grounding.grounded import (
    GroundedClips,
    folder_list,
    is_grounded,
    open_grounded,
)
from tavid_jax.data.masks import option
from tavid_jax.data.mixture import Mixture, check_weights
from tavid_jax.data.pipeline import Batch, batches
from tavid_jax.data.plan import Plan
from tavid_jax.data.records import RecordSource, RecordWriter
from tavid_jax.data.shards import ShardedRecords, write_shards
from tavid_jax.data.synthetic import (
    SYNTHETIC,
    SceneConfig,
    open_synthetic,
    sample_scene,
    scene_clip,
    split_seeds,
)
from tavid_jax.parallel import processes
from tavid_jax.places import Place, place

# Of `data.clips`, and of each of `data.folders` where it differs; see `folder.open_clips`.
FOLDER_OPTIONS = (
    "fps", "hop", "captions", "tracks", "tracks_size_hw", "masks", "selected", "pairs", "points",
    "regrid", "spare_captions",
)  # fmt: skip
# What says how videos become clips; folders of grounded clips have all of it in them already.
_OF_VIDEOS = ("captions", "tracks", "tracks_size_hw", "selected", "pairs")

UserClips = ClipFolder | GroundedClips


class ConfiguredInputs:
    """Opens what `config.data`, `config.clips` and `config.train_clips` name.

    Names: "train" (synthetic scenes, or the user's training clips), "test" (unseen synthetic
    scenes), further sets of scenes in `data.splits`, "held_out" (the last part of the training
    clips), "clips" (videos to forecast), further clips of the user in `data.folders`, mixtures of
    all these in `data.mixtures`, and the name of any compute stage (the examples that it cached).

    A folder is a mapping with `paths` and, where they differ from those of `data.clips`, the
    options of `FOLDER_OPTIONS`. A mixture maps names of sets to their weights. Wherever videos are
    named, folders of grounded clips may be (see `data.grounding`), though not both at once.

    `progress(done, total)` is called while scenes are drawn. `openers` make further sets, by name;
    one named as a stage takes the place of what that stage cached.
    """

    def __init__(
        self,
        config: Any,
        workdir: Place,
        progress: Callable[[int, int], None] | None = None,
        openers: Mapping[str, Callable[[], Any]] | None = None,
    ):
        self.config, self.workdir, self._progress = config, place(workdir), progress
        self._data_dir = Path(config.data_dir).expanduser()
        self._openers, self._opened = dict(openers or {}), {}
        self._folders: dict[str, UserClips] = {}  # opened once, as below

    @property
    def window(self) -> int:
        """Frames of a clip: of one window, or of history and future."""
        return self.config.data.windows * self.config.data.frames

    def open(self, name: str) -> Any:
        """The source of that name. Raises ValueError listing the names there are."""
        if name in self._openers:
            if name not in self._opened:
                self._opened[name] = self._openers[name]()
            return self._opened[name]
        if name in self.config.stages:
            return self._made(name)
        sets = self._sets()
        mixtures = self.config.data.get("mixtures", {})
        if name in mixtures:
            return self._mixture(name, mixtures[name], sets)
        if name not in sets:
            known = ", ".join([*sets, *mixtures, *self._openers])
            raise ValueError(f"no data set {name!r}; there are {known} and the compute stages")
        return sets[name]()

    def _sets(self) -> dict[str, Callable[[], Any]]:
        """What opens each set that is no mixture. Raises ValueError for a name given twice."""
        data = self.config.data
        sets = {
            "train": self._train,
            "test": functools.partial(self._synthetic_split, "test"),
            "held_out": lambda: self._training_clips[1],
            "clips": lambda: self._forecast_clips,
        }
        # Further sets of scenes, beside "train" and "test": each has its own fields.
        for other in sorted(set(data.get("splits", {})) - {"train", "test"}):
            sets[other] = functools.partial(self._synthetic_split, other)
        for kind in ("folders", "mixtures"):
            for name in data.get(kind, {}):
                if name in sets or name in self.config.stages:
                    raise ValueError(f"data.{kind}.{name}: there is another {name!r}; rename one")
                if kind == "folders":
                    sets[name] = functools.partial(self._folder, name)
        return sets

    def _mixture(self, name: str, weights: Any, sets: dict[str, Callable[[], Any]]) -> Mixture:
        weights = dict(weights)
        unknown = [part for part in weights if part not in sets]
        if unknown:
            raise ValueError(
                f"data.mixtures.{name}: no data set {unknown[0]!r}; there are {', '.join(sets)}"
            )
        check_weights(name, weights)  # before anything is drawn
        return Mixture(name, {part: sets[part]() for part in weights}, weights)

    def _folder(self, name: str) -> UserClips:
        """Clips of the user under a name of their own."""
        if name not in self._folders:
            fields = dict(self.config.data.folders[name])
            unknown = sorted(set(fields) - {"paths", *FOLDER_OPTIONS})
            if unknown or not fields.get("paths"):
                wrong = f"has no field {unknown[0]!r}" if unknown else "names no `paths`"
                raise ValueError(
                    f"data.folders.{name} {wrong}; its fields are paths, "
                    f"{', '.join(FOLDER_OPTIONS)}"
                )
            folder = self._open_clips(fields.pop("paths"), fields)
            folder.name = name
            self._folders[name] = folder
        return self._folders[name]

    def open_scenes(self, changes: Any, count: int) -> Any:
        """The first `count` test scenes of `config.data.scene` with some fields changed.

        Raises ValueError for what no scene can be made from.
        """
        return self._synthetic("test", changes, count)

    def batches(self, source: Any, prepare: Any, **options: Any) -> Iterator[Batch]:
        """See `pipeline.batches`; training clips of the user are augmented on the way.

        Those are "train", and what is shuffled of further folders and of mixtures.
        """
        data = self.config.data
        if self._has_training_clips(source, options.get("shuffle", True)):
            prepare = _Augmented(prepare, Augmentation(**data.augment.to_dict()))
        return batches(
            source,
            prepare,
            process_index=processes.index(),
            process_count=processes.count(),
            threads=data.threads,
            workers=data.workers,
            **options,
        )

    def _has_training_clips(self, source: Any, shuffled: bool) -> bool:
        if isinstance(source, Mixture):
            parts = source.sets.values()
            return shuffled and any(isinstance(part, UserClips) for part in parts)
        if not isinstance(source, UserClips):
            return False
        return source.name == "train" or (shuffled and source.name in self._folders)

    def cache(self, folder: Place, meta: dict[str, Any]) -> RecordWriter:
        return RecordWriter(folder, meta)

    def encode(
        self, name: str, folder: Place, method: Any, progress: Callable[[int, int], None]
    ) -> None:
        """See `engine.inputs.Inputs`; a cache that the config names is only checked."""
        if self.config.get("cache"):
            ShardedRecords(self.config.cache, expect=method.requirements())
            return
        stage = self.config.stages[name]
        source = self.open(stage.data)
        if isinstance(source, Mixture):
            raise ValueError(
                f"stages.{name}.data {stage.data!r} is a mixture, which shows clips more than "
                f"once: encode its sets, {', '.join(source.sets)}, each in a stage of its own"
            )
        if isinstance(source, UserClips) and method.needs_captions:
            source.check_captions()
        plan = Plan.of(source, method.facts(), stage.shard_size)
        hosts = {"index": processes.index(), "count": processes.count()}
        write_shards(folder, plan, source, method, progress=progress, **hosts)

    def _made(self, name: str) -> Any:
        """What a compute or encode stage has made."""
        folder = self.workdir / "stages" / name / "cache"
        if self.config.stages[name].kind == "encode":
            return ShardedRecords(self.config.get("cache") or folder)
        return RecordSource(folder)

    def frames(self, source: Any, index: int, height: int) -> UInt8[np.ndarray, "T H W 3"]:
        """The frames of a clip again, `height` pixels high, for pictures that people look at."""
        if isinstance(source, Mixture):
            source, index = source.place(index)
        h, w = self.config.data.size_hw
        if isinstance(source, UserClips):
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
    def _training_clips(self) -> tuple[UserClips, UserClips]:
        clips = self.config.data.clips
        folder = self.open_clips(self.config.train_clips, clips.train_hop)
        nothing = folder.empty()
        train, held_out = folder.split(clips.holdout) if clips.holdout else (folder, nothing)
        train.name, held_out.name = "train", "held_out"
        return train, held_out

    @functools.cached_property
    def _forecast_clips(self) -> UserClips:
        if not self.config.clips:
            raise ValueError("no clips to forecast: give --config.clips=FOLDER")
        changes: dict[str, Any] = {"hop": self.config.data.clips.hop}
        if self.config.train_clips:
            # The list and the captions are those of the training clips, these may be others.
            changes |= {"selected": "", "spare_captions": True}
        return self._open_clips(self.config.clips, changes)

    def open_clips(self, paths: str, hop: int = 0) -> UserClips:
        """Videos as windows of this config's size, tracked where no track file is there.

        A config without a stride has no grid to track, unless `config.data.clips.points` asks for
        the points of files, or else FlexTraj's. `config.data.clips.masks` is "" (none),
        "beside" (beside the videos) or a folder.
        """
        return self._open_clips(paths, {"hop": hop})

    def _open_clips(self, paths: Paths, changes: dict[str, Any]) -> UserClips:
        """Videos by the options of `data.clips`, some of them changed."""
        data = self.config.data
        clips = {name: data.clips.get(name) for name in FOLDER_OPTIONS} | changes
        if any(map(is_grounded, folder_list(paths))):
            return self._open_grounded(paths, clips)
        spare = bool(clips["spare_captions"])
        folder = open_clips(
            paths,
            size_hw=tuple(data.size_hw),
            num_frames=self.window,
            stride=data.get("stride", 0),
            origin=data.get("origin", "topleft"),
            fps=clips["fps"] or None,
            hop=clips["hop"] or None,
            captions=clips["captions"] or None,
            tracks=clips["tracks"] or None,
            cache_dir=self._data_dir / "tracks",
            tracks_size_hw=tuple(clips["tracks_size_hw"] or ()) or None,
            track="stride" in data or bool(clips["points"]),
            masks=option(clips["masks"]),
            selected=clips["selected"] or None,
            pairs=clips["pairs"] or "",
            points=bool(clips["points"]),
            regrid=clips["regrid"] is not False,
            spare_captions=spare,
        )
        if spare:
            folder.unused = ()  # not missed later either
        return folder

    def _open_grounded(self, paths: Paths, clips: dict[str, Any]) -> GroundedClips:
        """Folders of grounded clips by those options that mean something for them."""
        wrong = [name for name in _OF_VIDEOS if clips[name]]
        if wrong:
            raise ValueError(
                f"data.clips.{wrong[0]} is for videos; {paths} holds grounded clips, which have "
                "their own: leave it empty"
            )
        data = self.config.data
        return open_grounded(
            paths,
            size_hw=tuple(data.size_hw),
            num_frames=self.window,
            fps=clips["fps"] or None,
            hop=clips["hop"] or None,
        )


class _Augmented:
    """`prepare` after a random augmentation of the user's clips; worker processes can have it.

    Scenes are drawn as they shall be.
    """

    def __init__(self, prepare: Any, augmentation: Augmentation):
        self._prepare, self._augmentation = prepare, augmentation

    def __call__(self, clip: Clip, rng: np.random.Generator, *step: int) -> dict[str, Any]:
        if clip.source != SYNTHETIC:
            clip = self._augmentation(clip, rng)
        return self._prepare(clip, rng, *step)
