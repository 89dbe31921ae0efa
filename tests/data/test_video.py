"""Decoding, frame-rate rule, resize rule and their coordinates."""

import numpy as np
import pytest

from tavid_jax.data import video
from tavid_jax.data.video import VideoError


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv", "a.webm", "folder"])
def test_every_container_gives_its_frames(tmp_path, make_video, moving_frames, name):
    path = make_video(tmp_path / name, num_frames=12)
    info = video.probe(path, fps=10.0)
    assert (info.num_frames, info.size_hw, info.fps) == (12, (48, 64), 10.0)
    got = video.read_video(path)
    want = moving_frames((48, 64), 12)
    assert got.shape == want.shape and got.dtype == np.uint8
    error = np.abs(got.astype(int) - want).mean()
    assert error == 0 if name == "folder" else error < 12  # RGB, not BGR; in order
    shuffled = np.abs(got.astype(int) - want[::-1]).mean()
    assert shuffled > 3 * error


def test_named_frames_equal_those_of_the_whole(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", num_frames=20)
    whole = video.read_video(path)
    np.testing.assert_array_equal(video.read_video(path, [3, 4, 4, 17]), whole[[3, 4, 4, 17]])


def test_images_are_in_natural_order(tmp_path, make_video):
    names = [p.name for p in video.image_files(make_video(tmp_path / "seq", num_frames=11))]
    assert names == [f"{t}.png" for t in range(11)]


@pytest.mark.parametrize(
    "source, fps, want",
    [
        (10, None, [0, 1, 2, 3, 4, 5, 6]),
        (10, 10, [0, 1, 2, 3, 4, 5, 6]),
        (10, 5, [0, 2, 4, 6]),
        (10, 4, [0, 3, 5]),
        (10, 20, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]),
        (30, 29.97, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_frame_rate_rule(source, fps, want):
    assert video.resample(7, source, fps).tolist() == want


@pytest.mark.parametrize(
    "resize, box", [("cover", (80, 0, 480, 480)), ("squash", (0, 0, 640, 480))]
)
def test_the_box_that_is_cut_out(resize, box):
    assert video.fit((480, 640), (64, 64), resize).box == box


def test_points_follow_the_frame():
    """A blob drawn in the source is found where `Fit.points` says."""
    y, x = np.mgrid[:120, :200]
    blob = 255 * np.exp(-((x - 103.5) ** 2 + (y - 61.5) ** 2) / (2 * 8.0**2))
    frame = np.repeat(blob.round().astype(np.uint8)[..., None], 3, axis=-1)
    cut = video.fit((120, 200), (40, 64), "cover")
    small = cut.frame(frame)[..., 0].astype(float)
    y, x = np.mgrid[:40, :64]
    centre = np.array([(small * x).sum(), (small * y).sum()]) / small.sum()
    np.testing.assert_allclose(cut.points(np.array([103.5, 61.5])), centre, atol=0.02)


def test_scaling_points_has_an_exact_inverse_and_keeps_corners():
    xy = np.array([[-0.5, -0.5], [199.5, 119.5], [10.0, 20.0]], np.float32)
    small = video.scale_points(xy, (120, 200), (30, 40))
    np.testing.assert_allclose(small[:2], [[-0.5, -0.5], [39.5, 29.5]])
    np.testing.assert_allclose(video.scale_points(small, (30, 40), (120, 200)), xy, atol=1e-5)


def test_written_video_reads_back(tmp_path, moving_frames):
    frames = moving_frames((33, 48), 6)
    video.write_video(tmp_path / "sub" / "out.mp4", frames, fps=8)
    info = video.probe(tmp_path / "sub" / "out.mp4")
    assert (info.num_frames, info.size_hw, info.fps) == (6, (34, 48), 8.0)  # made even
    got = video.read_video(tmp_path / "sub" / "out.mp4")[:, :33]
    assert np.abs(got.astype(int) - frames).mean() < 12
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["out.mp4"]


def test_opencv_writer_serves_where_imageio_is_missing(tmp_path, monkeypatch, moving_frames):
    monkeypatch.setattr(video, "_has_ffmpeg", lambda: False)
    video.write_video(tmp_path / "out.mp4", moving_frames((32, 48), 5), fps=8)
    assert video.probe(tmp_path / "out.mp4").num_frames == 5


def test_broken_files_are_named_with_the_reason(tmp_path, make_video):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    cut = make_video(tmp_path / "cut.mp4")
    cut.write_bytes(cut.read_bytes()[:600])
    (tmp_path / "none").mkdir()
    for name, reason in [
        ("empty.mp4", "file is empty"),
        ("noise.mp4", "not a video"),
        ("cut.mp4", "not a video|zero-frame"),
        ("none", "no images"),
        ("absent.mp4", "no such file"),
    ]:
        with pytest.raises(VideoError, match=f"{name}: .*({reason})"):
            video.probe(tmp_path / name)


def test_a_sequence_with_one_odd_or_broken_image_is_named(tmp_path, make_video):
    make_video(tmp_path / "odd", num_frames=3)
    make_video(tmp_path / "small", num_frames=1, size_hw=(8, 8))
    (tmp_path / "small" / "0.png").rename(tmp_path / "odd" / "1.png")
    with pytest.raises(VideoError, match="1.png: is 8x8, images before it are 64x48"):
        video.probe(tmp_path / "odd")
    (tmp_path / "odd" / "1.png").write_bytes(b"junk")
    with pytest.raises(VideoError, match="1.png: cannot be read as an image"):
        video.probe(tmp_path / "odd")


def test_zero_frame_video(tmp_path):
    import cv2

    writer = cv2.VideoWriter(str(tmp_path / "z.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (16, 16))
    writer.release()
    with pytest.raises(VideoError, match="z.avi"):
        video.probe(tmp_path / "z.avi")


def test_a_video_that_ends_early_is_named(tmp_path, make_video):
    path = make_video(tmp_path / "a.avi", num_frames=5)
    with pytest.raises(VideoError, match="a.avi: ends after 5 frames, frame 7 wanted"):
        video.read_video(path, [0, 7])
    folder = make_video(tmp_path / "seq", num_frames=3)
    with pytest.raises(VideoError, match="seq: ends after 3 images, frame 3 wanted"):
        video.read_video(folder, [0, 3])


def test_hash_follows_content_not_name(tmp_path, make_video):
    a, b = make_video(tmp_path / "a.avi"), tmp_path / "b.avi"
    b.write_bytes(a.read_bytes())
    assert video.file_hash(a) == video.file_hash(b)
    b.write_bytes(a.read_bytes() + b"x")
    assert video.file_hash(a) != video.file_hash(b)
