"""A folder of videos as a source of windows."""

import pickle

import cv2
import numpy as np
import pytest

from tavid_jax.data import files, folder
from tavid_jax.data.clip import ClipError
from tavid_jax.data.official import TrackFile, write_tracks
from tavid_jax.data.tracker import DISTracker
from tavid_jax.data.video import VideoInfo, scale_points
from tavid_jax.tracks.grid import query_points

SIZE, STRIDE = (32, 48), 8


class CountingTracker(DISTracker):
    """Counts its calls."""

    calls = 0

    def __call__(self, video, query_xy):
        CountingTracker.calls += 1
        return super().__call__(video, query_xy)


def open_clips(paths, **kw):
    settings = dict(size_hw=SIZE, num_frames=9, stride=STRIDE, origin="center")
    return folder.open_clips(paths, **(settings | kw))


@pytest.fixture
def clips(tmp_path, make_video):
    """Two good videos, a folder of images, and three that must be skipped."""
    make_video(tmp_path / "v" / "b.mp4", num_frames=30, size_hw=(64, 96), velocity=(2.0, 1.0))
    make_video(tmp_path / "v" / "a10.avi", num_frames=20)
    make_video(tmp_path / "v" / "a9.avi", num_frames=5)
    make_video(tmp_path / "v" / "deep" / "images", num_frames=10, size_hw=(40, 60))
    (tmp_path / "v" / "broken.mp4").write_bytes(b"not a video")
    (tmp_path / "v" / "zero.webm").touch()
    (tmp_path / "v" / "notes.txt").write_text("hello")
    (tmp_path / "v" / "mask.png").write_bytes(b"beside videos, not a clip")
    return tmp_path / "v"


def test_windows_of_all_that_is_usable(clips):
    source = open_clips(clips)
    assert [f.name for f in source.files] == ["a10", "b", "images"]
    assert len(source) == 2 + 3 + 1 and source.name == "clips"
    skipped = {path.split("/")[-1]: reason for path, reason in source.skipped}
    assert set(skipped) == {"broken.mp4", "zero.webm", "a9.avi"}
    assert skipped["a9.avi"] == "too short: 5 frames, a window needs 9"
    assert "empty" in skipped["zero.webm"] and "not a video" in skipped["broken.mp4"]
    clip = source[3]
    assert clip.id == "b@00009" and clip.source.endswith("b.mp4") and clip.fps == 10
    assert clip.video.shape == (9, *SIZE, 3) and clip.grid_hw == (4, 6)
    assert clip.tracks.shape == (24, 9, 2)
    np.testing.assert_array_equal(clip.tracks[:, 0], query_points(SIZE, STRIDE, "center"))
    np.testing.assert_array_equal(clip.query_xy, clip.tracks[:, 0])
    assert source[-1].id == "images@00000"
    with pytest.raises(IndexError):
        source[6]


def test_tracks_follow_the_content_through_the_resize(clips):
    """b.mp4 moves by (2, 1) of its own pixels, so by (1, 0.5) at half its size."""
    clip = open_clips(clips / "b.mp4")[0]
    motion = (clip.tracks - clip.tracks[:, :1])[:, -1]
    seen = clip.visibility[:, -1]
    assert seen.mean() > 0.6
    np.testing.assert_allclose(np.median(motion[seen], axis=0), [8.0, 4.0], atol=0.3)


def test_frames_at_another_size_show_the_same_cut(clips):
    source = open_clips(clips / "b.mp4", num_frames=4)
    large = source.clip_frames(1, (64, 96))
    assert large.shape == (4, 64, 96, 3)
    assert source.clip_frames(1, 72).shape == (4, 48, 72, 3)
    small = np.stack([cv2.resize(f, (48, 32), interpolation=cv2.INTER_AREA) for f in large])
    np.testing.assert_array_equal(small, source[1].video)


def test_hop_rate_and_overlap(clips):
    assert [w.start for w in open_clips(clips / "b.mp4", hop=5).windows] == [0, 5, 10, 15, 20]
    slow = open_clips(clips / "b.mp4", fps=5)
    assert len(slow) == 1 and slow[0].fps == 5
    whole = open_clips(clips / "b.mp4", num_frames=30)[0].video
    np.testing.assert_array_equal(slow[0].video, whole[:18:2])


@pytest.mark.parametrize(
    "paths, names",
    [
        ("{0}/*.mp4", ["b"]),
        ("{0}/*", ["a10", "b", "images"]),
        ("{0}/a10.avi, {0}/deep", ["a10", "images"]),
        (["{0}/b.mp4", "{0}/b.mp4", "{0}/a10.avi"], ["b", "a10"]),
        ("{0}/deep/images", ["images"]),
    ],
)
def test_paths_in_every_form(clips, paths, names):
    fill = [p.format(clips) for p in paths] if isinstance(paths, list) else paths.format(clips)
    assert [f.name for f in open_clips(fill).files] == names


