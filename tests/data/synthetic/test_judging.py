"""The judges are right about true clips, noisy or not, and are not fooled by wrong ones."""

import numpy as np
import pytest

from tavid_jax.data.synthetic import SceneConfig, sample_scene, sample_scenes, scene_clips, toy
from tavid_jax.data.synthetic.judging import (
    JUDGED_COLOURS,
    Expected,
    Verdict,
    contact_facts,
    covered,
    expected_objects,
    first_frame_error,
    judge_contact,
    judge_objects,
    shares,
)

N = 200
FIRST = 10**8  # seeds that no other test and no model looks at


def clips(config):
    return scene_clips(sample_scenes(config, range(FIRST, FIRST + N)))


def noisy(video, std):
    """Float in [-1, 1]; the frames of a sampler are like this."""
    noise = np.random.default_rng(0).standard_normal(video.shape)
    return np.clip(video / 127.5 - 1.0 + std * noise, -1.0, 1.0).astype(np.float32)


@pytest.fixture(scope="module")
def moving():
    everything = toy.moving_objects("all", colours=JUDGED_COLOURS)
    return clips(everything)


@pytest.fixture(scope="module")
def reaching():
    return clips(toy.reaching(colours=JUDGED_COLOURS))


@pytest.mark.parametrize("std", [0.0, 0.1])
def test_true_clips_are_right(moving, std):
    verdicts = []
    for clip in moving:
        video = clip.video if std == 0.0 else noisy(clip.video, std)
        verdicts.append(judge_objects(video, expected_objects(clip.caption)))
    assert min(shares(verdicts).values()) >= 0.98
    assert {len(verdict.colour) for verdict in verdicts} == {1, 2}


def test_unseen_combinations_are_judged_as_well():
    verdicts = [
        judge_objects(clip.video, expected_objects(clip.caption))
        for clip in clips(toy.moving_objects("unseen"))
    ]
    assert shares(verdicts)["all"] >= 0.98


def test_captions_of_others_are_wrong(moving):
    """One attribute is exchanged at a time; the judge notices that one and no other."""
    nexts = {
        "colour": dict(zip(JUDGED_COLOURS, (*JUDGED_COLOURS[1:], JUDGED_COLOURS[0]), strict=True)),
        "shape": dict(disc="beam", beam="pillar", pillar="hoop", hoop="disc"),
        "kind": dict(left="right", right="up", up="down", down="still", still="left"),
    }
    for clip in moving[:60]:
        told = expected_objects(clip.caption)
        if len(told) > 1 or not told[0].kind:
            continue
        for field, other in nexts.items():
            lie = told[0]._replace(**{field: other[getattr(told[0], field)]})
            verdict = judge_objects(clip.video, [lie])
            assert not verdict.right
            if field == "colour":
                assert verdict == Verdict((False,), (False,), (False,), False)
            else:
                motion, shape = field != "kind", field != "shape"
                assert verdict == Verdict((True,), (shape,), (motion,), True)


def test_something_else_in_the_picture_is_not_clean():
    config = toy.moving_objects("all", counts=(0.0, 1.0), unsaid=0.0)
    for clip in scene_clips(sample_scenes(config, range(FIRST, FIRST + 20))):
        first, second = expected_objects(clip.caption)
        for told in (first, second):
            verdict = judge_objects(clip.video, [told])
            assert verdict.colour == (True,) and not verdict.clean and not verdict.right


def test_no_object_or_half_of_the_time():
    told = [Expected("red", "disc", "still")]
    grey = np.full((9, 24, 24, 3), 70, np.uint8)
    nothing = judge_objects(grey, told)
    assert nothing == Verdict((False,), (False,), (False,), False)
    assert judge_objects(grey, []).right
    config = toy.moving_objects(
        "all", colours=("red",), shapes=("disc",), kinds=("still",), counts=(1.0,), unsaid=0.0
    )
    (clip,) = scene_clips(sample_scenes(config, [FIRST]))
    assert judge_objects(clip.video, told).right
    faded = clip.video.copy()
    faded[5:] = faded[0, 0, 0]
    assert judge_objects(faded, told).colour == (False,)
    blown = judge_objects(np.full((9, 24, 24, 3), np.nan, np.float32), told)
    assert not blown.right


