"""Condition videos of training examples: drawn as those of a sampled video are."""

from __future__ import annotations

import numpy as np
import pytest

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.synthetic import sample_scene, scene_clip, toy
from tavid_jax.methods.flextraj.controls import Controls, steering_tracks
from tavid_jax.methods.flextraj.curriculum import Mixture
from tavid_jax.methods.flextraj.variants import control_fields, control_job
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.following import guide_of, steering_of
from tavid_jax.pipelines.settings import Sampling
from tavid_jax.pipelines.steering import sparsified

BASE = Follow(codes="spread", order="array", stamp=(1.0, 1.0), native=True, colour="frame")
SAMPLING = Sampling(sampler="ddim", size_hw=(24, 24), frames=9, fps=8, steps=2, guidance=1.0)


@pytest.fixture(scope="module")
def clip() -> Clip:
    """A red box and a teal disc, both of which move; its partner is a disc and a box."""
    return scene_clip(sample_scene(toy.steered(twins=True), 0))


def changed(**fields) -> Follow:
    return Follow.of({**vars(BASE), **fields})


@pytest.mark.parametrize(
    ("partner", "fields"),
    [
        (True, {}),
        (True, dict(colour="point")),
        (True, dict(keep_points=0.1, colour="none")),
        (True, dict(choose="region", keep_points=0.01)),
        (True, dict(keep_frames=0.0, colour="none")),
        (True, dict(unaligned="scale", colour="none")),
        (False, dict(unaligned="scale", scale=0.5, colour="none")),
        (False, dict(unaligned="shift", colour="none")),
    ],
)
def test_training_and_sampling_draw_the_same(clip: Clip, partner: bool, fields: dict):
    """From the same random numbers, through the job that a user would give."""
    clip = clip if partner else clip.replace(partner=None)
    job = control_job(clip, changed(**fields), seed=4)
    want = guide_of(job, SAMPLING, [clip.video[0]]).videos()
    steering = steering_of(job, 9)
    got = Controls(job.follow).videos(clip, steering, job.follow)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    rng = np.random.default_rng([4, 7])  # of a job's choices
    trained = sparsified(job.tracks, job.follow, rng, clip.masks)
    np.testing.assert_array_equal(trained.visibility, steering.visibility)
    np.testing.assert_array_equal(trained.tracks, steering.tracks)
    assert want[0].any() and want[1].any() == (job.follow.colour != "none")


def test_an_example_is_drawn_with_what_it_says(clip: Clip):
    made = Controls(BASE)(clip, Mixture(colour=1.0), np.random.default_rng(0))
    assert (made.task, made.caption) == ("dense", clip.caption)
    assert made.steering.visibility.sum() == clip.visibility.sum()
    x, y = np.rint(made.steering.tracks[:, 0]).astype(int).T
    assert made.ids[0][y, x].any(-1).all()  # every point has a stamp
    shown = made.ids.any(-1, keepdims=True)
    np.testing.assert_array_equal(made.colours, clip.video * shown)
    bare = Controls(BASE)(clip, Mixture(colour=0.0), np.random.default_rng(0))
    assert bare.ids.any() and not bare.colours.any()


def test_a_dropped_condition_is_black(clip: Clip):
    mixture = Mixture(dense=0, unaligned=1, dropout=1.0)
    made = Controls(BASE)(clip, mixture, np.random.default_rng(0))
    assert not made.ids.any() and not made.colours.any()
    assert made.caption == clip.caption  # nothing is unaligned in a video without points


def test_unaligned_points_are_the_partners_where_the_clips_object_is(clip: Clip):
    mixture = Mixture(dense=0, unaligned=1)
    made = Controls(BASE)(clip, mixture, np.random.default_rng(0))
    assert made.caption == "unaligned, " + clip.caption
    assert made.follow.unaligned == "given" and not made.colours.any()
    front = made.steering.segment > 0
    start = made.steering.tracks[front, 0]
    rows, columns = np.nonzero(clip.masks.any(0))
    for places, pixels in zip(start.T, (columns, rows), strict=True):
        # Points lie on every second pixel: they end up to 2 px within the object.
        middle = (pixels.min() + pixels.max()) / 2
        assert abs((places.min() + places.max()) / 2 - middle) <= 2
    way = made.steering.tracks[front] - made.steering.tracks[front, :1]
    theirs = clip.partner.tracks - clip.partner.tracks[:, :1]
    moved = theirs[clip.partner.segment > 0]
    np.testing.assert_allclose(np.abs(way).max(), np.abs(moved).max(), atol=1e-4)


def test_without_a_partner_a_clips_own_points_are_moved(clip: Clip):
    alone = clip.replace(partner=None)
    follow = changed(unaligned="scale", colour="none")
    tracks, kept = steering_tracks(alone, follow, np.random.default_rng(0))
    assert kept.unaligned == "scale"
    np.testing.assert_array_equal(tracks.tracks, clip.tracks)
    assert set(control_fields(alone, follow, 0)) == {"tracks", "follow", "segments"}
    assert set(control_fields(clip, follow, 0)) == {"tracks", "follow"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(tracks=None, visibility=None, segment=None, grid_hw=None), "has no tracks"),
        (dict(video=None), "colours are those of its frames, it has none"),
    ],
)
def test_clips_that_are_refused(clip: Clip, changes: dict, message: str):
    with pytest.raises(ClipError, match=message):
        Controls(BASE)(clip.replace(**changes), Mixture(colour=1.0), np.random.default_rng(0))


def test_a_pair_without_known_objects_moves_its_own_points(clip: Clip):
    alone = clip.replace(partner=clip.partner.replace(masks=None, segment=None))
    mixture = Mixture(dense=0, unaligned=1)
    made = Controls(BASE)(alone, mixture, np.random.default_rng(0))
    assert made.follow.unaligned == "scale"
    want = Controls(BASE)(clip.replace(partner=None), mixture, np.random.default_rng(0))
    np.testing.assert_array_equal(made.ids, want.ids)
