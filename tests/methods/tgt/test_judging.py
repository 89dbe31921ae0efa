"""What TGT is judged by: true clips, and trajectories that somebody asks for."""

from __future__ import annotations

import numpy as np
import pytest

from tavid_jax.data.segments import object_tracks
from tavid_jax.data.synthetic import located_judging as judging
from tests.methods.tgt.small import OBJECTS, scene


def test_true_clips_are_where_their_trajectories_say():
    clips = [scene(i) for i in range(8)]
    goals = [judging.goal_of(clip, OBJECTS.known(clip)) for clip in clips]
    right = judging.values_of(
        [judging.judge(c.video, g) for c, g in zip(clips, goals, strict=True)]
    )
    assert set(right) == set(judging.VALUES)
    assert np.nanmax(right["epe"]) < 1.5 and np.nanmean(right["epe"]) < 0.5
    assert not right["missing"].any() and not np.nansum(right["swap"])
    # The other way round: entities are there, where they should not be.
    back = [judging.judge(c.video[::-1], g) for c, g in zip(clips, goals, strict=True)]
    wrong = judging.values_of(back)
    assert np.nanmean(wrong["epe"]) > 4 and not wrong["missing"].any()
    grey = np.full_like(clips[0].video, 60)
    gone = judging.values_of([judging.judge(grey, goals[0])])
    assert gone["missing"].tolist() == [1.0] and gone["colours"].tolist() == [0.0]


def test_trajectories_that_are_asked_for_may_differ_from_the_clips():
    """A person draws where the entities should go; their words find them."""
    clip = scene(1)
    asked = object_tracks(clip)
    moved = asked.replace(tracks=asked.tracks + np.float32([3, -4]))
    apart = judging.judge(clip.video, judging.goal_of(clip, moved))
    same = judging.judge(clip.video, judging.goal_of(clip, asked))
    assert apart.epe == pytest.approx(5.0, abs=same.epe + 1e-6)
