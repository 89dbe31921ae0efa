"""Toy scenes are what their captions say, stay in the frame, and keep some combinations back."""

import collections
import dataclasses

import numpy as np
import pytest

from tavid_jax.data.clip import check_clip
from tavid_jax.data.synthetic import (
    SceneConfig,
    sample_scenes,
    scene_clip,
    scene_clips,
    shapes,
    toy,
)
from tavid_jax.data.synthetic.combinations import is_held_out, pairs
from tavid_jax.data.synthetic.looks import PALETTE

MANY = 600


@pytest.fixture(scope="module")
def scenes():
    return sample_scenes(toy.moving_objects(), range(MANY))


def triples(scenes):
    return {
        (look.colour, shape, kind)
        for scene in scenes
        for look, shape, kind in zip(scene.objects, scene.shapes, scene.kinds, strict=True)
    }


def centres(scene):
    return scene.place[..., 2]


def test_hashes_of_older_configs_stay():
    # Data sets on disk carry these in their names.
    assert SceneConfig().digest() == "1c81e8702dd8"
    assert SceneConfig(interaction=True).digest() == "9509708eddf7"
    changes = dict(
        counts=(1.0,),
        company=(3.0, 4.0),
        stretch=(1.0, 1.0),
        placings=2,
        combinations="seen",
        unsaid=0.1,
        caption_style="short",
        deeds=("tips",),
        contact=(0.5, 0.6),
        gap=3.0,
        gait=0.0,
        says_target=0.5,
        twins=True,
    )
    digests = {SceneConfig(**{name: value}).digest() for name, value in changes.items()}
    assert len(digests | {SceneConfig().digest()}) == len(changes) + 1


def test_one_or_two_objects_of_different_colours(scenes):
    counts = collections.Counter(len(scene.shapes) for scene in scenes)
    assert set(counts) == {1, 2} and counts[1] / MANY == pytest.approx(0.6, abs=0.06)
    for scene in scenes:
        assert len({look.colour for look in scene.objects}) == len(scene.objects)
        radius = np.linalg.norm(scene.place[:, :, :, :2], axis=2)
        low, high = (4.3, 5.2) if len(scene.shapes) == 1 else (3.4, 4.0)
        assert (low - 1e-6 <= radius).all() and (radius <= high + 1e-6).all()


def test_motions_go_where_they_say(scenes):
    kinds = collections.Counter(kind for scene in scenes for kind in scene.kinds)
    assert set(kinds) == {"left", "right", "up", "down", "still", "drift"}
    for scene in scenes:
        way = centres(scene)[:, -1] - centres(scene)[:, 0]
        for kind, (x, y) in zip(scene.kinds, way, strict=True):
            if kind == "drift":
                assert 0.5 < np.hypot(x, y) < 10.0
                continue
            sign = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
            np.testing.assert_array_equal(np.sign((x, y)), sign.get(kind, (0, 0)))
            assert kind == "still" or 8.5 * 0.75 - 1e-6 <= abs(x + y) <= 13.0 * 0.75 + 1e-6


@pytest.mark.parametrize("frames, side", [(5, 24), (17, 24), (9, 48)])
def test_the_way_is_the_same_for_any_length_and_size(frames, side):
    one, other = (
        sample_scenes(toy.moving_objects(num_frames=f, size_hw=(s, s), placings=1), range(20))
        for f, s in ((9, 24), (frames, side))
    )
    for a, b in zip(one, other, strict=True):
        grown = (centres(a)[:, [0, -1]] + 0.5) * side / 24 - 0.5
        np.testing.assert_allclose(centres(b)[:, [0, -1]], grown, atol=1e-5)


def test_objects_stay_in_the_frame(scenes):
    for scene in scenes:
        for shape, place in zip(scene.shapes, scene.place, strict=True):
            half = shapes.half_sides()[shapes.SHAPES.index(shape)] * place[0, 0, 0]
            assert (place[:, :, 2] - half >= -0.5 - 1e-5).all()
            assert (place[:, :, 2] + half <= 23.5 + 1e-5).all()


