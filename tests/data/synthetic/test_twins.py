"""Twins move as their models do, beside them, and look different."""

import numpy as np
import pytest

from tavid_jax.data.clip import check_clip
from tavid_jax.data.synthetic import (
    SceneConfig,
    TfdsSource,
    open_synthetic,
    sample_scenes,
    scene_clip,
    scene_clips,
    shapes,
    toy,
)
from tavid_jax.data.synthetic.twins import sample_twin

CONFIG = toy.steered(twins=True)


@pytest.fixture(scope="module")
def pairs():
    scenes = sample_scenes(CONFIG, range(150))
    return [(scene, sample_twin(scene)) for scene in scenes]


def test_the_same_motion_by_another_actor(pairs):
    shifts, growth = [], []
    for scene, twin in pairs:
        assert twin.kinds == scene.kinds and len({look.colour for look in twin.objects}) == len(
            twin.objects
        )
        for s in range(len(scene.shapes)):
            assert twin.shapes[s] != scene.shapes[s]
            assert twin.objects[s].colour != scene.objects[s].colour
            shift = twin.place[s, :, :, 2] - scene.place[s, :, :, 2]
            np.testing.assert_allclose(shift, shift[:1].repeat(9, 0), atol=1e-6)
            half = shapes.half_sides()[shapes.SHAPES.index(twin.shapes[s])] * twin.place[s, 0, 0, 0]
            assert (np.abs(twin.place[s, :, :, 2] - 11.5) + half <= 12.0 + 1e-5).all()
            shifts.append(np.abs(shift[0]).max())
            growth.append(twin.place[s, 0, 0, 0] / scene.place[s, 0, 0, 0])
    assert max(shifts) <= 3.0 + 1e-6 and np.median(shifts) > 1.0
    assert min(growth) < 0.8 and max(growth) > 1.25


def test_turning_and_breathing_stay(pairs):
    for scene in sample_scenes(SceneConfig(kinds=("spin",), twins=True, render=False), range(5)):
        twin = sample_twin(scene)
        for one, other in zip(scene.place, twin.place, strict=True):
            sizes = [np.linalg.det(place[:, :, :2]) for place in (one, other)]
            np.testing.assert_allclose(sizes[0] / sizes[0][0], sizes[1] / sizes[1][0], rtol=1e-5)
            turned = [np.arctan2(place[:, 1, 0], place[:, 0, 0]) for place in (one, other)]
            np.testing.assert_allclose(turned[0], turned[1], atol=1e-5)


def test_clips_carry_their_twins_to_disk_and_back(tmp_path):
    clips = scene_clips(sample_scenes(CONFIG, range(3)))
    lone = scene_clips(sample_scenes(toy.steered(), range(3)))
    source = open_synthetic(tmp_path, CONFIG, "train", 3)
    unread = TfdsSource(tmp_path, "train", CONFIG, 3, video=False)[2]
    assert unread.video is None and unread.partner.video is None
    for index, clip in enumerate(clips):
        check_clip(clip)
        assert lone[index].partner is None
        np.testing.assert_array_equal(clip.video, lone[index].video)  # models are as ever
        alone = scene_clip(sample_scenes(CONFIG, [index])[0]).partner
        for twin in (source[index].partner, alone):
            assert (twin.id, twin.caption) == (f"{clip.id}-twin", clip.partner.caption)
            assert twin.caption != clip.caption and twin.kinds == clip.kinds
            for name in ("video", "tracks", "visibility", "segment", "masks"):
                np.testing.assert_array_equal(getattr(twin, name), getattr(clip.partner, name))


@pytest.mark.parametrize("fields", [dict(interaction=True), dict(combinations="seen")])
def test_what_has_no_twins(fields):
    with pytest.raises(ValueError, match=r"SceneConfig\.twins=True: need free scenes"):
        SceneConfig(twins=True, **fields)