@pytest.mark.parametrize("paths", ["{0}/nothing.mp4", "{0}/*.mov", ""])
def test_a_path_that_names_nothing_is_an_error(clips, paths):
    with pytest.raises(ClipError, match="no such file|matches nothing|no path"):
        open_clips(paths.format(clips))


def test_nothing_usable_lists_every_reason(clips):
    with pytest.raises(ClipError, match="no usable clip .*broken.mp4: .*zero.webm: .*empty"):
        open_clips(f"{clips}/broken.mp4,{clips}/zero.webm")


def test_same_names_are_told_apart():
    assert files.names(["/x/a/v.mp4", "/x/b/v.mp4", "/x/b/w.mp4"]) == ["a/v", "b/v", "w"]
    assert files.names(["/p/a/c/v.mp4", "/q/a/c/v.mp4"]) == ["p/a/c/v", "q/a/c/v"]


def test_split_shares_no_frame(clips):
    source = open_clips([clips / "b.mp4", clips / "a10.avi", clips / "deep"], hop=2)
    train, held = source.split(0.3)
    frames = {"train": set(), "held": set()}
    for name, part in (("train", train), ("held", held)):
        for w in part.windows:
            frames[name] |= {(w.file, w.start + t) for t in range(9)}
    assert not frames["train"] & frames["held"]
    assert {w.file for w in train.windows} == {0, 1, 2}
    assert {w.file for w in held.windows} == {0, 1}  # ten images: too short for both
    assert max(w.start for w in held.windows if w.file == 0) == 21
    assert train[0].id == "b@00000" and held[0].id == "b@00021"


def test_split_of_repeated_frames_shares_no_source_frame(clips):
    train, held = open_clips(clips / "b.mp4", fps=20, hop=1).split(0.5)
    frames = folder.usable_frames(train.files[0], 20)
    last = max(frames[w.start + 8] for w in train.windows)
    assert last < min(frames[w.start] for w in held.windows)


def test_nothing_to_hold_out_is_an_error(clips):
    with pytest.raises(ClipError, match="no clip has the 18 frames needed"):
        open_clips(clips / "deep").split()


def test_tracks_are_computed_once_per_content_and_settings(clips, tmp_path):
    kw = dict(tracker=CountingTracker(), cache_dir=tmp_path / "cache")
    CountingTracker.calls = 0
    first = open_clips(clips / "b.mp4", **kw)[1]
    again = open_clips(clips / "b.mp4", **kw)[1]
    assert CountingTracker.calls == 1
    for name in ("video", "tracks", "visibility"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    (clips / "b.mp4").rename(clips / "renamed.mp4")
    open_clips(clips / "renamed.mp4", **kw)[1]
    assert CountingTracker.calls == 1  # by content, not by name
    open_clips(clips / "renamed.mp4", **(kw | {"tracker": CountingTracker(threshold_px=2)}))[1]
    open_clips(clips / "renamed.mp4", hop=1, **kw)[1]
    assert CountingTracker.calls == 3
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    mended = open_clips(clips / "renamed.mp4", **kw)[1]
    assert CountingTracker.calls == 4
    np.testing.assert_array_equal(mended.tracks, first.tracks)


def test_large_frames_are_not_kept(clips, tmp_path):
    kw = dict(cache_dir=tmp_path / "cache", cache_frames_mb=0)
    first = open_clips(clips / "a10.avi", **kw)[0]
    again = open_clips(clips / "a10.avi", **kw)[0]
    np.testing.assert_array_equal(first.video, again.video)
    assert sum(f.stat().st_size for f in (tmp_path / "cache").iterdir()) < first.video.nbytes


def test_memory_holds_the_last_used_and_travels_empty(clips):
    source = open_clips(clips / "b.mp4", keep_mb=0.06)  # one clip of 43 kB
    assert source[0] is source[0]
    kept = source[0]
    source[1]
    assert source[0] is not kept
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[2].tracks, source[2].tracks)
    assert len(pickle.dumps(source)) < 5000


def test_captions(clips, tmp_path):
    csv = tmp_path / "captions.csv"
    csv.write_text('videoid,video_path,text\nb,,"A texture, moving."\n,x/y/a10.avi,Slow\n')
    source = open_clips([clips / "b.mp4", clips / "a10.avi", clips / "deep"], captions=csv)
    assert [f.caption for f in source.files] == ["A texture, moving.", "Slow", ""]
    assert source[0].caption == "A texture, moving."
    csv.write_text("name,words\na,b\n")
    with pytest.raises(ClipError, match="captions.csv: captions need the columns 'text'"):
        open_clips(clips / "b.mp4", captions=csv)


