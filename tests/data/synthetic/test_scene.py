"""Scenes are functions of (config, seed), the splits cannot meet, bad configs are named."""

import dataclasses
import hashlib
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tavid_jax.data.clip import check_clip
from tavid_jax.data.synthetic import (
    SceneConfig,
    SyntheticSource,
    sample_scene,
    sample_scenes,
    scene_clip,
    scene_clips,
    split_seeds,
)
from tavid_jax.data.synthetic.config import GENERATOR_VERSION
from tavid_jax.data.synthetic.dice import Dice, uniforms
from tavid_jax.data.synthetic.seeds import SPLITS, TEST_START

FIELDS = ("video", "tracks", "visibility", "depth", "segment", "masks", "segment_map", "query_xy")


def tracks_hash() -> str:
    """Hash of tracks and visibility of a few scenes."""
    digest = hashlib.sha256()
    for config in (SceneConfig(render=False), SceneConfig(render=False, interaction=True)):
        for seed in (0, 1, 2, 10**9):
            clip = scene_clip(sample_scene(config, seed))
            digest.update(clip.tracks.tobytes() + clip.visibility.tobytes())
    return digest.hexdigest()[:16]


def test_same_seed_same_clip_alone_or_in_a_batch():
    config = SceneConfig()
    batch = sample_scenes(config, [3, 7, 11])
    for seed, scene in zip((3, 7, 11), batch, strict=True):
        alone, together = scene_clip(sample_scene(config, seed)), scene_clip(scene)
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(alone, field), getattr(together, field), field)
        assert alone.caption == together.caption and alone.kinds == together.kinds


@pytest.mark.parametrize("interaction", [False, True])
def test_clips_of_many_scenes_are_those_of_each(interaction):
    config = SceneConfig(size_hw=(32, 32), num_frames=6, interaction=interaction)
    scenes = sample_scenes(config, range(80 if not interaction else 3))
    for scene, clip in list(zip(scenes, scene_clips(scenes), strict=True))[::7]:
        alone = scene_clip(scene)
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(alone, field), getattr(clip, field), field)
        assert (alone.id, alone.caption, alone.kinds) == (clip.id, clip.caption, clip.kinds)
    assert scene_clips([]) == []


