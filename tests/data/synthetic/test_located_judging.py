"""The judge finds nothing wrong with true clips, and each fault where there is one."""

import numpy as np
import pytest

from tavid_jax.data.clip import ClipError
from tavid_jax.data.segments import object_tracks
from tavid_jax.data.synthetic import sample_scenes, scene_clips, toy
from tavid_jax.data.synthetic.located_judging import VALUES, Goal, goal_of, judge, values_of

N = 100
FIRST = 10**8  # seeds that no model looks at
SETS = {"grounded": toy.grounded(), "crowd": toy.crowd()}


@pytest.fixture(scope="module", params=SETS)
def drawn(request):
    scenes = sample_scenes(SETS[request.param], range(FIRST, FIRST + N))
    return scenes, scene_clips(scenes)


def noisy(video, std):
    noise = np.random.default_rng(0).standard_normal(video.shape)
    return np.clip(video / 127.5 - 1.0 + std * noise, -1.0, 1.0).astype(np.float32)


def test_goals_are_the_centres_of_the_sprites(drawn):
    errors, hidden = [], []
    for scene, clip in zip(*drawn, strict=True):
        goal = goal_of(clip)
        assert goal.colours == tuple(look.colour for look in scene.objects)
        errors.append(np.linalg.norm(goal.places - scene.place[..., 2], axis=-1).max(1))
        for number, counts in enumerate(goal.counts, 1):
            area = (clip.segment_map == number).sum((1, 2))
            assert (area[counts] > 0.4 * area[0]).all()
            hidden.append((~counts).any())
        assert goal.counts[:, [0, -1]].all()
    errors = np.concatenate(errors)
    assert errors.mean() < 0.1 and errors.max() < 0.6
    assert np.mean(hidden) == 0.0 if len(drawn[0][0].shapes) == 2 else np.mean(hidden) > 0.2


@pytest.mark.parametrize("std, most", [(0.0, 0.3), (0.15, 0.45)])
def test_true_clips_are_right(drawn, std, most):
    _, clips = drawn
    judged = [judge(noisy(clip.video, std) if std else clip.video, goal_of(clip)) for clip in clips]
    values = values_of(judged)
    assert tuple(values) == VALUES and all(np.isfinite(column).all() for column in values.values())
    means = {name: column.mean() for name, column in values.items()}
    assert means["epe"] < most and means["colours"] >= 0.98 and means["clean"] > 0.9
    assert means["swap"] == means["missing"] == 0.0
    assert 0.95 < means["spread"] < 1.2


@pytest.fixture(scope="module")
def clip():
    return scene_clips(sample_scenes(SETS["grounded"], [FIRST]))[0]


def test_exchanged_texts_are_swaps(clip):
    tracks = object_tracks(clip)
    other = judge(clip.video, goal_of(clip, tracks.replace(texts=tracks.texts[::-1])))
    apart = np.linalg.norm(tracks.tracks[0] - tracks.tracks[1], axis=-1).mean()
    assert other.swap == 1.0 and other.epe == pytest.approx(apart, abs=0.5)
    assert other.missing == 0.0 and other.colours == 1.0


def painted(clip, number, changed):
    """The clip's video in which an object's pixels are the background in some frames."""
    video = clip.video.copy()
    ground = np.median(video[0].reshape(-1, 3), axis=0)
    near = np.linalg.norm(video - ground[None, None], axis=-1) > 2.0
    other = (clip.segment_map != number) & (clip.segment_map > 0)
    near[~changed] = False
    video[near & ~other] = ground
    return video


def test_what_is_gone_stays_where_it_was(clip):
    goal, frames = goal_of(clip), np.arange(9)
    late = judge(painted(clip, 1, frames > 3), goal)
    assert late.missing == 0.5 and late.colours == 0.0 and late.swap == 0.0
    np.testing.assert_array_equal(late.places[0, 3:], late.places[[0], 3].repeat(6, 0))
    np.testing.assert_array_equal(late.seen[0], frames <= 3)
    early = judge(painted(clip, 1, frames < 4), goal)
    np.testing.assert_array_equal(early.places[0, :5], early.places[[0], 4].repeat(5, 0))
    assert early.missing == 0.0 and early.colours == 0.0  # five frames of nine
    never = judge(painted(clip, 1, frames >= 0), goal)
    np.testing.assert_array_equal(never.places[0], 11.5)
    assert never.missing == 0.5 and np.isfinite(never.spread) and never.swap == 0.0


def test_nothing_to_see(clip):
    grey = np.full_like(clip.video, 80)
    found = judge(grey, goal_of(clip))
    assert (found.missing, found.colours, found.clean) == (1.0, 0.0, 0.0)
    assert np.isnan([found.swap, found.spread]).all() and found.epe > 3.0
    goal = goal_of(clip)
    nothing = judge(clip.video, goal._replace(counts=np.zeros_like(goal.counts)))
    values = [getattr(nothing, name) for name in VALUES]
    assert np.isnan(values).tolist() == [True, True, True, True, False, True]


def only(goal, number):
    """The goal of one object."""
    return Goal(*(part[number : number + 1] for part in goal[:4]), goal.size_hw)


def test_a_torn_blob_has_the_right_middle_and_too_much_spread(clip):
    """Two halves at both sides of the path: the error is small, the spread tells."""
    goal = goal_of(clip)
    level = int(np.median(clip.video[0]))
    video = np.full_like(clip.video, level)
    colour = clip.video[0][clip.segment_map[0] == 2][20]
    y, x = np.mgrid[:24, :24]
    for t, (cx, cy) in enumerate(np.full((9, 2), 11.5)):
        for side in (-6.0, 6.0):
            video[t][np.hypot(x - cx - side, y - cy) < 2.6] = colour
    one = Goal(
        goal.colours[1:], np.full((1, 9, 2), 11.5), goal.counts[1:], goal.spread[1:], (24, 24)
    )
    found = judge(video, one)
    assert found.epe < 0.1 and found.missing == 0.0 and found.spread > 1.5
    assert np.isnan(found.swap)  # of one object


def test_things_of_other_colours_are_not_clean(clip):
    goal = goal_of(clip)
    assert judge(clip.video, goal).clean > 0.98
    share = (clip.segment_map == 2).sum() / (clip.segment_map > 0).sum()
    assert judge(clip.video, only(goal, 1)).clean == pytest.approx(share, abs=0.1)


def test_near_paths_are_no_swaps(clip):
    goal = goal_of(clip)
    places = np.stack([goal.places[0], goal.places[0] + 1.0])  # both where the first is
    assert np.isnan(judge(clip.video, goal._replace(places=places)).swap)


def test_bad_input(clip):
    goal, tracks = goal_of(clip), object_tracks(clip)
    with pytest.raises(ValueError, match=r"a video of \(8, 24, 24\) \(frames, rows, col"):
        judge(clip.video[:8], goal)
    with pytest.raises(ValueError, match=r"knows no colour \['purple'\]: use some of \['red'\]"):
        judge(clip.video, goal._replace(colours=("red", "purple")), colours=("red",))
    with pytest.raises(ValueError, match="have no texts to be judged by"):
        goal_of(clip, tracks.replace(texts=None))
    with pytest.raises(ValueError, match="each text must name one object"):
        goal_of(clip, tracks.replace(texts=("a red disc", "a teal disc and a pink hoop")))
    with pytest.raises(ValueError, match="objects of one colour cannot be told apart"):
        goal_of(clip, tracks.replace(texts=("a red disc", "a red hoop")))
    with pytest.raises(ClipError, match="belong to no objects"):
        goal_of(clip.replace(segment=None, masks=None))