def official(path, num_frames, size_hw=SIZE, stride=STRIDE, origin="center", **kw):
    """Writes tracks that drift by (0.5, 0.25) px a frame of `size_hw`."""
    xy = query_points(size_hw, stride, origin)
    tracks = xy[:, None] + np.arange(num_frames)[None, :, None] * np.array([0.5, 0.25])
    visibility = np.ones(tracks.shape[:2], bool)
    visibility[3, 4:] = False
    write_tracks(path, TrackFile(tracks.astype(np.float32), visibility, size_hw=size_hw, **kw))


def test_official_tracks_on_our_grid_are_taken_as_they_are(clips):
    official(clips / "b.npz", 12)
    source = open_clips(clips / "b.mp4", tracker=CountingTracker())
    CountingTracker.calls = 0
    assert len(source) == 1  # the shorter of video and tracks
    clip = source[0]
    assert CountingTracker.calls == 0
    query_xy = query_points(SIZE, STRIDE, "center")
    times = np.arange(9)[None, :, None]
    np.testing.assert_allclose(clip.tracks, query_xy[:, None] + times * [0.5, 0.25], atol=1e-4)
    assert clip.visibility[3].tolist() == [True] * 4 + [False] * 5


def test_official_tracks_of_another_grid_and_size_are_brought_to_ours(clips, tmp_path):
    official(tmp_path / "t" / "b.npz", 30, size_hw=(64, 96), stride=32, origin="topleft")
    source = open_clips(clips / "b.mp4", tracks=tmp_path / "t")
    first, later = source[0], source[2]
    query_xy = query_points(SIZE, STRIDE, "center")
    want = np.arange(9)[None, :, None] * np.array([0.25, 0.125])  # half the size
    for clip in (first, later):
        np.testing.assert_array_equal(clip.tracks[:, 0], query_xy)
        np.testing.assert_allclose(
            clip.tracks - query_xy[:, None], want + 0 * clip.tracks, atol=1e-4
        )


def test_no_window_starts_where_no_track_is_visible(clips):
    tracks = np.zeros((24, 30, 2), np.float32)
    visibility = np.ones((24, 30), bool)
    visibility[:, 9] = False
    tracks[:, 18] = np.nan
    write_tracks(clips / "b.npz", TrackFile(tracks, visibility, size_hw=(64, 96)))
    assert [w.start for w in open_clips(clips / "b.mp4").windows] == [0]
    visibility[:, 0] = False
    write_tracks(clips / "b.npz", TrackFile(tracks, visibility, size_hw=(64, 96)))
    with pytest.raises(ClipError, match="b.npz: no track is visible in any frame"):
        open_clips(clips / "b.mp4")


def test_without_a_tracker_only_videos_with_tracks_serve(clips):
    official(clips / "b.npz", 30)
    source = open_clips(clips, tracker=None)
    assert [f.name for f in source.files] == ["b"]
    assert any("no track file" in reason for _, reason in source.skipped)


def test_a_broken_track_file_is_skipped_and_named(clips):
    (clips / "b.npz").write_bytes(b"junk")
    source = open_clips([clips / "b.mp4", clips / "a10.avi"])
    assert [f.name for f in source.files] == ["a10"]
    assert "b.npz" in source.skipped[0][1]


def test_stride_must_divide_the_frame(clips):
    with pytest.raises(ValueError, match="cells of 7 px"):
        open_clips(clips, stride=7)


def test_probe_is_remembered_until_the_file_changes(tmp_path, make_video, monkeypatch):
    path = make_video(tmp_path / "a.avi", num_frames=4)
    infos, _ = files.probe_all([path], cache_dir=tmp_path / "cache")
    assert infos == [VideoInfo(str(path), 4, (48, 64), 10.0)]
    monkeypatch.setattr(files, "probe", lambda *a: pytest.fail("decoded again"))
    assert files.probe_all([path], cache_dir=tmp_path / "cache") == (infos, [])


@pytest.mark.clips
def test_real_clips_with_stored_and_with_own_tracks_agree(clips_dir):
    settings = dict(size_hw=(64, 64), num_frames=17, stride=8, origin="center")
    path = clips_dir / "sam2_01_dog.mp4"
    own = folder.open_clips(path, **settings)[0]
    stored = folder.open_clips(path, track_suffixes=(".lk_tracks.npz",), **settings)[0]
    both = own.visibility & stored.visibility
    assert both.mean() > 0.5
    error = np.linalg.norm(own.tracks - stored.tracks, axis=-1)[both]
    assert np.median(error) < 0.1 and np.quantile(error, 0.9) < 1.0
    large = scale_points(own.tracks, (64, 64), (256, 256))
    assert large[:, 0].min() >= 0 and large[:, 0].max() <= 255


def open_untracked(paths, **kw):
    return folder.open_clips(paths, size_hw=SIZE, num_frames=9, track=False, **kw)


