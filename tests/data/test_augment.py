"""Augmentations are exact on tracks, pixels and labels alike."""

import numpy as np
import pytest

from tavid_jax.data.augment import Augmentation, crop, flip, reanchor, reverse_time
from tavid_jax.data.clip import Clip, ClipError, check_clip
from tavid_jax.tracks.grid import grid_shape, query_points

H, W, T, STRIDE = 32, 48, 6, 8


def affine(xy, t):
    """Where a plane that grows and drifts takes the points xy by time t."""
    return xy * (1 + 0.01 * t) + np.array([0.6, -0.4]) * t


def make_clip(origin="center", **kw):
    """A clip whose pixels hold their own coordinates: frame[t, y, x] = (x, y, t)."""
    xy = query_points((H, W), STRIDE, origin)
    tracks = np.stack([affine(xy, t) for t in range(T)], axis=1).astype(np.float32)
    y, x = np.mgrid[:H, :W]
    video = np.stack([np.stack([4 * x, 4 * y, 0 * x + t], -1) for t in range(T)]).astype(np.uint8)
    segment_map = np.zeros((T, H, W), np.uint8)
    for t in range(T):
        segment_map[t, 8:16, 4 + 2 * t : 12 + 2 * t] = 1
        segment_map[t, 20:28, 30:40] = 2
    fields = dict(
        id="a",
        size_hw=(H, W),
        fps=8.0,
        video=video,
        tracks=tracks,
        visibility=np.random.default_rng(0).random(tracks.shape[:2]) > 0.2,
        valid=np.ones(tracks.shape[:2], bool),
        depth=tracks[..., 0].copy(),
        segment=np.arange(len(xy), dtype=np.int32),
        grid_hw=grid_shape((H, W), STRIDE),
        query_xy=xy,
        masks=segment_map[0] == np.array([1, 2])[:, None, None],
        segment_map=segment_map,
        caption="A cup on the left. The camera pans right and zooms in.",
        local_captions=("the left cup", "the right cup"),
        kinds=("line", "still"),
        contact_frame=1,
    )
    return check_clip(Clip(**(fields | kw)))


def assert_equal(a, b):
    for name in Clip.__dataclass_fields__:
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, np.ndarray):
            np.testing.assert_array_equal(x, y, err_msg=name)
        else:
            assert x == y, name


def assert_masks_fit(clip):
    np.testing.assert_array_equal(clip.masks, clip.segment_map[:1] == np.c_[1, 2].T[..., None])


@pytest.mark.parametrize("origin", ["center", "topleft"])
def test_flip_keeps_pixel_under_track_and_track_in_its_cell(origin):
    clip = make_clip(origin)
    mirrored = check_clip(flip(clip))
    n = np.arange(len(clip.tracks))
    cell = np.floor((mirrored.query_xy + 0.5) / STRIDE).astype(int)
    np.testing.assert_array_equal(cell[:, 1] * 6 + cell[:, 0], n)  # still row-major
    np.testing.assert_array_equal(mirrored.tracks[:, 0], mirrored.query_xy)
    first = STRIDE // 2 - 1 if origin == "center" else STRIDE - 1
    assert mirrored.query_xy[0, 0] == first
    # The pixel under a query tells where it was before: at W - 1 - x.
    x, y = mirrored.query_xy.astype(int).T
    np.testing.assert_array_equal(mirrored.video[0, y, x, 0], 4 * (W - 1 - x))
    # Every track is the mirror image of the track that segment names.
    old = mirrored.segment
    np.testing.assert_array_equal(mirrored.tracks[..., 0], W - 1 - clip.tracks[old][..., 0])
    np.testing.assert_array_equal(mirrored.tracks[..., 1], clip.tracks[old][..., 1])
    np.testing.assert_array_equal(mirrored.visibility, clip.visibility[old])
    np.testing.assert_array_equal(
        mirrored.masks, mirrored.segment_map[0] == np.c_[1, 2].T[..., None]
    )


