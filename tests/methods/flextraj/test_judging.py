"""Whether objects go where the points say: on true clips, and on videos painted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.segments import trajectories_of
from tavid_jax.data.synthetic import looks, sample_scene, scene_clip, toy
from tavid_jax.data.synthetic.judging import centres
from tavid_jax.methods.flextraj import judging
from tavid_jax.methods.flextraj.evaluation import scenes_of
from tavid_jax.methods.flextraj.judging import Goal
from tavid_jax.methods.flextraj.variants import Granularity
from tavid_jax.pipelines.follow import Follow

FOLLOW = Follow(native=True, stamp=(1.0, 1.0), colour="frame")
GREY = 60


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    config = toy.steered(twins=True)
    return [scene_clip(sample_scene(config, 5_000_000 + i)) for i in range(20)]


def scenes(clips: list[Clip], measure: str = "trajerr", **follow):
    return scenes_of(clips, Granularity("x", "X", "x", measure, follow), FOLLOW, 0, 9)


def values(of, videos) -> judging.Values:
    found = [judging.judge(v, c, g) for v, c, g in zip(videos, of.clips, of.goals, strict=True)]
    return judging.values_of(found)


def test_true_clips_are_right_to_a_fraction_of_a_pixel(clips: list[Clip]):
    found = values(scenes(clips), [clip.video for clip in clips])
    assert np.nanmax(found["error"]) < 1.0 / 24 and np.nanmean(found["error"]) < 0.4 / 24
    assert np.nanmin(found["similarity"]) > 0.97
    assert not found["lost"].any() and not found["first_frame"].any()
    np.testing.assert_array_equal(found["error"], found["error_all"])


def test_zero_motion_is_off_by_the_whole_way(clips: list[Clip]):
    of = scenes(clips)
    found = values(of, [np.repeat(clip.video[:1], 9, axis=0) for clip in clips])
    for error, goal in zip(found["error"], of.goals, strict=True):
        ways = np.linalg.norm(goal.places - goal.places[:, :1], axis=-1) / 24
        want = ways[goal.counts & goal.given & (np.arange(9) > 0)].mean()
        assert error == pytest.approx(want, abs=1e-6)
    similarity = found["similarity"][np.isfinite(found["similarity"])]
    assert len(similarity) > 10 and not similarity.any()


def painted(places: np.ndarray, *, missing: tuple[int, ...] = ()) -> np.ndarray:
    """A red square of 5x5 px around places (T, 2) on grey; in some frames there is none."""
    video = np.full((len(places), 24, 24, 3), GREY, np.uint8)
    for t, (x, y) in enumerate(places):
        if t not in missing:
            video[t, y - 2 : y + 3, x - 2 : x + 3] = looks.PALETTE["red"]
    return video


def way(*steps: int) -> np.ndarray:
    return np.array([[5 + x, 12] for x in steps])


def goal(places: np.ndarray, given: list[int] | None = None) -> Goal:
    frames = np.ones((1, len(places)), bool)
    steers = frames if given is None else np.isin(np.arange(len(places)), given)[None]
    return Goal(("red",), places[None].astype(np.float64), frames, steers)


def judged(video: np.ndarray, aim: Goal) -> dict[str, float]:
    clip = Clip("painted", (24, 24), 8.0, video=painted(aim.places[0].astype(int)))
    found = judging.values_of([judging.judge(video, clip, aim)])
    return {name: float(column[0]) for name, column in found.items()}


def test_errors_count_behind_the_first_frame_in_sides_of_the_frame():
    aim = goal(way(0, 3, 6, 9))
    found = judged(painted(way(0, 3, 6, 12)), aim)
    assert found["error"] == pytest.approx(3 / 3 / 24) and found["lost"] == 0
    assert 0.99 < found["similarity"] < 0.995  # of the whole path: at last it goes too far
    faster = judged(painted(way(0, 5, 10, 15)), aim)
    assert faster["similarity"] == pytest.approx(1.0) and faster["error"] > 0.1
    backwards = judged(painted(way(9, 6, 3, 0)), aim)
    assert backwards["similarity"] == pytest.approx(-1.0)


def test_frames_that_are_not_given_count_in_the_second_error_alone():
    aim = goal(way(0, 3, 6, 9), given=[0, 3])
    found = judged(painted(way(0, 9, 0, 9)), aim)
    assert found["error"] == 0.0
    assert found["error_all"] == pytest.approx((6 + 6 + 0) / 3 / 24)


def test_a_lost_object_stays_where_it_was_seen_last():
    aim = goal(way(0, 2, 4, 6, 8))
    found = judged(painted(way(0, 2, 4, 6, 8), missing=(3, 4)), aim)
    assert found["lost"] == 1.0 and found["error"] == pytest.approx((2 + 4) / 4 / 24)
    never = judged(np.full((5, 24, 24, 3), GREY, np.uint8), aim)
    assert never["lost"] == 1.0 and never["error"] == pytest.approx((2 + 4 + 6 + 8) / 4 / 24)
    assert never["similarity"] == 0.0


def test_an_object_that_should_stand_has_no_direction():
    found = judged(painted(way(0, 3, 6, 9)), goal(way(0, 0, 0, 0)))
    assert np.isnan(found["similarity"]) and found["error"] == pytest.approx(6 / 24)


def test_places_of_colours():
    video = painted(way(0, 1, 2))
    video[2, :5, 19:] = looks.PALETTE["teal"]
    found = centres(video, ["red", "teal"])
    np.testing.assert_allclose(found[0], way(0, 1, 2))
    assert np.isnan(found[1, :2]).all() and found[1, 2].tolist() == [21.0, 2.0]
    with pytest.raises(ValueError, match="no colour 'mauve'"):
        centres(video, ["mauve"])


# ---- what is given -------------------------------------------------------------------------------


def test_objects_that_no_point_is_given_of_do_not_count(clips: list[Clip]):
    """The most object-like segment alone."""
    of = scenes(clips, choose="region", keep_points=0.01)
    for one, steering in zip(of.goals, of.steering, strict=True):
        assert one.given.any(1).sum() == 1
        k = int(one.given.any(1).argmax())
        assert set(steering.segment[steering.visibility.any(1)]) == {k + 1}
    still = values(of, [np.repeat(clip.video[:1], 9, axis=0) for clip in clips])
    both = [i for i, one in enumerate(of.goals) if len(one.colours) == 2]
    assert both and any(still["error"][i] != still["error_all"][i] for i in both)


def test_unaligned_points_lead_along_the_clips_own_way(clips: list[Clip]):
    """A partner does the same beside: its points say where the clip's own objects should go."""
    own, partner = scenes(clips), scenes(clips, "trajsim", unaligned="scale", colour="none")
    for a, b, steering in zip(own.goals, partner.goals, partner.steering, strict=True):
        np.testing.assert_allclose(a.places, b.places, atol=1e-3)
        assert steering.num_points < 144  # its objects and a little background
    found = values(partner, [clip.video for clip in clips])
    assert np.nanmin(found["similarity"]) > 0.97


def test_clips_that_cannot_be_judged(clips: list[Clip]):
    tracks = trajectories_of(clips[0])
    with pytest.raises(ClipError, match="names 2 objects, its points have none"):
        judging.goal_of(clips[0], tracks.replace(segment=None, segments=0), tracks)
    with pytest.raises(ValueError, match="not of the form"):
        judging.goal_of(clips[0].replace(caption="two dancers"), tracks, tracks)
