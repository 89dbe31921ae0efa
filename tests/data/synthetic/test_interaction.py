"""Actor, target, look-alikes, contact; pairs with another actor."""

import numpy as np
import pytest

from tavid_jax.data.clip import check_clip
from tavid_jax.data.synthetic import SceneConfig, SyntheticSource, sample_scene, scene_clip
from tavid_jax.data.synthetic.interaction import scene_pair, touching
from tavid_jax.data.synthetic.scene import sample_layouts

CONFIG = SceneConfig(interaction=True, camera=0.0)
SEEDS = range(40)


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(CONFIG, seed) for seed in SEEDS]


def meets(scene, number):
    """Per frame: does the actor touch object `number`."""
    actor = scene.actor - 1
    return touching(
        scene.shapes[actor], scene.place[actor], scene.shapes[number - 1], scene.place[number - 1]
    )


def test_contact_frame_is_the_first_touch(scenes):
    for scene in scenes:
        met = meets(scene, scene.target)
        assert not met[: scene.contact_frame].any() and met[scene.contact_frame]
        assert 1 <= scene.contact_frame < CONFIG.num_frames


def test_actor_touches_nothing_at_frame_0_and_only_the_target_before_contact(scenes):
    for scene in scenes:
        for number in range(1, len(scene.shapes)):
            met = meets(scene, number)
            assert not met[0]
            if number != scene.target:
                assert not met[: scene.contact_frame].any()


def test_contact_is_seen_in_the_picture(scenes):
    for scene in scenes[:6]:
        clip = scene_clip(scene)
        frame = clip.segment_map[scene.contact_frame]
        actor, target = np.argwhere(frame == scene.actor), np.argwhere(frame == scene.target)
        gap = np.abs(actor[:, None] - target[None]).max(-1).min()
        assert gap <= 2
        first = clip.segment_map[0]
        actor, target = np.argwhere(first == scene.actor), np.argwhere(first == scene.target)
        assert np.abs(actor[:, None] - target[None]).max(-1).min() >= 2


def test_target_is_one_of_identical_lookalikes(scenes):
    targets = set()
    for scene in scenes:
        count = len(scene.shapes) - 1
        assert 2 <= count <= 3 and scene.actor == count + 1 and 1 <= scene.target <= count
        assert len(set(scene.objects[:count])) == 1 and len(set(scene.shapes[:count])) == 1
        assert scene.objects[count].colour != scene.objects[0].colour
        linear = scene.place[:count, 0, :, :2]
        np.testing.assert_array_equal(linear, np.repeat(linear[:1], count, axis=0))
        targets.add(scene.target)
        for number in range(1, count + 1):
            if number != scene.target:
                np.testing.assert_array_equal(
                    scene.place[number - 1], np.repeat(scene.place[number - 1, :1], 34, axis=0)
                )
    assert targets == {1, 2, 3}


def test_target_stays_until_contact_and_then_reacts(scenes):
    for scene in scenes:
        path = scene.place[scene.target - 1]
        before = path[: max(1, scene.contact_frame - 2)]
        assert np.abs(before - path[0]).max() < 0.3
        reacts = np.abs(path[-1] - path[0]).max() > 1.0
        assert reacts == (scene.deed != "touches")
    assert {scene.deed for scene in scenes} == {"pushes", "tips", "lifts", "touches"}


def test_clip_carries_roles():
    source = SyntheticSource(CONFIG, [2])
    clip = check_clip(source[0])
    assert clip.kinds[clip.actor - 1] == "walk" and clip.kinds[clip.target - 1] == "react"
    assert clip.contact_frame > 0 and clip.masks[clip.target - 1].any()
    assert set(clip.kinds) == {"walk", "react", "rest"}


def test_pairs_share_the_motion_but_not_the_actor():
    for seed in range(12):
        scene, twin = scene_pair(CONFIG, seed)
        np.testing.assert_array_equal(scene.place, twin.place)
        np.testing.assert_array_equal(scene.camera, twin.camera)
        assert scene.ground == twin.ground and scene.target == twin.target
        assert scene.shapes[:-1] == twin.shapes[:-1] and scene.objects[:-1] == twin.objects[:-1]
        assert scene.shapes[-1] != twin.shapes[-1]
        assert scene.objects[-1].colour != twin.objects[-1].colour
        assert twin.contact_frame > 0 and not meets(twin, twin.target)[0]
        np.testing.assert_array_equal(sample_scene(CONFIG, seed).place, scene.place)


def test_pairs_of_free_scenes():
    config = SceneConfig(presence=1.0)
    scene, twin = scene_pair(config, 5)
    np.testing.assert_array_equal(scene.place, twin.place)
    assert scene.shapes[:-1] == twin.shapes[:-1] and scene.shapes[-1] != twin.shapes[-1]
    assert twin.objects[-1].colour not in {look.colour for look in scene.objects}
    one, two = scene_clip(scene), scene_clip(twin)
    assert not np.array_equal(one.video, two.video)
    with pytest.raises(ValueError, match="no sprite"):
        scene_pair(SceneConfig(presence=0.0), 0)


def test_other_sizes_lengths_and_counts():
    config = SceneConfig(
        interaction=True, size_hw=(32, 48), num_frames=9, lookalikes=(0, 4), colours=("red", "blue")
    )
    for seed in range(8):
        scene = sample_scene(config, seed)
        assert 1 <= scene.contact_frame < 9
        check_clip(scene_clip(scene))


def test_sprites_touch_only_where_their_borders_cross():
    place = np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    other = np.repeat(place[None], 200, axis=0)
    other[:, 0, 2] = np.linspace(0.0, 20.0, 200)  # px apart
    met = touching("disc", np.repeat(place[None], 200, axis=0), "disc", other)
    np.testing.assert_array_equal(met, other[:, 0, 2] <= 8.0)


def test_what_a_config_says_about_the_deed():
    config = SceneConfig(
        interaction=True, camera=0.0, deeds=("tips",), contact=(0.2, 0.3), gap=6.0, gait=0.0
    )
    for seed in range(12):
        scene = sample_scene(config, seed)
        assert scene.deed == "tips" and scene.contact_frame <= 0.3 * 33
        path = scene.place[scene.actor - 1, :, :, 2]
        way = path[-1] - path[0]
        across = (path - path[0]) @ np.array([-way[1], way[0]]) / np.hypot(*way)
        assert np.abs(across).max() < 1e-5  # straight
        first = scene.place[:, 0, :, 2]
        assert np.linalg.norm(first[:-1] - first[-1], axis=-1).min() > 12.0


def test_interaction_scenes_have_no_bulk_layouts():
    with pytest.raises(ValueError, match="interaction=True"):
        sample_layouts(CONFIG, range(2))