def test_clips_without_tracks(clips, tmp_path):
    """No tracker runs, and nothing is kept but what was probed."""
    CountingTracker.calls = 0
    cache = tmp_path / "cache"
    source = open_untracked(clips, tracker=CountingTracker(), cache_dir=cache)
    tracked = open_clips(clips)
    assert [w for w in source.windows] == [w for w in tracked.windows]
    for i in (0, 3):
        clip = source[i]
        assert clip.tracks is None and clip.visibility is None and clip.grid_hw is None
        np.testing.assert_array_equal(clip.video, tracked[i].video)
        assert (clip.id, clip.fps, clip.caption) == (tracked[i].id, tracked[i].fps, "")
    assert CountingTracker.calls == 0
    for file in cache.iterdir():
        assert "probe" in str(np.load(file)["cache_key"])
    assert pickle.loads(pickle.dumps(source))[3].id == clip.id


def test_track_files_mean_nothing_to_clips_without_tracks(clips):
    (clips / "b.npz").write_bytes(b"no tracks")
    assert len(open_untracked(clips)) == 6


def test_captions_beside_the_videos(clips, tmp_path):
    """A CSV comes first; words for a video are those of its own name."""
    (clips / "b.txt").write_text("\ufeffa ball rolls\n")
    (clips / "a10.txt").write_text("not this")
    table = tmp_path / "captions.csv"
    table.write_text("videoid,text\na10,a cat sits\nimages,\n")
    source = open_untracked(clips, captions=table)
    assert [f.caption for f in source.files] == ["a cat sits", "a ball rolls", ""]
    assert [e["caption"] for e in source.entries()] == ["a cat sits"] * 2 + ["a ball rolls"] * 3 + [
        ""
    ]


def test_captions_and_videos_that_do_not_match_are_named(clips, tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("videoid,text\na10,a cat sits\na9,too short\nc1,x\nc2,y\nc3,z\nc4,w\n")
    told = r"captions.csv: 4 of 6 captions are for videos that are not there \(c1, c2, c3, \.\.\.\)"
    with pytest.raises(ClipError, match=told + ".*data.clips.spare_captions=True"):
        open_untracked(clips, captions=table)
    source = open_untracked(clips, captions=table, spare_captions=True)
    message = (
        r"^2 videos have no caption \(.*b.mp4, .*images\); "
        r"4 captions have no video \(c1, c2, c3, \.\.\.\)$"
    )
    with pytest.raises(ClipError, match=message):
        source.check_captions()
    with pytest.raises(ClipError, match=r"4 captions have no video"):
        source.split(0.5)[0].check_captions()
    kept = source.captioned()
    assert [entry["id"] for entry in kept.entries()] == ["a10@00000", "a10@00009"]
    kept.check_captions()
    with pytest.raises(ClipError, match="none of 3 videos has a caption"):
        open_untracked(clips).captioned()


def test_captions_that_cannot_be_read(clips):
    (clips / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClipError, match="b.txt: cannot be read as a caption"):
        open_untracked(clips)


def test_entries_tell_a_changed_file(clips):
    before = open_untracked(clips / "b.mp4").entries()
    assert before[1] == {
        "id": "b@00009",
        "caption": "",
        "start": 9,
        "frames": 30,
        "bytes": (clips / "b.mp4").stat().st_size,
    }
    with open(clips / "b.mp4", "ab") as stream:
        stream.write(b"more")
    assert open_untracked(clips / "b.mp4").entries() != before
    assert open_untracked(clips, fps=5, hop=3).facts() == {"fps": 5, "hop": 3, "resize": "cover"}


def test_clips_of_one_action_are_partners(tmp_path, make_video):
    for name in ("actor_01_ani_3_traj_0", "actor_02_ani_3_traj_0", "actor_02_ani_4_traj_0"):
        make_video(tmp_path / name, num_frames=18)
    source = open_clips(tmp_path, pairs=r"ani_(\d+)", tracker=None, track=False)
    source = pickle.loads(pickle.dumps(source))
    found = {clip.id: clip.partner and clip.partner.id for clip in (source[i] for i in range(6))}
    one, other, third = (f"actor_0{a}_ani_{b}_traj_0" for a, b in ((1, 3), (2, 3), (2, 4)))
    for start in ("00000", "00009"):
        assert found[f"{one}@{start}"] == f"{other}@{start}"
        assert found[f"{other}@{start}"] == f"{one}@{start}"
        assert found[f"{third}@{start}"] is None
    train, held = source.split(0.5)
    assert train.partners == held.partners == [1, 0, None]
    assert source.facts()["pairs"] == r"ani_(\d+)"
    with pytest.raises(ClipError, match=r"finds no two of 6 clips \(actor_01_ani_3_traj_0, ...\)"):
        open_clips(tmp_path, pairs=r"traj_0_(\d+)", track=False)
