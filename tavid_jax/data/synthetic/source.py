"""Scenes as clips: `scene_clip`, and a source that makes them as they are asked for."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from tavid_jax.data.clip import Clip
from tavid_jax.data.synthetic import captions
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.exact import ExactTracks, exact_tracks, owners, query_grid
from tavid_jax.data.synthetic.render import render
from tavid_jax.data.synthetic.scene import Layout, Scene, sample_scene
from tavid_jax.data.synthetic.shapes import indices
from tavid_jax.data.synthetic.twins import sample_twin

SYNTHETIC = "synthetic"  # `source` of every scene's clip
_MOST_PIXELS = 2**16  # of first frames that are looked at together: bounds the memory


def _together(scenes: Sequence[Scene]) -> Layout:
    """Layouts of several scenes as one: slots that a scene lacks are empty."""
    slots = max(len(scene.shapes) for scene in scenes)
    shape = np.full((len(scenes), slots), -1, np.int64)
    place = np.zeros((len(scenes), slots, scenes[0].config.num_frames, 2, 3))
    place[..., [0, 1], [0, 1]] = 1.0
    for row, scene in enumerate(scenes):
        shape[row, : len(scene.shapes)] = indices(scene.shapes)
        place[row, : len(scene.shapes)] = scene.place
    return Layout(shape, place, np.stack([scene.camera for scene in scenes]))


def _first_owners(layout: Layout, size_hw: tuple[int, int]) -> Int[np.ndarray, "B H W"]:
    """Number of the sprite that is seen at each pixel of frame 0, by the exact geometry."""
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)
    return owners(layout, pixels).reshape(-1, height, width)


def scene_clips(scenes: Sequence[Scene]) -> list[Clip]:
    """Clips of scenes of one config: `scene_clip` of each, in less time."""
    clips = _clips(scenes)
    if scenes and scenes[0].config.twins:
        partners = _clips([sample_twin(scene) for scene in scenes])
        clips = list(map(_paired, clips, partners))
    return clips


def _paired(clip: Clip, partner: Clip) -> Clip:
    return clip.replace(partner=partner.replace(id=f"{clip.id}-twin"))


def _clips(scenes: Sequence[Scene]) -> list[Clip]:
    """Clips without partners."""
    clips = []
    group = max(1, _MOST_PIXELS // math.prod(scenes[0].config.size_hw)) if scenes else 1
    for start in range(0, len(scenes), group):
        some = scenes[start : start + group]
        config, layout = some[0].config, _together(some)
        exact = exact_tracks(layout, query_grid(config), config.size_hw)
        first = _first_owners(layout, config.size_hw)
        for row, scene in enumerate(some):
            clips.append(_clip(scene, ExactTracks(*(part[row] for part in exact)), first[row]))
    return clips


def scene_clip(
    scene: Scene,
    *,
    scale: float | int = 1,
    query_xy: Float[np.ndarray, "N 2"] | None = None,
    render_video: bool | None = None,
) -> Clip:
    """The clip of a scene: exact tracks, and video if it is asked for.

    Args:
      scene: from `sample_scene` or `interaction`.
      scale: enlarges frames and coordinates (a picture of the same scene: the tracks, queries
        and masks are those of the small frame, scaled).
      query_xy: N points of frame 0 in px of the unscaled frame; the config's grid if None.
      render_video: overrides `config.render`.

    Returns:
      Clip whose objects 1..S are numbered from back to front; depth is S - segment, so the
      background has S and the frontmost object 0. With `config.twins` it has its partner.
    """
    options = dict(scale=scale, query_xy=query_xy, render_video=render_video)
    clip = _lone_clip(scene, **options)
    if not scene.config.twins:
        return clip
    return _paired(clip, _lone_clip(sample_twin(scene), **options))


def _lone_clip(
    scene: Scene,
    *,
    scale: float | int,
    query_xy: Float[np.ndarray, "N 2"] | None,
    render_video: bool | None,
) -> Clip:
    """As `scene_clip`, without a partner."""
    size_hw, layout = scene.config.size_hw, scene.layout
    query = query_grid(scene.config) if query_xy is None else np.asarray(query_xy, np.float64)
    exact = ExactTracks(*(part[0] for part in exact_tracks(layout, query, size_hw)))
    first = _first_owners(layout, size_hw)[0]
    return _clip(scene, exact, first, scale=scale, query_xy=query_xy, render_video=render_video)


def _clip(
    scene: Scene,
    exact: ExactTracks,
    first: Int[np.ndarray, "H W"],
    *,
    scale: float | int = 1,
    query_xy: Float[np.ndarray, "N 2"] | None = None,
    render_video: bool | None = None,
) -> Clip:
    """As `scene_clip`, from the tracks (N, ...) of one scene and the owners of its first pixels."""
    config = scene.config
    query = query_grid(config) if query_xy is None else np.asarray(query_xy, np.float64)
    segment = exact.segment.astype(np.int32)
    masks = first[None] == np.arange(1, len(scene.shapes) + 1)[:, None, None]
    tracks, size_hw = exact.tracks, config.size_hw
    if scale != 1:
        size_hw = tuple(int(round(side * scale)) for side in size_hw)
        tracks = ((tracks + 0.5) * scale - 0.5).astype(np.float32)
        query = (query + 0.5) * scale - 0.5
        rows, columns = (
            np.minimum((np.arange(n) / scale).astype(int), m - 1)
            for n, m in zip(size_hw, config.size_hw, strict=True)
        )
        masks = masks[:, rows[:, None], columns]
    frames = (
        render(scene, scale) if (config.render if render_video is None else render_video) else None
    )
    depth = np.broadcast_to((len(scene.shapes) - segment)[:, None], tracks.shape[:2])
    return Clip(
        id=f"scene-{config.digest()}-{scene.seed:010d}",
        size_hw=size_hw,
        fps=config.fps,
        video=None if frames is None else frames.video,
        tracks=tracks,
        visibility=exact.visibility,
        depth=depth.astype(np.float32),
        segment=segment,
        grid_hw=config.grid_hw if query_xy is None else None,
        query_xy=query.astype(np.float32),
        masks=masks,
        segment_map=None if frames is None else frames.segment_map,
        caption=captions.caption(scene),
        local_captions=captions.local_captions(scene),
        kinds=scene.kinds,
        actor=scene.actor,
        target=scene.target,
        contact_frame=scene.contact_frame,
        source=SYNTHETIC,
    )


class SyntheticSource:
    """Clips of scenes, made when asked for; no files.

    Args:
      config: distribution of scenes.
      seeds: one per clip; take them from `seeds.split_seeds`.
    """

    def __init__(self, config: SceneConfig, seeds):
        self.config = config
        self.seeds = seeds if isinstance(seeds, range) else tuple(int(seed) for seed in seeds)
        self.name = f"synthetic-{config.digest()}"

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Clip:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)} in {self.name}")
        return scene_clip(sample_scene(self.config, self.seeds[index]))

    def __repr__(self) -> str:
        return f"SyntheticSource({self.name}, {len(self)} scenes)"
