"""Captions say what is in the scene."""

import pytest

from tavid_jax.data.synthetic import SceneConfig, motions, sample_scene, scene_clip
from tavid_jax.data.synthetic.captions import caption, local_captions, object_name

CONFIG = SceneConfig(render=False)


@pytest.mark.parametrize("seed", range(5))
def test_local_captions_name_colour_texture_shape_and_motion(seed):
    scene = sample_scene(CONFIG, seed)
    phrases = local_captions(scene)
    assert len(phrases) == len(scene.shapes)
    for phrase, look, shape, kind in zip(
        phrases, scene.objects, scene.shapes, scene.kinds, strict=True
    ):
        assert look.colour in phrase and shape in phrase and motions.WORDS[kind] in phrase
        assert (look.texture in phrase) == (look.texture != "plain")
        assert phrase.startswith(("a ", "an ")) and ("an orange" in phrase) == (
            look.colour == "orange"
        )
    whole = caption(scene)
    for number in range(1, len(scene.shapes) + 1):
        assert object_name(scene, number) in whole.lower()
    assert scene.ground.texture in whole
    assert ("drifts" in whole) == scene.camera_moves
    assert whole[0].isupper() and whole.endswith(".")


def test_colours_are_distinct_within_a_scene():
    for seed in range(20):
        colours = [look.colour for look in sample_scene(CONFIG, seed).objects]
        assert len(set(colours)) == len(colours)


def test_every_kind_has_words():
    assert set(motions.WORDS) == set(motions.KINDS)


def test_interaction_caption_names_actor_deed_and_lookalikes_but_not_which():
    config = SceneConfig(render=False, interaction=True, targets=("box",), lookalikes=(2, 2))
    scene = sample_scene(config, 3)
    clip = scene_clip(scene)
    assert "among three" in clip.caption and "boxes" in clip.caption
    assert scene.deed in clip.caption and "target" in clip.caption
    assert object_name(scene, scene.actor) in clip.caption.lower()
    assert clip.local_captions[scene.actor - 1].endswith(f"{scene.deed} it")
    still = [c for n, c in enumerate(clip.local_captions, 1) if n not in (1, scene.actor)]
    assert len(set(clip.local_captions)) == 3 and still