def test_uint8_and_float_are_the_same(moving):
    for clip in moving[:10]:
        told = expected_objects(clip.caption)
        exact = (clip.video / 127.5 - 1.0).astype(np.float32)
        assert judge_objects(exact, told) == judge_objects(clip.video, told)


def test_captions_are_read():
    assert expected_objects("a red disc moves left and an orange hoop stands still") == (
        Expected("red", "disc", "left"),
        Expected("orange", "hoop", "still"),
    )
    assert expected_objects("a teal beam") == (Expected("teal", "beam", ""),)
    for caption in ("a red disc flies", "red disc", "a red blob", "a red disc moves left."):
        with pytest.raises(ValueError, match="is not of the form 'a COLOUR SHAPE MOTION'"):
            expected_objects(caption)


@pytest.mark.parametrize(
    "told, message",
    [
        ([("red", "disc", ""), ("red", "hoop", "")], "of one colour cannot be told apart"),
        ([("brown", "disc", "")], r"knows no colour \['brown'\]"),
        ([("red", "star", "")], r"knows no silhouette \['star'\]"),
        ([("red", "disc", "orbit")], r"knows no motion \['orbit'\]"),
    ],
)
def test_what_the_judge_cannot_know(told, message):
    video = np.zeros((3, 24, 24, 3), np.uint8)
    with pytest.raises(ValueError, match=message):
        judge_objects(video, told)
    with pytest.raises(ValueError, match="uint8 or float in"):
        judge_objects(video.astype(np.int32), [("red", "disc", "")])


@pytest.mark.parametrize("std", [0.0, 0.1])
def test_contact_with_the_target_at_the_end_and_none_at_first(reaching, std):
    first, last = [], []
    for clip in reaching:
        facts = contact_facts(clip)
        video = clip.video if std == 0.0 else noisy(clip.video, std)
        first.append(judge_contact(video[:1], facts.actor, facts.positions))
        last.append(judge_contact(video, facts.actor, facts.positions) == facts.target)
    assert set(first) == {-1} and all(last)
    targets = [contact_facts(clip).target for clip in reaching]
    assert 0.3 < np.mean(targets) < 0.7


def test_an_actor_that_fades_touches_nothing(reaching):
    for clip in reaching[:10]:
        facts = contact_facts(clip)
        faded = clip.video.copy()
        faded[-1][clip.segment_map[-1] == clip.actor] = clip.video[0, 0, 0]
        assert judge_contact(faded, facts.actor, facts.positions) == -1


def test_covered_is_the_area_of_an_actor(reaching):
    for clip in reaching[:10]:
        area = covered(clip.video, contact_facts(clip).actor)
        drawn = (clip.segment_map == clip.actor).mean((1, 2))
        assert area.shape == (9,) and np.abs(area / drawn - 1.0).max() < 0.25
    with pytest.raises(ValueError, match="knows no colour 'brown'"):
        covered(reaching[0].video, "brown")


def test_facts_are_those_of_the_scene(reaching):
    clip = reaching[0]
    scene = sample_scene(toy.reaching(colours=JUDGED_COLOURS), FIRST)
    facts = contact_facts(clip)
    assert (facts.actor, facts.aim) == (scene.objects[2].colour, scene.objects[0].colour)
    np.testing.assert_allclose(facts.positions, scene.place[:2, 0, :, 2], atol=0.5)
    assert facts.target == scene.target - 1
    with pytest.raises(ValueError, match="no interaction with a short caption"):
        contact_facts(scene_clips(sample_scenes(SceneConfig(render=False), [1]))[0])
    with pytest.raises(ValueError, match="knows no colour 'brown'"):
        judge_contact(clip.video, "brown", facts.positions)


def test_error_of_the_first_frame(reaching):
    video = reaching[0].video
    assert first_frame_error(video, video[0]) == 0.0
    assert first_frame_error(noisy(video, 0.1), video[0]) == pytest.approx(0.01, rel=0.1)
    white, black = np.full((1, 8, 8, 3), 255, np.uint8), np.zeros((8, 8, 3), np.uint8)
    assert first_frame_error(white, black) == 4.0
    with pytest.raises(ValueError, match="differ in size"):
        first_frame_error(video, black)
