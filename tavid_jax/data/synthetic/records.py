"""Clips as records of a data set, and back."""

import zlib
from collections.abc import Sequence

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.exact import query_grid
from tavid_jax.data.synthetic.scene import sample_scenes
from tavid_jax.data.synthetic.source import SYNTHETIC, scene_clips

# Level 1 packs a 64x64 clip by half in a third of the time of the default level.
_LEVEL = 1

# Arrays that are worth packing.
PACKED = ("video", "segment_map", "masks", "visibility", "depth")


def encode_scenes(config: SceneConfig, seeds: Sequence[int]) -> list[dict]:
    """Draws the scenes of seeds and packs each into a record.

    Args:
      config: distribution of scenes.
      seeds: of the scenes.

    Returns:
      Features by name; the large ones already compressed (bytes), so that a process pool does it.
    """
    clips = scene_clips(sample_scenes(config, seeds))
    records = []
    for seed, clip in zip(seeds, clips, strict=True):
        record = _record(config, clip) | {"seed": np.int64(seed)}
        if config.twins:
            record["twin"] = _record(config, clip.partner)
        records.append(record)
    return records


def _record(config: SceneConfig, clip: Clip) -> dict:
    record = {
        "id": clip.id,
        "tracks": clip.tracks,
        "segment": clip.segment,
        "visibility": clip.visibility,
        "depth": clip.depth,
        "masks": clip.masks,
        "caption": clip.caption,
        "local_captions": list(clip.local_captions),
        "kinds": list(clip.kinds),
        "actor": np.int32(clip.actor),
        "target": np.int32(clip.target),
        "contact_frame": np.int32(clip.contact_frame),
    }
    if config.render:
        record.update(video=clip.video, segment_map=clip.segment_map)
    for name in PACKED:
        if name in record:
            record[name] = zlib.compress(np.ascontiguousarray(record[name]), _LEVEL)
    return record


def _words(values) -> tuple[str, ...]:
    return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in values)


def decode_record(config: SceneConfig, record: dict) -> Clip:
    """The clip of a record as `tfds.data_source` gives it (arrays unpacked, words as bytes).

    Args:
      config: that the data set was built with.
      record: features by name; video and segment map may be missing.
    """
    return Clip(
        id=_words([record["id"]])[0],
        size_hw=config.size_hw,
        fps=config.fps,
        video=record.get("video"),
        tracks=record["tracks"],
        visibility=record["visibility"],
        depth=record["depth"],
        segment=record["segment"],
        grid_hw=config.grid_hw,
        query_xy=query_grid(config).astype(np.float32),
        masks=record["masks"],
        segment_map=record.get("segment_map"),
        caption=_words([record["caption"]])[0],
        local_captions=_words(record["local_captions"]),
        kinds=_words(record["kinds"]),
        actor=int(record["actor"]),
        target=int(record["target"]),
        contact_frame=int(record["contact_frame"]),
        source=SYNTHETIC,
        partner=decode_record(config, record["twin"]) if "twin" in record else None,
    )