def test_where_there_is_no_room_things_stand_in_the_middle():
    huge = dict(radius=(40.0, 40.0), shapes=("disc",), counts=(1.0,), combinations="all")
    for scene in sample_scenes(toy.moving_objects(**huge), range(20)):
        np.testing.assert_allclose(centres(scene), 11.5)


def test_company_overlaps_less_with_more_draws():
    def touching(placings):
        config = toy.moving_objects(counts=(0.0, 1.0), placings=placings)
        clips = scene_clips(sample_scenes(config, range(60)))
        return sum((clip.segment_map == 1).sum() for clip in clips)

    assert touching(12) > 1.05 * touching(1)  # more is seen of the sprite behind


def test_free_paths_are_not_said(scenes):
    silent = [scene for scene in scenes if "drift" in scene.kinds]
    assert len(silent) / MANY == pytest.approx(0.2, abs=0.05)
    for scene in silent:
        assert set(scene.kinds) == {"drift"}
        clip = scene_clip(scene, render_video=False)
        assert "moves" not in clip.caption and "still" not in clip.caption
    bent = [np.ptp(np.diff(centres(scene), 2, axis=1)) for scene in silent]
    turned = [centres(s)[0, 4] - centres(s)[0, [0, -1]].mean(0) for s in silent]
    assert np.hypot(*np.transpose(turned)).max() > 1.0 and max(bent) < 1.0  # parabolas


def test_captions_are_short():
    config = toy.moving_objects("all", unsaid=0.0)
    for clip in scene_clips(sample_scenes(config, range(30))):
        check_clip(clip)
        assert clip.caption == " and ".join(clip.local_captions)
        for phrase, kind in zip(clip.local_captions, clip.kinds, strict=True):
            assert phrase.endswith("stands still" if kind == "still" else f"moves {kind}")
            _, colour, shape, *_ = phrase.split()
            assert colour in toy.COLOURS and shape in toy.SILHOUETTES
    orange = sample_scenes(toy.moving_objects(colours=("orange",), counts=(1.0,)), range(3))
    assert all(scene_clip(scene).caption.startswith("an orange ") for scene in orange)
    empty = sample_scenes(toy.moving_objects(counts=(), presence=0.0), [0])[0]
    assert scene_clip(empty).caption == "an empty view"


def test_long_captions_of_flat_scenes_name_no_texture():
    scene = sample_scenes(toy.moving_objects(caption_style="full"), [3])[0]
    caption = scene_clip(scene).caption
    assert "flat" not in caption and "over a plain grey background" in caption


def test_held_out_combinations_are_never_seen():
    everything = {
        choice: triples(sample_scenes(toy.moving_objects(choice, unsaid=0.0), range(MANY)))
        for choice in ("all", "seen", "unseen")
    }
    seen, unseen = everything["seen"], everything["unseen"]
    assert not seen & unseen and seen | unseen == everything["all"]
    assert (len(seen), len(unseen)) == (100, 20)
    for position, count in ((0, 6), (1, 4), (2, 5)):  # every colour, shape and motion is seen
        names = collections.Counter(triple[position] for triple in seen)
        assert len(names) == count and min(names.values()) >= 0.8 * 100 / count
    by_pair = collections.Counter(triple[:2] for triple in seen)
    assert len(by_pair) == 24 and min(by_pair.values()) >= 4


def test_which_combinations_are_held_out_does_not_change():
    # Models were trained without exactly these.
    held = [
        (colour, shape, kind)
        for colour in range(6)
        for shape in range(4)
        for kind in range(5)
        if is_held_out(colour, shape, kind)
    ]
    assert held[:5] == [(0, 0, 0), (0, 2, 4), (0, 3, 3), (1, 1, 4), (1, 2, 3)]
    config = toy.moving_objects()
    assert config.colours == ("red", "yellow", "teal", "purple", "pink", "white")
    assert config.shapes == ("disc", "beam", "pillar", "hoop")
    assert config.kinds == ("left", "right", "up", "down", "still")


