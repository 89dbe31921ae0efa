"""Raw clips, with all that is known of them: from folders of videos, and synthetic scenes."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from tavid_jax.data import files
from tavid_jax.data.clip import Clip, ClipError, check_clip
from tavid_jax.data.folder import ClipFolder, Window, open_clips
from tavid_jax.data.grounding.texts import Texts, find_texts, in_order, read_texts
from tavid_jax.data.points import masks_at, stored_fields
from tavid_jax.data.synthetic import SceneConfig, SyntheticSource, split_seeds
from tavid_jax.data.window import usable_frames, window_fit, window_video


class RawClips:
    """Windows of videos with what lies beside them: masks of the first frame, tracks, texts.

    Attributes:
      name: "raw".
      skipped: (path, reason) of videos that give no clip.

    Args:
      folder: opened with `points`.
      texts: of objects, by stem; a video that it does not name has those beside it.
    """

    name = "raw"

    def __init__(self, folder: ClipFolder, texts: dict[str, Texts]):
        self._folder, self._texts = folder, texts
        self._windows = [window for window in folder.windows if self._has_masks(window)]
        self.skipped = list(folder.skipped)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Clip:
        """Clip of window `index`, with `local_captions` in the order of its masks.

        Raises:
          ClipError, VideoError: a file that has changed or cannot be used; a text of no object.
        """
        file, frames, start = self._place(index)
        config = self._folder.config
        cut = window_fit(file, config)
        if file.tracks:
            fields = stored_fields(file, frames, cut, config.tracks_size_hw)
        else:
            fields = {"masks": masks_at(file, int(frames[0]), cut)}
        masks = fields["masks"]
        texts = self._texts_of(file)
        clip = Clip(
            id=f"{file.name}@{start:05d}",
            size_hw=config.size_hw,
            fps=config.fps or file.info.fps,
            video=window_video(file, frames, config),
            caption=file.caption,
            local_captions=in_order(texts, None if masks is None else len(masks)),
            source=file.path,
            **fields,
        )
        return check_clip(clip)

    def entries(self) -> list[dict[str, Any]]:
        """What is known of every clip before it is decoded; equal entries are equal clips."""
        told = []
        whole = {(w.file, w.start): entry for w, entry in
                 zip(self._folder.windows, self._folder.entries(), strict=True)}  # fmt: skip
        for window in self._windows:
            file = self._folder.files[window.file]
            entry = whole[window.file, window.start]
            try:
                texts = self._texts_of(file)
            except ClipError as error:  # said again when the clip is read
                texts = {0: str(error)}
            told.append(entry | {"texts": {str(k): text for k, text in texts.items()}})
        return told

    def facts(self) -> dict[str, Any]:
        """How videos become clips."""
        return self._folder.facts() | {"frames": self._folder.config.num_frames}

    def _place(self, index: int) -> tuple[files.ClipFile, Any, int]:
        window = self._windows[range(len(self))[index]]
        file, config = self._folder.files[window.file], self._folder.config
        frames = usable_frames(file, config.fps)[window.start : window.start + config.num_frames]
        return file, frames, window.start

    def _texts_of(self, file: files.ClipFile) -> Texts:
        return self._texts.get(files.stem(file.path)) or find_texts(file.path)

    def _has_masks(self, window: Window) -> bool:
        """Pictures are of frame 0: later windows have no masks, and are not clips."""
        segments = self._folder.files[window.file].segments
        return not segments or segments[0].endswith(".pkl") or window.start == 0


def open_raw(
    paths: files.Paths,
    *,
    size_hw: tuple[int, int],
    num_frames: int,
    masks: str | None = "",
    texts: str | os.PathLike | None = None,
    **options: Any,
) -> RawClips:
    """Opens videos as raw clips.

    Args:
      paths, size_hw, num_frames: see `folder.open_clips`.
      masks: folder of masks, "" = beside each video, None = none are looked for.
      texts: one file of the texts of all clips, see `texts`; None = beside each video.
      options: further ones of `open_clips`: fps, hop, resize, captions, tracks, track_suffixes,
        tracks_size_hw, and `track` (False: no track file is read).

    Raises:
      ClipError: see `open_clips`; texts that cannot be read, or of no video.
    """
    told = read_texts(texts) if texts else {}
    folder = open_clips(
        paths,
        size_hw=size_hw,
        num_frames=num_frames,
        masks=masks,
        points=True,
        keep_mb=0,
        **options,
    )
    stems = {files.stem(path) for path in files.find_videos(paths)}
    unknown = [name for name in told if name not in stems]
    if unknown:
        raise ClipError(f"{texts}: texts of {files.some(unknown)}, but there is no such video")
    return RawClips(folder, told)


class SceneClips:
    """Synthetic scenes as raw clips: true masks, exact tracks on a fine grid, captions.

    Attributes:
      name: names the scenes.
      skipped: [].

    Args:
      config: distribution of scenes; its `stride` says how fine the grid is.
      count: how many.
      split: "train" or "test".
    """

    def __init__(self, config: SceneConfig, count: int, split: str = "train"):
        if count < 1:
            raise ClipError(f"{count} scenes: ask for at least one")
        self._config, self._split = dataclasses.replace(config, twins=False, render=True), split
        self._scenes = SyntheticSource(self._config, split_seeds(split, count))
        self.name, self.skipped = self._scenes.name, []

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> Clip:
        return self._scenes[index].replace(grid_hw=None)

    def entries(self) -> list[dict[str, Any]]:
        """See `RawClips.entries`."""
        digest = self._config.digest()
        return [{"id": f"scene-{digest}-{seed:010d}"} for seed in self._scenes.seeds]

    def facts(self) -> dict[str, Any]:
        """See `RawClips.facts`."""
        return {
            "scenes": self._config.digest(),
            "split": self._split,
            "frames": self._config.num_frames,
        }


def fine_scenes(fields: dict[str, Any]) -> SceneConfig:
    """A config of scenes whose grid is fine enough to lay points on small objects: every 2 px of
    64, unless the fields name a stride."""
    config = SceneConfig.from_dict(fields)
    if "stride" in fields:
        return config
    height, width = config.size_hw
    wanted = max(1, min(height, width) // 32)
    fits = [s for s in range(wanted, 0, -1) if height % s == 0 and width % s == 0]
    return dataclasses.replace(config, stride=fits[0])
