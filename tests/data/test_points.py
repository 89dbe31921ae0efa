"""Clips with the points, segments and rendered identities that lie beside videos."""

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from tavid_jax.data.augment import crop, flip, reverse_time
from tavid_jax.data.clip import ClipError
from tavid_jax.data.folder import open_clips
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.data.rle_masks import write_rle_masks
from tavid_jax.data.trajectory_files import resized, write_trajectories
from tavid_jax.tracks.trajectories import Trajectories

HW, T = (40, 60), 13  # of the video; its middle, at half its size, is the clip
STORED_HW = (480, 720)


def opened(paths, **kw):
    settings = dict(size_hw=(20, 20), num_frames=5, points=True, masks="")
    return open_clips(paths, **(settings | kw))


def trajectories(points=7, frames=T, size_hw=STORED_HW, seed=0):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 1, (points, 1, 2)) * size_hw[::-1]
    tracks = (start + rng.normal(size=(points, frames, 2)).cumsum(1) * 9).astype(np.float32)
    seen = rng.random((points, frames)) < 0.8
    depth = rng.random((points, frames)).astype(np.float32)
    return Trajectories(tracks, seen, size_hw, depth=depth)


@pytest.fixture
def video(tmp_path, make_video):
    return make_video(tmp_path / "v" / "a.avi", num_frames=T, size_hw=HW)


@pytest.mark.parametrize("ending", [".npz", ".json", "_tracks.npy", ".npy"])
def test_any_points_are_cut_as_the_frames_are(video, ending):
    """Every second frame from the fifth on, the middle of the frame, at half its size."""
    stored = trajectories()
    kind = "flextraj" if ending.endswith(".npy") else None
    write_trajectories(video.parent / f"a{ending}", stored, kind=kind)
    clip = opened(video, fps=5, num_frames=3, hop=2)[1]
    frames = [4, 6, 8]
    xy = ((stored.tracks[:, frames] + 0.5) / 12 - (10, 0)) / 2 - 0.5
    inside = ((xy >= -0.5) & (xy < 19.5)).all(-1)
    seen = stored.visibility[:, frames] & inside
    assert 0 < seen.sum() < stored.visibility[:, frames].sum()
    np.testing.assert_array_equal(clip.visibility, seen)
    np.testing.assert_allclose(clip.tracks[seen], xy[seen], atol=1e-3)
    np.testing.assert_allclose(clip.depth[seen], stored.depth[:, frames][seen], atol=1e-6)
    assert clip.video.shape == (3, 20, 20, 3) and clip.grid_hw is None
    assert clip.masks is None and clip.segment is None and not clip.two_way


def regions(frames=T, count=2, size_hw=HW):
    """(T, S, H, W): vertical stripes that go to the right, 3 px a frame; the first is in front."""
    masks = np.zeros((frames, count, *size_hw), bool)
    for t in range(frames):
        for s in range(count):
            masks[t, s, :, 12 + 16 * s + 3 * t : 32 + 16 * s + 3 * t] = True
    return masks


def test_segments_are_those_of_the_first_frame_of_each_window(video):
    xy = np.array([[14, 5], [30, 20], [44, 39], [2, 2]], np.float32)
    still = Trajectories(np.repeat(xy[:, None], T, 1), np.ones((4, T), bool), HW)
    write_trajectories(video.with_suffix(".npz"), still)
    masks = regions()
    write_rle_masks(video.with_suffix(".pkl"), masks[:8])
    first, second = opened(video)
    assert first.segment.tolist() == [1, 1, 2, 0]  # the first mask wins
    assert second.id == "a@00005" and second.segment.tolist() == [0, 1, 1, 0]
    np.testing.assert_array_equal(first.masks, masks[0][:, 1::2, 11:51:2])
    assert opened(video, hop=8)[1].segment is None  # of frame 8 the file says nothing
    video.with_suffix(".pkl").unlink()
    for k, mask in enumerate(masks[0]):
        cv2.imwrite(str(video.with_suffix(f".mask_{k}.png")), mask * np.uint8(255))
    first, second = opened(video)  # pictures are of frame 0
    assert first.segment.tolist() == [1, 1, 2, 0] and second.segment is None
    assert opened(video, masks=None)[0].segment is None


def test_points_followed_backward_are_added_where_none_end(video):
    still = np.ones((3, T), bool)
    paths = np.array([[20, 10], [30, 20], [40, 30]], np.float32)[:, None].repeat(T, 1)
    ahead = resized(Trajectories(paths, still, HW), STORED_HW)
    back = paths.copy()
    back[0] += (20, 0)  # new; the others end where a point does
    write_trajectories(video.parent / "a_tracks.npy", ahead, kind="flextraj")
    reverse = video.parent / "a_tracks_reverse.npy"
    write_trajectories(reverse, resized(Trajectories(back, still, HW), STORED_HW), kind="flextraj")
    clip = opened(video)[0]
    assert clip.two_way and clip.tracks.shape == (4, 5, 2)
    np.testing.assert_allclose(clip.tracks[3, 0], (14.75, 4.75), atol=1e-4)
    write_rle_masks(video.with_suffix(".pkl"), regions())
    assert opened(video)[0].segment.tolist() == [1, 1, 2, 1]  # the last in frame 4
    write_trajectories(reverse, trajectories(frames=T - 1), kind="flextraj")
    with pytest.raises(ClipError, match="reverse.npy: has 12 frames, .*_tracks.npy has 13"):
        opened(video)