def test_flip_swaps_words_and_is_its_own_inverse():
    clip = make_clip()
    clip = clip.replace(tracks=np.round(4 * clip.tracks) / 4)  # so that float32 rounds nothing
    mirrored = flip(clip)
    assert mirrored.caption == "A cup on the right. The camera pans left and zooms in."
    assert mirrored.local_captions == ("the right cup", "the left cup")
    assert_equal(flip(mirrored), clip)
    bright = flip(make_clip(caption="Left, bright leftovers roll counter-clockwise."))
    assert bright.caption == "Right, bright leftovers roll clockwise."


def test_flip_without_grid_or_frames():
    clip = make_clip(grid_hw=None, video=None, masks=None, segment_map=None, kinds=())
    mirrored = check_clip(flip(clip.replace(local_captions=())))
    np.testing.assert_array_equal(mirrored.segment, clip.segment)
    np.testing.assert_array_equal(mirrored.tracks[..., 0], W - 1 - clip.tracks[..., 0])


def test_reversal_turns_everything_in_time():
    clip = make_clip()
    back = check_clip(reverse_time(clip))
    assert back.grid_hw is None and back.contact_frame == T - 2
    np.testing.assert_array_equal(back.tracks, clip.tracks[:, ::-1])
    np.testing.assert_array_equal(back.query_xy, clip.tracks[:, -1])
    np.testing.assert_array_equal(back.video[..., 2], clip.video[::-1][..., 2])
    np.testing.assert_array_equal(back.masks[0], clip.segment_map[-1] == 1)
    assert back.caption == "A cup on the left. The camera pans left and zooms out."
    assert reverse_time(clip.replace(segment_map=None)).masks is None


def test_reversed_tracks_can_be_asked_at_the_grid_again():
    """Of a pure shift the nearest track's motion is every point's motion."""
    xy = query_points((H, W), STRIDE, "center")
    tracks = (xy[:, None] + np.arange(T)[None, :, None] * np.array([1.5, 0.5])).astype(np.float32)
    clip = make_clip(tracks=tracks, visibility=np.ones(tracks.shape[:2], bool))
    back = check_clip(reanchor(reverse_time(clip), clip.grid_hw, clip.query_xy))
    np.testing.assert_array_equal(back.tracks[:, 0], clip.query_xy)
    times = np.arange(T)[None, :, None]
    np.testing.assert_allclose(back.tracks, xy[:, None] - times * [1.5, 0.5], atol=1e-4)
    assert back.grid_hw == clip.grid_hw and back.segment is None


def test_crop_is_exact_on_tracks_pixels_and_labels():
    clip = make_clip()
    cut = check_clip(crop(clip, (8, 4, 24, 16), (H, W)))  # twice as large
    assert cut.grid_hw is None
    np.testing.assert_allclose(cut.tracks, 2 * (clip.tracks - [8, 4]) + 0.5, atol=1e-4)
    inside = ((cut.tracks >= -0.5) & (cut.tracks < [W - 0.5, H - 0.5])).all(-1)
    np.testing.assert_array_equal(cut.visibility, clip.visibility & inside)
    # Pixels hold 4 * their old coordinates: read them under the moved points.
    x, y = np.meshgrid(np.arange(4, W - 4), np.arange(4, H - 4))
    old = (np.stack([x, y], -1) + 0.5) / 2 - 0.5 + [8, 4]
    assert np.abs(cut.video[0, y, x, :2] - 4 * old).max() <= 0.51
    np.testing.assert_array_equal(cut.segment_map[0, ::2, ::2], clip.segment_map[0, 4:20, 8:32])
    assert_masks_fit(cut)
    assert cut.segment_map.shape == (T, H, W) and cut.masks.dtype == bool


