"""Id and colour videos: the released renderer's to the bit, and the other ways."""

import numpy as np
import pytest
from PIL import Image

from tavid_jax.tracks import stamps_device
from tavid_jax.tracks.codes import segmented
from tavid_jax.tracks.condition_videos import (
    ConditionOptions,
    colours_under,
    condition_videos,
    cover,
    id_drawing,
    nothing_visible,
    resize_and_crop,
)
from tavid_jax.tracks.merging import merge_two_way, new_points
from tavid_jax.tracks.sparsify import keep, uniform_frames
from tavid_jax.tracks.trajectories import Trajectories


def trajectories_of(file, name, which=""):
    """Points of a golden: (T, N, 3) of x, y, z there."""
    tracks = file[f"in/{name}/{which}tracks"].swapaxes(0, 1)
    return Trajectories(
        tracks=tracks[..., :2],
        visibility=file[f"in/{name}/{which}visibility"].T,
        size_hw=file["in/frames"].shape[1:3],
        depth=tracks[..., 2],
    )


def check(file, name, points, options):
    ids, colours = condition_videos(points, file["in/frames"], options)
    drawing = id_drawing(points, options)
    np.testing.assert_array_equal(drawing["colours"], file[f"out/{name}/colors"])
    np.testing.assert_array_equal(ids, file[f"out/{name}/v_id"])
    np.testing.assert_array_equal(colours, file[f"out/{name}/v_color"])
    np.testing.assert_array_equal(stamps_device.draw(**drawing), ids)


@pytest.mark.parity
def test_dense_and_sparse_equal_the_released_renderer(goldens):
    file = goldens("flextraj_renderer_tiny")
    points = segmented(trajectories_of(file, "dense"), file["in/dense/masks"][0])
    np.testing.assert_array_equal(points.segment - 1, file["out/dense/seg_ids"])
    check(file, "dense", points, ConditionOptions())
    chosen = np.zeros(points.num_points, bool)
    chosen[file["in/sparse/selected_points"]] = True
    few = keep(points, chosen, uniform_frames(8, 0.4))
    np.testing.assert_array_equal(few.visibility.T, file["in/sparse/kept_visibility"])
    file["out/sparse/colors"] = file["out/dense/colors"]
    check(file, "sparse", few, ConditionOptions(random_share=0.04))


@pytest.mark.parity
def test_two_way_equals_the_released_renderer(goldens):
    file = goldens("flextraj_renderer_tiny")
    forward, reverse = (trajectories_of(file, "forward_reverse", w) for w in ("", "reverse_"))
    kept = new_points(forward.tracks[:, 0], forward.tracks[:, -1])
    np.testing.assert_array_equal(kept, file["out/forward_reverse/reverse_kept"])
    masks = file["in/forward_reverse/masks"]
    points = merge_two_way(segmented(forward, masks[0]), segmented(reverse, masks[-1], -1))
    np.testing.assert_array_equal(points.segment - 1, file["out/forward_reverse/seg_ids"])
    check(file, "forward_reverse", points, ConditionOptions(codes="two_way"))


SIZE = (24, 36)


def two_points(**fields):
    """One point that moves right, one seen late; on a frame of 24 x 36."""
    tracks = np.array([[[5, 6], [8, 6], [11, 6]], [[20, 15], [20, 16], [20, 17]]], np.float32)
    visibility = np.array([[1, 1, 1], [0, 1, 1]], bool)
    return Trajectories(tracks, visibility, SIZE, **fields)


def noise(size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (3, *size, 3)).astype(np.uint8)