def test_same_tracks_in_another_process():
    code = f"import sys; sys.path.insert(0, {str(__file__.rsplit('/', 1)[0])!r}); " + (
        "import test_scene; print(test_scene.tracks_hash())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert other == tracks_hash()


def test_tracks_of_this_generator_version_do_not_change():
    # If this fails although it should not: raise GENERATOR_VERSION, so that data sets on disk
    # are not taken for data of the new code, and put the new values here.
    assert (GENERATOR_VERSION, tracks_hash()) == (1, "aae85a748c1ce72a")


def test_different_seeds_and_configs_differ():
    config = SceneConfig()
    one, two = scene_clip(sample_scene(config, 1)), scene_clip(sample_scene(config, 2))
    assert not np.array_equal(one.video, two.video)
    assert config.digest() != SceneConfig(pan=6.0).digest()
    assert config.digest() == SceneConfig().digest()
    assert one.id != two.id


def test_splits_are_disjoint_and_test_is_committed():
    train, test = split_seeds("train", 100_000), split_seeds("test", 100_000)
    assert max(train) < TEST_START <= min(test)
    assert test[0] == 10**9 and train[0] == 0
    assert SPLITS["train"][1] <= SPLITS["test"][0]
    assert split_seeds("train", 5, offset=10) == range(10, 15)
    with pytest.raises(ValueError, match="unknown split 'validation'"):
        split_seeds("validation", 3)
    with pytest.raises(ValueError, match="cannot give"):
        split_seeds("train", TEST_START + 1)


@pytest.mark.parametrize("size_hw, frames", [((64, 64), 34), ((96, 128), 12), ((32, 48), 5)])
def test_clips_keep_the_schema(size_hw, frames):
    config = SceneConfig(size_hw=size_hw, num_frames=frames, tempo=34 / frames)
    for seed in range(3):
        clip = check_clip(scene_clip(sample_scene(config, seed)))
        assert clip.video.shape == (frames, *size_hw, 3) and clip.video.dtype == np.uint8
        assert clip.tracks.shape == (np.prod(clip.grid_hw), frames, 2)
        assert clip.grid_hw == (size_hw[0] // 8, size_hw[1] // 8)
        assert len(clip.masks) == len(clip.kinds) == len(clip.local_captions)
        assert clip.segment.max() <= len(clip.masks)
        assert clip.video.std() > 10  # there is something to see


def test_empty_scene_is_a_clip_of_background():
    clip = check_clip(scene_clip(sample_scene(SceneConfig(presence=0.0), 5)))
    assert clip.masks.shape == (0, 64, 64) and clip.kinds == ()
    assert (clip.segment == 0).all()
    assert clip.caption.startswith("An empty view")


def test_render_false_leaves_the_video_out_and_changes_nothing_else():
    with_video = scene_clip(sample_scene(SceneConfig(), 4))
    without = scene_clip(sample_scene(SceneConfig(render=False), 4))
    assert without.video is None and without.segment_map is None
    np.testing.assert_array_equal(with_video.tracks, without.tracks)
    np.testing.assert_array_equal(with_video.visibility, without.visibility)


def test_lengths_scale_with_the_frame():
    small, large = (
        scene_clip(sample_scene(SceneConfig(size_hw=(s, s), stride=s // 8, render=False), 6))
        for s in (64, 128)
    )
    moved = [np.ptp(c.tracks, axis=1).max() for c in (small, large)]
    assert moved[1] == pytest.approx(2.0 * moved[0], rel=0.15)


def test_source_is_a_sequence_that_can_be_pickled():
    source = SyntheticSource(SceneConfig(render=False), split_seeds("test", 4))
    copy = pickle.loads(pickle.dumps(source))
    assert len(copy) == 4 and copy.name == source.name
    np.testing.assert_array_equal(copy[3].tracks, source[-1].tracks)
    with pytest.raises(IndexError, match="clip 4 of 4"):
        source[4]


@pytest.mark.parametrize(
    "field, value",
    [
        ("size_hw", (8, 64)),
        ("num_frames", 0),
        ("stride", 7),
        ("origin", "corner"),
        ("kinds", ("orbit", "teleport")),
        ("kinds", ()),
        ("shapes", ("blob",)),
        ("colours", ("mauve",)),
        ("textures", ("furry",)),
        ("backgrounds", ("lava",)),
        ("presence", 1.5),
        ("camera", -0.1),
        ("radius", (0.0, 3.0)),
        ("pan", -1.0),
        ("tempo", 0.0),
        ("fps", 0.0),
        ("max_objects", 300),
        ("lookalikes", (2, 1)),
        ("counts", (0.5, 0.4)),
        ("counts", (0.2,) * 5),
        ("counts", (1.5, -0.5)),
        ("company", (3.0,)),
        ("company", (4.0, 3.0)),
        ("company", (0.0, 3.0)),
        ("stretch", (0.0, 1.0)),
        ("placings", 0),
        ("combinations", "some"),
        ("unsaid", 1.5),
        ("caption_style", "terse"),
        ("deeds", ("kisses",)),
        ("contact", (0.7, 0.5)),
        ("gap", -1.0),
        ("gait", -1.0),
        ("says_target", 2.0),
    ],
)
def test_bad_config_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf"SceneConfig\.{field}="):
        SceneConfig(**{field: value})


def test_config_takes_lists_from_json():
    config = SceneConfig.from_dict({"size_hw": [64, 64], "kinds": ["orbit"], "radius": [9, 15]})
    assert config.kinds == ("orbit",) and hash(config) == hash(SceneConfig(kinds=("orbit",)))
    assert SceneConfig.from_dict(json.loads(json.dumps(dataclasses.asdict(config)))) == config
    with pytest.raises(ValueError, match=r"no field \['sizes'\]"):
        SceneConfig.from_dict({"sizes": 3})


def test_dice_do_not_repeat_between_seeds_and_streams():
    assert uniforms([5], 8).shape == (1, 8)
    assert not np.array_equal(uniforms([5], 8), uniforms([6], 8))
    assert not np.array_equal(uniforms([5], 8), uniforms([5], 8, stream=1))
    many = uniforms(range(500), 4)
    assert 0.0 <= many.min() and many.max() < 1.0 and abs(many.mean() - 0.5) < 0.02
    with pytest.raises(ValueError, match="seed -1"):
        uniforms([-1], 2)
    with pytest.raises(ValueError, match="dice have 2 columns"):
        Dice(uniforms([1], 2)).columns(3)


def test_shake_moves_the_camera_a_little():
    calm = sample_scene(SceneConfig(camera=0.0), 3)
    shaky = sample_scene(SceneConfig(camera=0.0, shake=0.4), 3)
    jitter = shaky.camera[:, :, 2] - calm.camera[:, :, 2]
    assert np.abs(calm.camera - calm.camera[:1]).max() == 0.0
    assert (jitter[0] == 0).all() and 0.1 < np.abs(jitter).max() <= 0.4
    assert shaky.camera_moves and not calm.camera_moves


def test_camera_frequency_and_amplitudes():
    scenes = sample_scenes(SceneConfig(), range(300))
    moving = [scene for scene in scenes if scene.camera_moves]
    assert 0.6 < len(moving) / len(scenes) < 0.8
    for scene in moving[:50]:
        np.testing.assert_allclose(scene.camera[0], [[1, 0, 0], [0, 1, 0]], atol=1e-12)
        zoom = np.sqrt(np.linalg.det(scene.camera[:, :, :2]))
        roll = np.arctan2(scene.camera[:, 1, 0], scene.camera[:, 0, 0])
        middle = scene.camera @ np.array([31.5, 31.5, 1.0])
        assert np.abs(np.log(zoom)).max() <= 0.16 + 1e-6
        assert np.abs(roll).max() <= 0.20 + 1e-6
        assert np.abs(middle - 31.5).max() <= 14.0 + 1e-6