def test_cropped_affine_motion_on_the_grid_again_is_exact():
    clip = make_clip(visibility=np.ones((24, T), bool))
    box = (6, 4, 36, 24)
    cut = check_clip(reanchor(crop(clip, box, (H, W)), clip.grid_hw, clip.query_xy))
    assert cut.grid_hw == clip.grid_hw
    np.testing.assert_array_equal(cut.query_xy, clip.query_xy)
    scale = np.array([W / 36, H / 24])
    source = (clip.query_xy + 0.5) / scale - 0.5 + box[:2]
    hull = ((source >= clip.query_xy.min(0)) & (source <= clip.query_xy.max(0))).all(-1)
    assert hull.mean() > 0.6
    for t in range(T):
        want = (affine(source, t) - box[:2] + 0.5) * scale - 0.5
        np.testing.assert_allclose(cut.tracks[hull, t], want[hull], atol=1e-3)


@pytest.mark.parametrize("box", [(-1, 0, 8, 8), (0, 0, 0, 8), (44, 0, 8, 8), (0, 30, 8, 8)])
def test_a_box_outside_is_refused(box):
    with pytest.raises(ClipError, match="box .* the frame"):
        crop(make_clip(), box, (H, W))


def test_the_augmentation_is_seeded_and_keeps_shapes():
    clip = make_clip()
    augment = Augmentation(flip=0.5, reverse=0.5, crop=0.5)
    results = []
    for seed in range(12):
        got = check_clip(augment(clip, np.random.default_rng(seed)))
        assert_equal(got, augment(clip, np.random.default_rng(seed)))
        assert got.tracks.shape == clip.tracks.shape and got.grid_hw == clip.grid_hw
        assert got.video.shape == clip.video.shape and got.size_hw == clip.size_hw
        results.append(got.tracks.tobytes())
    assert len(set(results)) > 6


def test_probabilities_of_nothing_and_of_all():
    clip = make_clip()
    rng = np.random.default_rng(0)
    assert Augmentation(0, 0, 0)(clip, rng) is clip
    assert_equal(Augmentation(1.0)(clip, rng), flip(clip))
    other = np.random.default_rng(0)
    Augmentation(1.0, 1.0, 1.0)(clip, other)
    Augmentation(1.0)(clip, other)
    assert rng.random() == other.random()  # the same number of draws whatever happens


def test_a_clip_that_nothing_is_left_of_at_the_end_is_not_reversed():
    visibility = np.ones((24, T), bool)
    visibility[:, -1] = False
    clip = make_clip(visibility=visibility)
    assert Augmentation(0, 1, 0)(clip, np.random.default_rng(0)) is clip


@pytest.mark.parametrize("kw", [dict(flip=1.5), dict(reverse=-1), dict(crop_side=0)])
def test_settings_out_of_range_are_refused(kw):
    with pytest.raises(ValueError, match=next(iter(kw))):
        Augmentation(**kw)


@pytest.mark.parametrize("seed", range(3))
def test_partners_are_changed_alike(seed):
    changed = Augmentation(flip=0.5, reverse=0.5, crop=0.7)
    pair = changed(make_clip(partner=make_clip(id="b")), np.random.default_rng(seed))
    alone = changed(make_clip(), np.random.default_rng(seed))
    for name in ("video", "tracks", "visibility", "masks"):
        np.testing.assert_array_equal(getattr(pair, name), getattr(pair.partner, name))
        np.testing.assert_array_equal(getattr(pair, name), getattr(alone, name))
    assert pair.partner.id == "b" and alone.partner is None


def test_what_a_partner_does_not_bear_is_not_done():
    rng = np.random.default_rng
    ends = np.arange(T) < T - 1
    blind = make_clip(id="b", visibility=np.tile(ends, (24, 1)))  # has no last frame to start from
    small = make_clip(id="b", actor=1)  # its actor is cut off by the crop of this seed
    for partner, change in ((blind, dict(reverse=1.0)), (small, dict(crop=1.0, crop_side=0.3))):
        changed = Augmentation(flip=0, **change)
        assert not np.array_equal(changed(make_clip(), rng(0)).video, make_clip().video)
        pair = changed(make_clip(partner=partner), rng(0))
        np.testing.assert_array_equal(pair.video, make_clip().video)
        np.testing.assert_array_equal(pair.partner.video, partner.video)
    assert flip(make_clip(partner=blind)).partner is None
