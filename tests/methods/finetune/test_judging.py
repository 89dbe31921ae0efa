"""What is right about videos: against scenes painted by hand, and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tavid_jax.data.clip import Clip
from tavid_jax.data.synthetic import judging as judge
from tavid_jax.data.synthetic import looks
from tavid_jax.methods.finetune import judging
from tavid_jax.methods.finetune.judging import CONTACT, OBJECTS, Judged, Thing

GREY = (70, 70, 70)
BOXES = ((4, 4), (18, 12))  # centres (x, y) of two white boxes
START, RESAMPLES = (5, 18), 500


def canvas(frames: int = 9) -> np.ndarray:
    return np.full((frames, 24, 24, 3), GREY, np.uint8)


def paint(video: np.ndarray, frame: int, colour: str, middle: tuple[int, int]) -> None:
    """A square of 5 px."""
    x, y = middle
    video[frame, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = looks.PALETTE[colour]


def reaching(*ends: tuple[int, int]) -> np.ndarray:
    """A red actor that jumps to its ends, all at once, in the last frame."""
    video = canvas()
    for t in range(9):
        for box in BOXES:
            paint(video, t, "white", box)
        for place in ends if t == 8 else [START]:
            paint(video, t, "red", place)
    return video


NEAR_FIRST, NEAR_SECOND = (4, 9), (18, 17)


def scene() -> Clip:
    """Objects 1 and 3 are the boxes, 2 is the actor; the second box is the target."""
    masks = np.zeros((3, 24, 24), bool)
    for mask, (x, y) in zip(masks, (BOXES[0], START, BOXES[1]), strict=True):
        mask[y - 2 : y + 3, x - 2 : x + 3] = True
    return Clip(
        "a",
        (24, 24),
        8.0,
        video=reaching(NEAR_SECOND),
        masks=masks,
        caption="a red disc touches a white box",
        kinds=("rest", "walk", "react"),
        actor=2,
        target=3,
    )


def moving(colours: dict[str, int], frames: int = 9) -> np.ndarray:
    """Squares that go to the right, each in its row."""
    video = canvas(frames)
    for colour, row in colours.items():
        for t in range(frames):
            paint(video, t, colour, (4 + 2 * t, row))
    return video


def captioned(text: str) -> Clip:
    return Clip("a", (24, 24), 8.0, video=canvas(), caption=text, kinds=("right",))


# ---- objects -----------------------------------------------------------------------------------


def test_every_object_has_to_be_right():
    video = moving({"red": 6, "yellow": 17})
    two = captioned("a red disc moves right and a yellow disc moves left")
    found = judging.judge_video(OBJECTS, video, two)
    assert found.values == dict(colour=1.0, motion=0.0, shape=1.0, clean=1.0, all=0.0)
    assert [(t.colour, t.motion, t.right["motion"]) for t in found.things] == [
        ("red", "right", True),
        ("yellow", "left", False),
    ]
    right = judging.judge_video(OBJECTS, video, captioned(two.caption.replace("left", "right")))
    assert set(right.values.values()) == {1.0}
    alone = judging.judge_video(OBJECTS, moving({"red": 6}), two)
    assert (alone.values["colour"], alone.values["clean"]) == (0.0, 1.0)
    third = judging.judge_video(OBJECTS, video, captioned("a red disc moves right"))
    assert third.values["clean"] == 0.0 and third.values["colour"] == 1.0


def test_a_caption_of_another_kind():
    with pytest.raises(ValueError, match="is not of the form 'a COLOUR SHAPE MOTION'"):
        judging.judge_video(OBJECTS, canvas(), captioned("waves on a beach"))
    with pytest.raises(ValueError, match="no interaction with a short caption"):
        judging.judge_video(CONTACT, canvas(), captioned("a red disc moves right"))


# ---- contact -----------------------------------------------------------------------------------


def test_which_box_is_touched():
    def touched(*ends):
        return judging.judge_video(CONTACT, reaching(*ends), scene()).values

    target, other, nothing = touched(NEAR_SECOND), touched(NEAR_FIRST), touched(START)
    names = ("touched", "target", "lookalike", "none", "balance")
    assert [target[name] for name in names] == [1, 1, 0, 0, 1]
    assert [other[name] for name in names] == [1, 0, 1, 0, 0]
    assert [nothing[name] for name in names[:4]] == [0, 0, 0, 1]
    assert math.isnan(nothing["balance"]) and math.isnan(nothing["left"])
    # The first box lies to the left of the second one, and a little nearer to the actor's start.
    assert (target["left"], other["left"]) == (0.0, 1.0)
    assert (target["nearer"], other["nearer"]) == (0.0, 1.0)
    assert nothing["actor"] == target["actor"] == 1.0


def test_noise_touches_nothing():
    """There is a spot of every colour near everything."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        video = rng.integers(0, 256, (9, 24, 24, 3), dtype=np.uint8)
        found = judging.judge_video(CONTACT, video, scene()).values
        assert found["none"] == 1.0 and found["clean"] == 0.0


def test_an_actor_that_is_drawn_twice_touches_nothing():
    """A model that cannot decide may paint it at both boxes."""
    found = judging.judge_video(CONTACT, reaching(NEAR_FIRST, NEAR_SECOND), scene()).values
    assert (found["touched"], found["none"], found["actor"]) == (0.0, 1.0, 0.0)
    gone = judging.judge_video(CONTACT, reaching(), scene()).values
    assert (gone["touched"], gone["none"], gone["actor"]) == (0.0, 1.0, 0.0)