def test_combinations_that_are_not_there():
    with pytest.raises(ValueError, match=r"SceneConfig\.combinations='unseen': some colour has no"):
        toy.moving_objects("unseen", shapes=("disc",), kinds=("left",))
    with pytest.raises(ValueError, match=r"SceneConfig\.unsaid=0.5: must be 0 with"):
        toy.moving_objects("unseen", unsaid=0.5)
    table, counts = pairs("all", 2, 3, 4)
    assert table.shape == (2, 12, 2) and (counts == 12).all()


def test_one_flat_colour_on_one_grey(scenes):
    for scene in scenes[:20]:
        clip = scene_clip(scene)
        ground = clip.video[clip.segment_map == 0]
        level = np.median(ground)
        assert 0.15 * 255 - 1 < level < 0.40 * 255 + 1
        for number, look in enumerate(scene.objects, 1):
            inside = clip.video[clip.segment_map == number].astype(int)
            assert (inside == PALETTE[look.colour]).all(-1).any()
        area = (clip.segment_map > 0).sum((1, 2)) / len(scene.shapes)
        radius = np.mean(scene.place[:, 0, 0, 0])
        assert len(scene.shapes) > 1 or np.abs(area / (np.pi * radius**2) - 1).max() < 0.2


def test_flat_pictures_are_those_of_bitmaps(monkeypatch):
    from tavid_jax.data.synthetic import looks, render

    config = toy.moving_objects(stretch=(0.7, 1.4))
    for seed in range(4):
        (scene,) = sample_scenes(config, [seed])
        lean = render.render(scene, 3)
        with monkeypatch.context() as patch:
            patch.setattr(looks, "GREY", "none")  # nothing is lean now
            patch.setattr(
                looks,
                "ground_bitmap",
                lambda ground, *_: np.full((200, 200, 3), round(255 * ground.level), np.uint8),
            )
            slow = render.render(scene, 3)
        assert np.abs(lean.video.astype(int) - slow.video).mean() < 0.6
        assert (lean.segment_map == slow.segment_map).mean() > 0.99


def test_reaching_scenes_touch_late_and_rest():
    config = toy.reaching()
    scenes = sample_scenes(config, range(150))
    targets, said = collections.Counter(), 0
    for scene in scenes:
        actor, boxes = centres(scene)[-1], centres(scene)[:-1]
        distance = np.linalg.norm(actor - boxes, axis=-1)  # (boxes, T)
        target = scene.target - 1
        assert scene.shapes == ("box", "box", "disc") and scene.actor == 3
        assert distance[:, 0].min() > 7.5  # nothing is touched at first
        assert distance[target, -1] < 6.6 and distance[1 - target, -1] > distance[target, -1] + 1.5
        assert 3 <= scene.contact_frame <= 6
        np.testing.assert_array_equal(actor[6], actor[-1])  # rests
        np.testing.assert_array_equal(boxes[:, 0], boxes[:, -1])
        assert scene.objects[0] == scene.objects[1] != scene.objects[2]
        caption = scene_clip(scene, render_video=False).caption
        colour, aim = scene.objects[2].colour, scene.objects[0].colour
        article = "the target" if scene.says_target else "a"
        assert caption == f"a {colour} disc touches {article} {aim} box"
        targets[target] += 1
        said += scene.says_target
    assert 0.35 < targets[0] / 150 < 0.65 and 0.35 < said / 150 < 0.65


