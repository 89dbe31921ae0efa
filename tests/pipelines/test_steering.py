"""Tracks into condition videos: how options are carried out, in which frame, and by which seed."""

import numpy as np
import pytest
from PIL import Image

from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.images import fit_image
from tavid_jax.pipelines.steering import Drawing, kept_frames, sparsified
from tavid_jax.tracks.condition_videos import ConditionOptions, condition_videos
from tavid_jax.tracks.trajectories import Trajectories

FRAMES = 9


def rng(seed=0):
    return np.random.default_rng(seed)


def points(size_hw, count=12, seed=1):
    start = rng(seed).uniform(0.2, 0.6, (count, 1, 2)) * (size_hw[1], size_hw[0])
    step = np.array([0.03 * size_hw[1], 0.0])
    tracks = (start + np.arange(FRAMES)[:, None] * step).astype(np.float32)
    return Trajectories(tracks, np.ones((count, FRAMES), bool), size_hw)


def seen(trajectories):
    return trajectories.visibility.any(1), trajectories.visibility.any(0)


def test_points_and_frames_that_are_kept():
    made = points((48, 72), 40)
    left = sparsified(made, Follow(keep_points=0.25, keep_frames=0.5), rng())
    which, when = seen(left)
    assert which.sum() == 10 and np.flatnonzero(when).tolist() == [0, 2, 5, 8]
    again = sparsified(made, Follow(keep_points=0.25, keep_frames=0.5), rng())
    np.testing.assert_array_equal(left.visibility, again.visibility)
    other = sparsified(made, Follow(keep_points=0.25), rng(1))
    assert (seen(other)[0] != which).any()
    keys = sparsified(made, Follow(keep_frames=(1, 7)), rng())
    assert np.flatnonzero(seen(keys)[1]).tolist() == [1, 7]
    assert sparsified(made, Follow(), rng()).visibility.all()
    random = kept_frames(Follow(keep_frames=0.5, random_frames=True), FRAMES, rng(2))
    assert random.sum() == 4 and random[0] and random[-1]


def test_regions_of_masks_of_finer_masks_and_of_segments():
    made = points((48, 72), 40)
    follow = Follow(choose="region", keep_points=0.3)
    column, row = made.tracks[:, 0].T
    masks = np.zeros((2, 48, 72), bool)
    masks[0, :, :30], masks[1, :, 30:] = True, True
    which = seen(sparsified(made, follow, rng(), masks))[0]
    assert which.any() and len({bool(x < 29.5) for x in column[which]}) == 1
    fine = np.zeros((2, 48, 72), bool)
    fine[0, :20], fine[1, 20:] = True, True
    which = seen(sparsified(made, follow, rng(), masks, fine))[0]
    left = [int((which & side).sum()) for side in (column < 29.5, column >= 29.5)]
    assert left == [int(0.3 * side.sum()) for side in (column < 29.5, column >= 29.5)]
    by_segment = made.replace(segment=np.repeat([0, 1, 2, 3], 10), segments=3)
    which = seen(sparsified(by_segment, follow.__class__(choose="region", keep_points=0.25), rng()))
    assert np.bincount(by_segment.segment[which[0]]).max() == 10 == which[0].sum()
    with pytest.raises(ValueError, match="needs regions"):
        sparsified(made, follow, rng())


def test_unaligned_points_are_moved_or_given_so():
    made = points((48, 72))
    given = sparsified(made, Follow(unaligned="given"), rng())
    np.testing.assert_array_equal(given.tracks, made.tracks)
    moved = sparsified(made, Follow(unaligned="shift"), rng())
    shift = moved.tracks - made.tracks
    assert (shift[..., 1] == 0).all() and 3 <= np.abs(shift[0, 0, 0]) <= 4.9
    mask = np.ones((1, 48, 72), bool)
    scaled = sparsified(made, Follow(unaligned="scale", scale=2.0), rng(), mask)
    extent = np.ptp(scaled.tracks[:, 0], axis=0) / np.ptp(made.tracks[:, 0], axis=0)
    assert sorted(extent.round(3).tolist()) in ([1.0, 2.0], [2.0, 2.0])


def test_frames_of_the_released_ratio_are_drawn_at_480x720_and_resized():
    made, small = points((480, 720)), (32, 56)
    draw = Drawing(Follow(), (480, 720), small)
    assert draw.canvas_hw == (480, 720)
    canvas = condition_videos(made, None, ConditionOptions(colour="none"))[0]
    want = [fit_image(frame, small, "cover", Image.Resampling.BILINEAR) for frame in canvas]
    np.testing.assert_array_equal(draw(made)[0], np.stack(want))
    # The same tracks in other pixels are the same picture, but for what coordinates are rounded.
    halved = made.replace(tracks=(made.tracks + 0.5) / 2 - 0.5, size_hw=(240, 360))
    off = Drawing(Follow(), (240, 360), small)(halved)[0].astype(int) - draw(made)[0]
    assert (np.abs(off) > 8).mean() < 0.01
    # At that size nothing is resized.
    np.testing.assert_array_equal(Drawing(Follow(), (480, 720), (480, 720))(made)[0], canvas)


@pytest.mark.parametrize("fit", ["cover", "stretch"])
def test_other_frames_are_fitted_as_images_are(fit):
    """A point on a white spot of the image stays on it."""
    image = np.zeros((64, 160, 3), np.uint8)
    image[28:36, 60:72] = 255
    places = np.tile(np.float32([[65.5, 31.5]]), (1, FRAMES, 1))
    made = Trajectories(places, np.ones((1, FRAMES), bool), (64, 160))
    draw = Drawing(Follow(native=True, stamp=(2.0, 2.0)), (64, 160), (64, 64), fit)
    ids = draw(made)[0][0, ..., 0] > 0
    spot = fit_image(image, (64, 64), fit)[..., 0] > 128
    middle = [np.mean(np.nonzero(one), axis=1) for one in (ids, spot)]
    assert ids.sum() == 16 and np.abs(middle[0] - middle[1]).max() < 2


def test_colours_of_points_stay_or_change_with_the_source():
    made = points((48, 72), 3)
    late = made.visibility.copy()
    late[2, 0] = False
    made = made.replace(visibility=late)
    video = np.stack([np.full((48, 72, 3), 20 * t + 40, np.uint8) for t in range(FRAMES)])

    def shown(colour, source):
        draw = Drawing(Follow(colour=colour, native=True), (48, 72), (48, 72))
        ids, colours = draw(made, source)
        return [
            sorted(set(frame[i[..., 0] > 0].ravel())) for frame, i in zip(colours, ids, strict=True)
        ]

    assert shown("frame", video) == [[20 * t + 40] for t in range(FRAMES)]
    assert shown("point", video)[0] == [40] and shown("point", video)[-1] == [40, 60]
    assert shown("point", video[:1])[-1] == [0, 40]  # the third point is not in the image
    assert set(sum(shown("none", None), [])) == {0}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keep_point": 0.5}, "no option 'keep_point'; did you mean 'keep_points'"),
        ({"keep_points": 0}, "keep_points 0: give a share above 0"),
        ({"keep_frames": []}, "keep_frames"),
        ({"keep_frames": 1.5}, "give a share from 0 to 1, or key frames"),
        ({"colour": "frames"}, "there are none, frame, point"),
        ({"unaligned": "moved"}, "there are scale, shift, given"),
        ({"stamp": [3, 0]}, "half width and half height"),
    ],
)
def test_options_that_make_no_sense_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Follow.of(fields)