def test_colours_of_frames_of_points_and_none():
    video, given = noise(), np.array([[9, 8, 7], [6, 5, 4]], np.uint8)
    options = {c: ConditionOptions(colour=c, stamp=(3, 2)) for c in ("frame", "point", "none")}
    ids, colours = condition_videos(two_points(), video, options["frame"])
    shown = ids[..., 0] > 0
    assert shown.sum() == 5 * 24
    assert (colours[shown] == video[shown]).all() and (colours[~shown] == 0).all()
    _, colours = condition_videos(two_points(), video, options["point"])
    assert (colours[:, 5, [5, 8, 11]].diagonal().T == video[0, 6, 5]).all()
    assert (colours[1:, 16, 20] == video[1, 16, 20]).all() and (colours[~shown] == 0).all()
    _, colours = condition_videos(two_points(colour=given), None, options["point"])
    assert (colours[0, 5, 5] == given[0]).all() and (colours[2, 16, 20] == given[1]).all()
    _, colours = condition_videos(two_points(), None, options["none"])
    assert not colours.any() and colours.shape == ids.shape
    assert (colours_under(ids, video, 254) == np.where(ids[..., :1] > 254, video, 0)).all()


def test_native_drawing_follows_the_picture():
    """A grey square and the point on it stay together when the frame becomes another one."""
    square = np.zeros((1, *SIZE, 3), np.uint8)
    square[0, 8:12, 10:14] = 200
    to = (48, 60)
    picture = resize_and_crop(square, to)[0, ..., 0].astype(float)
    y, x = np.indices(to)
    centre = np.array([(x * picture).sum(), (y * picture).sum()]) / picture.sum()
    np.testing.assert_allclose(cover(np.array([[11.5, 9.5]], np.float32), SIZE, to)[0], centre)
    options = ConditionOptions(size_hw=to, colour="none", stamp=(3, 2))
    ids, _ = condition_videos(two_points(), None, options)
    assert ids.shape == (3, *to, 3)
    # x = (5 + 1/2) * 2 - 1/2 - 6 = 4.5, y = 12.5: columns 1 .. 6, rows 10 .. 13.
    rows, columns = np.nonzero(ids[0, ..., 0])
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (1, 6, 10, 13)


def test_resized_drawing_is_the_released_way_of_wan():
    assert cover(np.zeros((1, 2), np.float32), (480, 720), (480, 832))[0, 1] == pytest.approx(
        0.5 * 555 / 480 - 0.5 - 38
    )
    options = ConditionOptions(size_hw=(24, 42), canvas_hw=SIZE, drawing="resized", colour="none")
    ids, _ = condition_videos(two_points(), None, options)
    drawn, _ = condition_videos(two_points(), None, ConditionOptions(colour="none"))
    for frame, source in zip(ids, drawn, strict=True):
        scaled = Image.fromarray(source).resize((42, 28), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(frame, np.asarray(scaled)[2:26])
    assert len(np.unique(ids[..., 0])) > len(np.unique(drawn[..., 0]))


def test_nothing_visible():
    assert not nothing_visible(two_points())
    hidden = two_points().replace(visibility=np.zeros((2, 3), bool))
    outside = two_points().replace(tracks=two_points().tracks + np.float32(50))
    for points in (hidden, outside):
        assert nothing_visible(points)
        assert not condition_videos(points, noise())[0].any()
    # A stamp's corner is enough.
    corner = two_points().replace(tracks=np.full((2, 3, 2), -5.5, np.float32))
    assert nothing_visible(corner)
    assert not nothing_visible(corner.replace(tracks=corner.tracks + np.float32(3)))


def test_refusals():
    with pytest.raises(ValueError, match=r"video is \(2, 24, 36, 3\).*\(3, 24, 36, 3\)"):
        condition_videos(two_points(), noise()[:2])
    for colour in ("frame", "point"):
        with pytest.raises(ValueError, match="taken from a video, and there is none"):
            condition_videos(two_points(), None, ConditionOptions(colour=colour))
    for wrong in (
        {"drawing": "vector"},
        {"codes": "hue"},
        {"colour": "red"},
        {"order": "far"},
        {"stamp": "big"},
        {"stamp": (3, -1)},
        {"size_hw": (0, 4)},
        {"red_above": 255},
        {"random_share": 0},
    ):
        with pytest.raises(ValueError, match=f"condition videos: {next(iter(wrong))} must be"):
            ConditionOptions(**wrong)