def test_steered_objects_roam_silently_within_the_frame():
    scenes = sample_scenes(toy.steered(), range(200))
    ways, turns = [], []
    for scene in scenes:
        for shape, place in zip(scene.shapes, scene.place, strict=True):
            half = shapes.half_sides()[shapes.SHAPES.index(shape)] * place[0, 0, 0]
            assert (np.abs(place[:, :, 2] - 11.5) + half <= 12.0 + 1e-5).all()
            steps = np.diff(place[:, :, 2], axis=0)
            ways.append(np.linalg.norm(steps, axis=-1).sum())
            across = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
            turns.append(np.abs(np.arctan2(across, (steps[:-1] * steps[1:]).sum(-1))).sum())
    ways = np.array(ways)
    moving = ways > 1e-6
    assert 0.05 < 1.0 - moving.mean() < 0.25
    assert ways[moving].min() > 6.0 - 1e-3 and ways[moving].max() < 14.0
    assert np.median(np.array(turns)[moving]) > 1.0  # radian: bends
    clip = scene_clip(scenes[0])
    assert check_clip(clip).caption == "a red box and a teal disc"
    assert clip.grid_hw == (12, 12) and set(clip.segment) == {0, 1, 2}


def test_grounded_objects_go_where_no_words_tell():
    clips = scene_clips(sample_scenes(toy.grounded(), range(20)))
    for clip in clips:
        assert clip.caption == " and ".join(clip.local_captions) and len(clip.masks) == 2
        assert all(len(words.split()) == 3 for words in clip.local_captions)
        assert clip.grid_hw == (24, 24) and set(clip.kinds) == {"drift"}
    alone = sample_scenes(toy.grounded(counts=(0.5, 0.5)), range(40))
    assert {len(scene.shapes) for scene in alone} == {1, 2}


@pytest.mark.parametrize("side", [32, 24])
def test_a_crowd_crosses_hides_and_comes_back(side):
    scenes = sample_scenes(toy.crowd(size_hw=(side, side)), range(150))
    assert {len(scene.shapes) for scene in scenes} == {3, 4, 5}
    near, outside = [], []
    for scene in scenes:
        assert len({look.colour for look in scene.objects}) == len(scene.objects)
        half = shapes.half_sides()[shapes.indices(scene.shapes)] * scene.place[:, 0, :1, 0]
        path = centres(scene)
        for frame in (0, -1):  # all in the frame and apart
            at = path[:, frame]
            assert (at - half >= -0.51).all() and (at + half <= side - 0.49).all()
            gap = np.abs(at[:, None] - at) - half[:, None] - half
            assert (gap.max(-1)[~np.eye(len(at), dtype=bool)] >= -0.01).all()
        distance = np.linalg.norm(path[:, None] - path, axis=-1)
        distance[np.diag_indices(len(path))] = np.inf
        near.append(distance.min() < side / 8)
        outside.append((np.abs(path - (side - 1) / 2) > side / 2).any())
    assert np.mean(near) > 0.5 and 0.15 < np.mean(outside) < 0.6
    clips = scene_clips(scenes[:20])
    assert {clip.caption.count(" and ") for clip in clips} == {2, 3, 4}
    assert all(check_clip(clip).caption == " and ".join(clip.local_captions) for clip in clips)


def test_one_to_five_objects_for_a_base_model():
    scenes = sample_scenes(toy.crowd(counts=(0.2,) * 5), range(60))
    assert {len(scene.shapes) for scene in scenes} == {1, 2, 3, 4, 5}
    # What one more object does changes nothing about the others.
    more = sample_scenes(toy.crowd(counts=(0.0,) * 4 + (1.0,)), range(60))
    for few, many in zip(scenes, more, strict=True):
        np.testing.assert_array_equal(few.place, many.place[: len(few.place)])


def test_fields_of_the_caller_win():
    config = toy.moving_objects(colours=("green",), counts=(1.0,), unsaid=0.0, num_frames=5)
    (scene,) = sample_scenes(config, [1])
    assert scene.objects[0].colour == "green" and scene.place.shape[1] == 5
    assert toy.reaching(says_target=1.0).says_target == 1.0
    assert SceneConfig.from_dict(dataclasses.asdict(config)) == config
    listed = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(config).items()}
    assert SceneConfig.from_dict(listed | {"counts": [1]}) == config
