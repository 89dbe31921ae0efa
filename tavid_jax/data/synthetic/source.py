"""Scenes as clips: `scene_clip`, and a source that makes them as they are asked for."""

import numpy as np
from jaxtyping import Float

from tavid_jax.data.clip import Clip
from tavid_jax.data.synthetic import captions
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.exact import exact_tracks, owners, query_grid
from tavid_jax.data.synthetic.render import render
from tavid_jax.data.synthetic.scene import Scene, sample_scene


def first_masks(scene: Scene) -> np.ndarray:
    """bool (S, H, W): what is seen of each sprite at frame 0, by the exact geometry."""
    height, width = scene.config.size_hw
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)
    segment = owners(scene.layout, pixels).reshape(height, width)
    return segment[None] == np.arange(1, len(scene.shapes) + 1)[:, None, None]


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
      background has S and the frontmost object 0.
    """
    config = scene.config
    grid = query_grid(config)
    query = grid if query_xy is None else np.asarray(query_xy, np.float64)
    exact = exact_tracks(scene.layout, query, config.size_hw)
    segment = exact.segment[0].astype(np.int32)
    tracks, masks, size_hw = exact.tracks[0], first_masks(scene), config.size_hw
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
        visibility=exact.visibility[0],
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
        source="synthetic",
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
