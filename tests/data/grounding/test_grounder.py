"""One clip: what comes out, and what is said where nothing does."""

import numpy as np
import pytest

from tavid_jax.data.clip import ClipError
from tavid_jax.data.grounding.grounder import Grounder, LeftOut, ProviderError
from tavid_jax.data.grounding.motion import MotionRule
from tavid_jax.data.grounding.points import PointRule
from tavid_jax.data.segments import trajectories_of
from tests.data.grounding import squares

EASY = MotionRule(seen=0.1)


def grounder(**changes):
    made = Grounder(points=PointRule(share=0.02), motion=EASY)
    made._made |= {"tracker": squares.tracker} | changes  # providers that are no names
    return made


def test_points_follow_their_objects_and_carry_their_texts():
    made = Grounder(points=PointRule(share=0.02), motion=EASY)(squares.clip())
    clip = made.clip
    assert clip.local_captions == squares.TEXTS and not made.notes
    # 144 px of 3072 are 4.7 %: three points each.
    np.testing.assert_array_equal(clip.segment, [1, 1, 1, 2, 2, 2])
    true = squares.true_tracks()
    for number in (1, 2):
        own = clip.segment == number
        shift = clip.tracks[own] - clip.tracks[own][:, :1]
        moved = true[number - 1] - true[number - 1][:1]
        error = np.linalg.norm(shift - moved, axis=-1)[clip.visibility[own]]
        assert clip.visibility[own].mean() > 0.5 and error.mean() < 1.0
    trajectories = trajectories_of(clip)
    assert trajectories.texts == ("a red square",) * 3 + ("a blue square",) * 3
    unknown = trajectories_of(clip.replace(segment=np.array([0, 1, 1, 2, 2, 2], np.int32)))
    assert unknown.texts[:2] == ("", "a red square")
    assert trajectories_of(clip.replace(local_captions=())).texts is None


def test_a_clips_own_tracks_are_chosen_among():
    x, y = squares.grid().T
    tracks, seen = squares.tracker(squares.video(), squares.grid())
    tracks[0, 3] = np.nan  # on no object, and not finite: not seen there
    seen[(y < 14) & (x < 12), 0] = False  # these start unseen
    made = grounder(tracker=None)(squares.clip(tracks=tracks, visibility=seen)).clip
    for track in made.tracks:
        assert (np.abs(tracks - track).max(axis=(1, 2)) == 0).any()
    assert made.visibility[:, 0].all() and set(made.segment) == {1, 2}


def test_objects_without_text_or_point_or_size_are_left_out_and_said():
    masks = np.concatenate([squares.masks(), np.zeros((2, *squares.HW), bool)])
    masks[2, 40:46, 2:14] = True
    masks[3, 0, 0] = True
    texts = ("", "a blue square", "a patch", "a dot")
    clip = squares.clip(masks=masks, local_captions=texts)

    def blind(video, query):
        tracks, seen = squares.tracker(video, query)
        seen[(query[:, 1] > 39) & (query[:, 0] < 14)] = False
        return tracks, seen

    made = grounder(tracker=blind)(clip)
    assert made.clip.local_captions == ("a blue square",) and set(made.clip.segment) == {1}
    np.testing.assert_array_equal(made.clip.masks, squares.masks()[1:])
    assert sorted(made.notes) == [
        ("size", "object 4 covers 0.03% of the first frame"),
        ("texts", "object 1 has no text"),
        ("tracks", "object 3 has no point that is seen"),
    ]


def nan_tracker(video, query):
    tracks, seen = squares.tracker(video, query)
    tracks[1, 2] = np.nan
    return tracks, seen


def still(video, query):
    tracks, seen = squares.tracker(video, query)
    return np.repeat(tracks[:, :1], len(video), axis=1), seen


def unseen(video, query):
    tracks, seen = squares.tracker(video, query)
    return tracks, ~seen


@pytest.mark.parametrize(
    ("changes", "given", "kind", "message"),
    [
        (dict(masks=None, local_captions=()), {}, "objects", "has no masks: lay <stem>.mask_0"),
        (dict(local_captions=()), {}, "texts", "has no texts of its objects"),
        (dict(local_captions=("", "")), {}, "texts", "none of its objects has a text"),
        (dict(caption=""), {}, "caption", "has no caption: write it into a CSV"),
        ({}, dict(tracker=still), "motion", "little motion"),
        (dict(video=None, tracks=squares.true_tracks()), {}, "input", "has no video"),
        ({}, dict(tracker=nan_tracker), "tracks", "point 1 is visible in frame 2, at no finite"),
        ({}, dict(tracker=unseen), "tracks", "no point on its objects is ever seen"),
        ({}, dict(tracker=lambda video, query: (video, query)), "tracks", "gave tracks uint8"),
        ({}, dict(segmenter=lambda clip: clip.masks * 1.0), "objects", "gave masks float64"),
        ({}, dict(segmenter=lambda clip: clip.masks[:1]), "texts", "texts of 2 objects, but 1"),
        (
            {},
            dict(segmenter=lambda clip: clip.masks & False),
            "size",
            "no object is left: object 1 covers 0.00%",
        ),
        ({}, dict(annotator=lambda *_: "a hat"), "texts", "gave 'a hat', wanted 2 texts"),
        ({}, dict(annotator=lambda *_: ("a hat",)), "texts", "wanted 2 texts, one for each"),
    ],
)
def test_a_clip_that_is_left_out_says_why(changes, given, kind, message):
    with pytest.raises(LeftOut, match=message) as caught:
        grounder(**(dict(tracker=None) if "tracks" in changes else {}), **given)(
            squares.clip(**changes)
        )
    assert caught.value.kind == kind


def test_a_provider_that_fails_ends_the_run_and_is_named():
    def broken(clip):
        raise KeyError("weights")

    with pytest.raises(ProviderError, match="segmenter clip failed on clip 'squares': KeyError"):
        grounder(segmenter=broken)(squares.clip())

    def silent(clip):
        raise ClipError("sees nothing here")

    with pytest.raises(LeftOut, match="sees nothing here"):
        grounder(segmenter=silent)(squares.clip())


def test_an_annotator_gets_a_point_inside_each_object():
    asked = []

    def annotate(clip, objects, points):
        asked.append((objects, points))
        return ["first", "second"]

    made = grounder(annotator=annotate, tracker=squares.tracker)(squares.clip(local_captions=()))
    (objects, points), texts = asked[0], made.clip.local_captions
    assert texts == ("first", "second")
    for mask, (x, y) in zip(objects.masks, points.astype(int), strict=True):
        assert mask[y, x]