def test_a_size_that_is_told_spans_the_whole_frame(video):
    """As a tracker's that squeezed the frames to a square."""
    write_trajectories(video.with_suffix(".npz"), trajectories(size_hw=(480, 480)))
    clip = opened(video, tracks_size_hw=(480, 480))[0]
    xy = trajectories(size_hw=(480, 480)).tracks[:, :5] + 0.5
    seen = clip.visibility
    wanted = (xy / (8, 12) - (10, 0)) / 2 - 0.5
    assert seen.any()
    np.testing.assert_allclose(clip.tracks[seen], wanted[seen], atol=1e-3)


def unseen():
    one = trajectories()
    return one.replace(visibility=np.zeros_like(one.visibility))


@pytest.mark.parametrize(
    "stored, why",
    [
        (trajectories(frames=4), "too short: 4 frames, a window needs 5"),
        (trajectories(size_hw=(480, 480)), r"a.npz: is in pixels of 480x480, .*a.avi is 60x40: an"),
        (trajectories(points=0), "a.npz: holds no points; leave the file out"),
        (unseen(), "a.npz: no track is visible in any frame"),
    ],
)
def test_points_that_cannot_be_used_are_named(video, stored, why):
    write_trajectories(video.with_suffix(".npz"), stored)
    with pytest.raises(ClipError, match=why):
        opened(video)


@pytest.mark.parametrize(
    "masks, why",
    [
        (regions(1, size_hw=(40, 40)), "a.pkl: is 40x40, .*a.avi is 60x40: another aspect ratio"),
        (regions(1, count=255), "a.pkl: 255 masks of frame 0, ids tell at most 254"),
    ],
)
def test_segments_that_cannot_be_used_are_named(video, masks, why):
    write_rle_masks(video.with_suffix(".pkl"), masks)
    with pytest.raises(ClipError, match=why):
        opened(video)
    with pytest.raises(ClipError, match="none: no such folder of masks"):
        opened(video, masks=video.parent / "none")


def test_an_empty_picture_is_named(video):
    cv2.imwrite(str(video.with_suffix(".target.png")), np.zeros(HW, np.uint8))
    with pytest.raises(ClipError, match="a.target.png: the mask is empty"):
        opened(video)


@pytest.fixture
def rendered(video):
    """Identities beside the video: a square that goes to the right."""
    codec = cv2.VideoWriter.fourcc(*"FFV1")
    writer = cv2.VideoWriter(str(video.with_name("a.ids.avi")), codec, 10.0, HW[::-1])
    assert writer.isOpened()
    for t in range(T):
        frame = np.zeros((*HW, 3), np.uint8)
        frame[10:20, 20 + t : 30 + t] = (90, 40, 255)  # BGR
        writer.write(frame)
    writer.release()
    return video


def test_rendered_identities_belong_to_the_clip(rendered):
    source = opened(rendered.parent)
    assert [file.name for file in source.files] == ["a"]  # they are no clip of their own
    clip = source[1]
    lit = clip.rendered_ids.any(-1)
    assert lit.sum(axis=(1, 2)).tolist() == [25] * 5
    # One colour and black; what is lost in the file is next to nothing.
    np.testing.assert_allclose(clip.rendered_ids[lit], [(255, 40, 90)] * 125, atol=4)
    np.testing.assert_array_equal(flip(clip).rendered_ids, clip.rendered_ids[:, :, ::-1])
    np.testing.assert_array_equal(reverse_time(clip).rendered_ids, clip.rendered_ids[::-1])
    np.testing.assert_array_equal(clip.window(1, 2).rendered_ids, clip.rendered_ids[1:3])
    large = crop(clip, (5, 0, 10, 10), (20, 20)).rendered_ids
    np.testing.assert_array_equal(large[:, ::2, ::2], clip.rendered_ids[:, :10, 5:15])


def test_without_files_the_tracker_follows_a_grid(rendered, tmp_path):
    fields = dict(points=True, masks="beside", fps=0.0, hop=0, train_hop=0, holdout=0.0)
    data = dict(size_hw=(20, 24), frames=5, windows=1, clips=dict(captions="", tracks="", **fields))
    config = dict(stages={}, clips="", train_clips=str(rendered), data_dir=str(tmp_path), data=data)
    for _ in range(2):  # the second time from the cache
        clip = ConfiguredInputs(ConfigDict(config), tmp_path / "run").open("train")[0]
        assert clip.tracks.shape == (5 * 6, 5, 2) and clip.visibility[:, 0].all()
        assert clip.rendered_ids is not None and clip.grid_hw is None
    entry = opened(rendered).entries()[0]
    assert len(entry["points"]) == 1
    write_trajectories(rendered.with_suffix(".npz"), trajectories())
    assert len(opened(rendered).entries()[0]["points"]) == 2
