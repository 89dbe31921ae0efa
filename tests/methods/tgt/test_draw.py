"""Which trajectories an example gets: of points or of objects, how many, and with which words."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.segments import object_tracks, trajectories_of
from tavid_jax.methods.tgt.draw import Draw
from tests.methods.tgt.small import scene


@pytest.fixture(scope="module")
def clip() -> Clip:
    return scene()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_objects_are_one_trajectory_each_the_way_of_their_middle(clip: Clip):
    known, truth = Draw("objects").known(clip), object_tracks(clip)
    np.testing.assert_array_equal(known.tracks, truth.tracks)
    assert known.texts == clip.local_captions and len(set(known.texts)) == 2
    assert known.segment.tolist() == [1, 2]


def test_points_have_the_words_of_their_object_and_the_ground_has_none(clip: Clip):
    known, every = Draw().known(clip), trajectories_of(clip)
    wanted = (every.segment > 0) & every.visibility.any(1)
    assert 0 < wanted.sum() < every.num_points  # there is ground
    np.testing.assert_array_equal(known.tracks, every.tracks[wanted])
    assert [clip.local_captions[k - 1] for k in known.segment] == list(known.texts)


def test_what_is_never_seen_is_never_given(clip: Clip):
    shown = clip.segment == 1
    hidden = clip.replace(visibility=clip.visibility & shown[:, None])
    assert set(Draw().known(hidden).segment) == {1}
    assert Draw("objects").known(hidden).texts == clip.local_captions[:1]


def test_an_object_without_words_is_left_out(clip: Clip):
    told = clip.replace(local_captions=("", clip.local_captions[1]))
    for source in ("points", "objects"):
        known = Draw(source)(told, rng())
        assert set(known.texts) == {clip.local_captions[1]}
        assert set(known.segment) == {2}


def test_how_many(clip: Clip):
    """Evenly between the two ends, and no more than there are."""
    draw = Draw(least=1, most=4)
    counts = [draw(clip, rng(seed)).num_points for seed in range(120)]
    found = np.bincount(counts, minlength=5)
    assert found[0] == 0 and found[1:].min() >= 18 and len(found) == 5
    assert {Draw("objects", 3, 5)(clip, rng(seed)).num_points for seed in range(9)} == {2}
    none = Draw(least=0, most=0)(clip, rng())
    assert none.num_points == 0 and none.texts == ()


def test_every_object_gets_one_before_any_gets_a_second(clip: Clip):
    fair, any_ = Draw(least=2, most=2), Draw(least=2, most=2, each=False)
    drawn = [(fair(clip, rng(seed)).segment, any_(clip, rng(seed)).segment) for seed in range(30)]
    assert all(sorted(one) == [1, 2] for one, _ in drawn)
    assert any(len(set(other)) == 1 for _, other in drawn)
    assert len({tuple(one) for one, _ in drawn}) == 2  # in no certain order
    many = Draw(least=8, most=8)(clip, rng()).segment
    assert sorted(many[:2]) == sorted(many[2:4]) == [1, 2]


def test_the_generator_decides(clip: Clip):
    draw = Draw(least=1, most=5)
    first, again, other = (draw(clip, rng(seed)) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.tracks, again.tracks)
    assert first.texts == again.texts
    assert first.tracks.shape != other.tracks.shape or (first.tracks != other.tracks).any()


@pytest.mark.parametrize("source", ["points", "objects"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(local_captions=()), "has no local captions, one for each object; .* ground"),
        (dict(tracks=None), "has no tracks; read it with a tracker"),
    ],
)
def test_clips_of_which_nothing_is_told(clip: Clip, source: str, changes: dict, message: str):
    with pytest.raises(ClipError, match=message):
        Draw(source)(dataclasses.replace(clip, **changes), rng())


@pytest.mark.parametrize("source", ["points", "objects"])
def test_words_whose_objects_are_unknown(clip: Clip, source: str):
    loose = clip.replace(segment=None, masks=None, segment_map=None)
    with pytest.raises(ClipError, match="its tracks belong to no objects; give it masks"):
        Draw(source)(loose, rng())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(source="boxes"), "trajectories.source 'boxes' is none of points, objects"),
        (dict(least=3, most=2), "trajectories.least 3 and most 2: needs 0 <= least <= most"),
        (dict(least=-1), "trajectories.least -1 and most 5"),
    ],
)
def test_values_that_make_no_sense(fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Draw(**fields)
