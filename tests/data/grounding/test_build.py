"""Folders of grounded clips: written whole or not, gone on with, and read as clips."""

import json
import pickle

import numpy as np
import pytest
from ml_collections import ConfigDict

from tavid_jax.data.augment import Augmentation
from tavid_jax.data.clip import ClipError
from tavid_jax.data.grounding.build import ground_clips, is_grounded, read_summary
from tavid_jax.data.grounding.grounded import open_grounded
from tavid_jax.data.grounding.grounder import Grounder
from tavid_jax.data.grounding.motion import MotionRule
from tavid_jax.data.grounding.packing import pack, unpack
from tavid_jax.data.grounding.raw import SceneClips, fine_scenes, open_raw
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.data.records import RecordError
from tavid_jax.data.segments import trajectories_of
from tests.data.grounding import squares

SCENES = fine_scenes(dict(num_frames=8, counts=(0.0, 0.5, 0.5), max_objects=3, camera=0.0))
ALL = MotionRule(0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """(folder, raw clips) of six scenes in shards of two."""
    folder, raw = tmp_path_factory.mktemp("scenes") / "grounded", SceneClips(SCENES, 6)
    summary = ground_clips(raw, Grounder(motion=ALL), folder, codec="png", shard_size=2)
    assert summary.read == len(summary.kept) == 6
    return folder, raw


def test_scenes_come_back_with_points_and_texts(scenes):
    folder, raw = scenes
    clips = open_grounded(folder, size_hw=(64, 64), num_frames=8)
    assert len(clips) == 6
    for index in range(6):
        clip, scene = clips[index], raw[index]
        assert (clip.id, clip.caption, clip.size_hw) == (scene.id, scene.caption, (64, 64))
        np.testing.assert_array_equal(clip.video, scene.video)
        assert set(clip.local_captions) <= set(scene.local_captions)
        trajectories = trajectories_of(clip)
        for xy, text in zip(clip.query_xy, trajectories.texts, strict=True):
            owner = scene.segment_map[0, int(round(xy[1])), int(round(xy[0]))]
            assert text == scene.local_captions[owner - 1]
        np.testing.assert_array_equal(
            trajectories.segment,
            clip.segment_map[0, clip.query_xy[:, 1].astype(int), clip.query_xy[:, 0].astype(int)],
        )
    again = pickle.loads(pickle.dumps(clips))
    np.testing.assert_array_equal(again[5].tracks, clips[5].tracks)


def test_windows_sizes_and_rates_keep_the_texts(scenes):
    clips = open_grounded(scenes[0], size_hw=(32, 48), num_frames=4)
    whole = open_grounded(scenes[0], size_hw=(64, 64), num_frames=8)
    assert len(clips) == 12 and clips.entries()[1]["id"] == f"{whole[0].id}+4"
    second, first = clips[1], whole[0]
    assert second.video.shape == (4, 32, 48, 3) and second.local_captions == first.local_captions
    # 32x48 is covered by rows 10 to 52 of 64.
    wanted = (first.tracks[:, 4:] + 0.5 - [0, 10]) * [48 / 64, 32 / 43] - 0.5
    np.testing.assert_allclose(second.tracks, wanted, atol=1e-4)
    np.testing.assert_array_equal(second.segment, first.segment)
    slow = open_grounded(scenes[0], size_hw=(64, 64), num_frames=4, fps=6)[0]
    np.testing.assert_array_equal(slow.tracks, first.tracks[:, ::2])
    np.testing.assert_array_equal(slow.video, first.video[::2])
    assert slow.fps == 6
    with pytest.raises(ClipError, match="no clip of 9 frames: they have 8 frames"):
        open_grounded(scenes[0], size_hw=(64, 64), num_frames=9)


def test_what_is_kept_of_a_stopped_run_is_not_made_again(tmp_path, scenes):
    raw, grounder, folder = scenes[1], Grounder(motion=ALL), tmp_path / "out"

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    options = dict(codec="png", shard_size=2)
    with pytest.raises(KeyboardInterrupt):
        ground_clips(raw, grounder, folder, progress=stop, **options)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["00000-of-00003", "00001-of-00003", "plan.json"]
    with pytest.raises(RecordError, match="is not finished: 1 of 3 shards are missing"):
        open_grounded(folder, size_hw=(64, 64), num_frames=8)
    with pytest.raises(RecordError, match="was begun otherwise: .*motion.least"):
        ground_clips(raw, Grounder(), folder, **options)
    made = []
    ground_clips(raw, grounder, folder, progress=lambda *now: made.append(now), **options)
    assert made == [(1, 2), (2, 2)]
    for name in ("00002-of-00003", "00000-of-00003"):
        data = "examples.array_record"
        assert (folder / name / data).read_bytes() == (scenes[0] / name / data).read_bytes()


def test_hosts_share_the_work(tmp_path, scenes):
    options = dict(codec="png", shard_size=2, count=2)
    grounder, folder = Grounder(motion=ALL), tmp_path / "out"
    assert ground_clips(scenes[1], grounder, folder, index=1, **options) is None
    summary = ground_clips(scenes[1], grounder, folder, index=0, **options)
    assert summary == read_summary(scenes[0])


def test_a_broken_shard_is_named(tmp_path, scenes):
    folder = tmp_path / "out"
    ground_clips(SceneClips(SCENES, 2), Grounder(motion=ALL), folder)
    shard = folder / "00000-of-00001" / "examples.array_record"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(RecordError, match="00000-of-00001.*bytes of .* that were written"):
        open_grounded(folder, size_hw=(64, 64), num_frames=8)[0]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(RecordError, match="holds other things .notes.txt."):
        ground_clips(SceneClips(SCENES, 2), Grounder(), tmp_path / "other")
    assert not is_grounded(tmp_path / "other")
    with pytest.raises(RecordError, match="no record of a grounded clip"):
        unpack({"id": "x"})


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder with two good clips and some that are not."""
    folder = tmp_path_factory.mktemp("videos")
    squares.write(folder, "a")
    squares.write(folder, "b", texts={"2": "a blue square"})
    squares.write(folder, "maskless", drawn=False, texts=None)
    squares.write(folder, "nameless", caption="")
    squares.write(folder, "still", still=True)
    squares.write(folder, "unknown", texts=["x", "y", "z"])
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def raw_of(folder, name="*", **options):
    return open_raw(str(folder / name), size_hw=squares.HW, num_frames=9, **options)


def test_folders_of_videos_with_all_that_can_be_wrong(tmp_path, videos):
    raw = raw_of(videos)
    assert [path for path, _ in raw.skipped] == [str(videos / "broken.mp4")]
    summary = ground_clips(raw, Grounder(), tmp_path / "out", shard_size=4)
    assert [entry["id"] for entry in summary.kept] == ["a@00000", "b@00000"]
    assert {name: kind for name, kind, _ in summary.left_out} == {
        "maskless@00000": "objects",
        "nameless@00000": "caption",
        "still@00000": "motion",
        "unknown@00000": "input",
    }
    assert summary.notes == [("b@00000", "texts", "object 1 has no text")]
    text = summary.text()
    assert "6 clips read, 2 kept, 4 left out" in text and "text for object 3 ('z')" in text
    clip = open_grounded(tmp_path / "out", size_hw=squares.HW, num_frames=9)[1]
    assert clip.local_captions == ("a blue square",) and set(clip.segment) == {1}
    assert clip.caption == "two squares" and clip.masks.shape == (1, *squares.HW)
    assert np.abs(clip.video - raw[1].video.astype(float)).mean() < 4  # JPEG


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("b", "clip 'b@00000': object 1 has no text"),
        ("maskless", "has no masks"),
        ("unknown", "clip 'unknown@00000': has a text for object 3"),
        ("*", r"broken\.mp4: not a video"),
    ],
)
def test_strict_work_ends_at_bad_input(tmp_path, videos, name, message):
    with pytest.raises(ClipError, match=message):
        ground_clips(raw_of(videos, name), Grounder(), tmp_path / "out", strict=True)
    assert not list(tmp_path.glob("out/0*")) and not list(tmp_path.glob("out/.0*"))


def test_a_shard_of_nothing_is_a_shard(tmp_path, videos):
    ground_clips(raw_of(videos, "still"), Grounder(), tmp_path / "out", strict=True)
    assert read_summary(tmp_path / "out").kept == []
    with pytest.raises(ClipError, match="it holds none"):
        open_grounded(tmp_path / "out", size_hw=squares.HW, num_frames=9)


def inputs(folder, tmp_path, **changes):
    clips = dict(fps=0.0, hop=0, train_hop=0, holdout=0.0, captions="", tracks="", pairs="")
    data = dict(
        size_hw=(64, 64), frames=8, windows=1, scene={}, splits=dict(train={}, test={}),
        scenes=dict(train=1, test=1), clips=clips | changes, threads=0, workers=0,
        augment=dict(flip=1.0, reverse=0.0, crop=0.0),
        folders=dict(mine=dict(paths=str(folder))),
    )  # fmt: skip
    config = dict(stages={}, clips=str(folder), train_clips=str(folder), data_dir=str(tmp_path))
    return ConfiguredInputs(ConfigDict(config | dict(data=data)), tmp_path)


def test_a_config_reads_grounded_clips_where_it_names_videos(scenes, tmp_path):
    folder = scenes[0]
    opened = inputs(folder, tmp_path)
    assert [len(opened.open(name)) for name in ("train", "held_out", "clips", "mine")] == [
        6, 0, 6, 6,
    ]  # fmt: skip
    train, held = (inputs(folder, tmp_path, holdout=0.4).open(n) for n in ("train", "held_out"))
    assert (len(train), len(held)) == (4, 2)
    assert not {e["id"] for e in train.entries()} & {e["id"] for e in held.entries()}
    assert opened.frames(train, 0, 32).shape == (8, 32, 32, 3)
    with pytest.raises(ValueError, match="data.clips.pairs is for videos"):
        inputs(folder, tmp_path, pairs="(x)").open("train")


def test_training_clips_are_mirrored_with_their_texts(tmp_path, videos):
    folder = tmp_path / "out"
    raw = raw_of(videos, "a", texts=texts_file(tmp_path, "goes to the right"))
    ground_clips(raw, Grounder(), folder)
    opened = inputs(folder, tmp_path)
    opened.config.data.update(size_hw=squares.HW, frames=9)
    seen = []

    def prepare(clip, rng):
        seen.append(clip)
        return {"id": clip.id, "n": np.zeros(1)}

    source = opened.open("train")
    next(opened.batches(source, prepare, batch_size=1, seed=0))
    assert set(trajectories_of(seen[0]).texts) == {"goes to the left", "stays"}
    np.testing.assert_allclose(seen[0].tracks[..., 0], 63 - source[0].tracks[..., 0])
    # A crop that would show no point is not made.
    corner = source[0].replace(tracks=np.full_like(source[0].tracks, 1.0))
    cut = Augmentation(flip=0, crop=1.0, crop_side=0.3)
    for seed in range(20):
        assert cut(corner, np.random.default_rng(seed)).visibility.any()


def texts_file(folder, first):
    path = folder / "texts.json"
    path.write_text(json.dumps({"a": [first, "stays"]}))
    return path


def test_texts_of_no_video_are_an_error(tmp_path, videos):
    path = texts_file(tmp_path, "x")
    with pytest.raises(ClipError, match="texts of a, but there is no such video"):
        raw_of(videos, "b", texts=path)


def test_a_record_holds_exact_frames_as_png(scenes):
    clip = scenes[1][0].replace(partner=None)
    np.testing.assert_array_equal(unpack(pack(clip, "png")).video, clip.video)
    assert len(pack(clip, "jpeg")["frames"]) < len(pack(clip, "png")["frames"])