def test_the_given_frame():
    video = reaching(NEAR_SECOND)
    assert judging.judge_video(CONTACT, video, scene()).values["first_frame"] == 0.0
    video[0] += 10  # levels of 255 everywhere
    found = judging.judge_video(CONTACT, video, scene()).values
    assert found["first_frame"] == pytest.approx(10.0, abs=1e-3)


# ---- numbers of many scenes --------------------------------------------------------------------


def test_groups_are_by_the_number_of_objects():
    clips = [Clip(str(n), (4, 4), 8.0, kinds=("still",) * n) for n in (1, 2, 1, 3)]
    groups = judging.groups_of(clips)
    assert {k: v.tolist() for k, v in groups.items()} == dict(
        one=[0, 2], two=[1], more=[3], all=[0, 1, 2, 3]
    )
    assert list(judging.groups_of(clips[3:])) == ["more", "all"]


def test_means_leave_out_what_does_not_apply():
    values = {"a": np.array([1.0, 0.0, 1.0, np.nan]), "b": np.array([2.0, 4.0, 6.0, 8.0])}
    groups = {"one": np.array([0, 2]), "all": np.arange(4)}
    found = judging.measure(values, groups, RESAMPLES)
    assert found["one"]["a"] == {"value": 1.0, "interval": [1.0, 1.0], "scenes": 2}
    assert found["all"]["a"]["value"] == pytest.approx(2 / 3) and found["all"]["a"]["scenes"] == 3
    assert found["all"]["b"]["value"] == 5.0
    low, high = found["all"]["b"]["interval"]
    assert 2.0 <= low < 5.0 < high <= 8.0


def test_a_change_is_paired():
    before = {"a": np.array([0.0, 0.0, 1.0, 0.0])}
    after = {"a": np.array([1.0, 1.0, 1.0, 1.0])}
    found = judging.compare(after, before, {"all": np.arange(4)}, RESAMPLES)["all"]["a"]
    assert found["difference"] == 0.75 and found["scenes"] == 4
    same = judging.compare(after, after, {"all": np.arange(4)}, RESAMPLES)["all"]["a"]
    assert same["difference"] == 0.0 and same["interval"] == [0.0, 0.0]


def test_shares_by_what_was_asked_for():
    def thing(word, said, **right):
        return Thing(word, "disc", said, dict(colour=True, motion=True, shape=True) | right)

    found = [
        Judged({}, (thing("red", "left"), thing("teal", "up", colour=False))),
        Judged({}, (thing("red", "", motion=False),)),
    ]
    table = judging.by_attribute(found)
    assert table["colour"]["red"] == dict(colour=1.0, motion=0.5, shape=1.0, objects=2)
    assert table["colour"]["teal"] == dict(colour=0.0, motion=1.0, shape=1.0, objects=1)
    assert set(table["motion"]) == {"left", "up", "none said"}
    assert table["shape"]["disc"]["objects"] == 3


# ---- goals ---------------------------------------------------------------------------------------


def found(value: float, low: float, high: float) -> dict:
    return {"value": value, "interval": [low, high], "scenes": 200}


def test_goals_are_reached_or_not():
    measured = {
        "one": {"colour": found(0.97, 0.95, 1.0)},
        "all": {"motion": found(0.81, 0.75, 0.86), "balance": found(0.7, 0.62, 0.78)},
    }
    goals = {"all": dict(motion=0.8, balance=[0.4, 0.6]), "one": dict(colour=0.95)}
    rows = judging.reached(measured, goals)
    assert [(r["name"], r["reached"], r["certain"]) for r in rows] == [
        ("colour", True, True),
        ("motion", True, False),
        ("balance", False, True),
    ]
    assert rows[2]["goal"] == [0.4, 0.6] and rows[0]["value"] == 0.97
    assert judging.reached(measured, {}) == []
    (absent,) = judging.reached(measured, {"two": dict(colour=0.9)})
    assert math.isnan(absent["value"]) and not absent["reached"] and absent["scenes"] == 0


@pytest.mark.parametrize(
    ("judge", "goals", "has_model", "message"),
    [
        ("eyes", {}, True, "evaluate.judge 'eyes' is none of none, objects, contact"),
        ("contact", {}, False, "judge 'contact' looks at samples, .* config.checkpoint"),
        ("objects", {"three": {}}, True, "evaluate.goals.three is none of one, two, more, all"),
        (
            "objects",
            {"all": {"touched": 0.8}},
            True,
            "goals.all.touched is not measured: judge 'objects' looks at colour, motion",
        ),
    ],
)
def test_what_cannot_be_judged_is_said_beforehand(judge, goals, has_model, message):
    with pytest.raises(ValueError, match=message):
        judging.check_judge(judge, goals, has_model)


def test_what_can_be_judged():
    judging.check_judge("none", {"all": {"colour": 1}}, has_model=False)  # of a preset
    judging.check_judge("objects", {"one": {"colour": 0.9}, "all": {}}, has_model=True)
    judging.check_judge("contact", {"all": {"balance": (0.4, 0.6)}}, has_model=True)


def test_how_much_a_colour_covers():
    video = moving({"red": 6, "yellow": 17})
    np.testing.assert_allclose(judge.covered(video[:3], "red"), [25 / 576] * 3)
    assert judge.covered(video, "teal").max() == 0.0
    with pytest.raises(ValueError, match="the judge knows no colour 'mauve'"):
        judge.covered(video, "mauve")
