"""The TFDS data set: written and read without TensorFlow, whole or not there at all."""

import errno
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tavid_jax.data.clip import check_clip
from tavid_jax.data.synthetic import (
    SceneConfig,
    SyntheticSource,
    TfdsSource,
    open_synthetic,
    split_seeds,
    store,
    workers,
)

CONFIG = SceneConfig(size_hw=(32, 32), num_frames=10)
ARRAYS = ("video", "tracks", "visibility", "depth", "segment", "masks", "segment_map", "query_xy")
WORDS = ("id", "caption", "local_captions", "kinds", "actor", "target", "contact_frame", "grid_hw")


def assert_same(one, two):
    for field in ARRAYS:
        a, b = getattr(one, field), getattr(two, field)
        assert (a is None) == (b is None), field
        if a is not None:
            np.testing.assert_array_equal(a, b, field)
            assert a.dtype == b.dtype, field
    for field in WORDS:
        assert getattr(one, field) == getattr(two, field), field


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    calls = []
    source = open_synthetic(folder, CONFIG, "test", 70, lambda *done: calls.append(done))
    return folder, source, calls


def test_round_trip(built):
    _, source, calls = built
    drawn = SyntheticSource(CONFIG, split_seeds("test", 70))
    assert len(source) == 70 and calls[-1] == (70, 70)
    for index in (0, 15, 16, 69):
        assert_same(check_clip(source[index]), drawn[index])
    with pytest.raises(IndexError, match="clip 70 of 70"):
        source[70]


def test_interaction_and_tracks_only_round_trip(tmp_path):
    for config in (
        SceneConfig(size_hw=(32, 32), num_frames=8, interaction=True),
        SceneConfig(size_hw=(32, 32), num_frames=8, render=False, presence=0.2),
    ):
        source = open_synthetic(tmp_path, config, "train", 5)
        for index in range(5):
            assert_same(source[index], SyntheticSource(config, range(5))[index])


def test_second_open_builds_nothing(built, monkeypatch):
    folder, source, _ = built
    monkeypatch.setattr(store, "_build", lambda *args: pytest.fail("built again"))
    again = open_synthetic(folder, CONFIG, "test", 70)
    assert_same(again[3], source[3])


def test_video_can_be_left_unread(built):
    folder, source, _ = built
    clip = TfdsSource(folder, "test", CONFIG, 70, video=False)[7]
    assert clip.video is None and clip.segment_map is None
    np.testing.assert_array_equal(clip.tracks, source[7].tracks)


def test_read_in_threads_and_from_a_pickle(built):
    _, source, _ = built
    with ThreadPoolExecutor(4) as pool:
        clips = list(pool.map(source.__getitem__, range(70)))
    assert [clip.id for clip in clips] == [source[i].id for i in range(70)]
    assert_same(pickle.loads(pickle.dumps(source))[5], source[5])


def test_workers_and_their_number_change_nothing(monkeypatch):
    monkeypatch.setattr(workers, "_WORTH_A_PROCESS", 0)
    seeds = split_seeds("train", 37)
    alone = list(workers.draw_records(CONFIG, seeds, 0))
    shared = list(workers.draw_records(CONFIG, seeds, 2))
    assert [r["seed"] for r in shared] == list(seeds)
    assert pickle.dumps(alone[36]["video"]) == pickle.dumps(shared[36]["video"])
    assert all(np.array_equal(a["tracks"], b["tracks"]) for a, b in zip(alone, shared, strict=True))


def test_dead_worker_is_reported(monkeypatch):
    monkeypatch.setattr(workers, "_WORTH_A_PROCESS", 0)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="stopped with exit code 1"):
        list(workers.draw_records(CONFIG, range(20), 1))


def test_no_tensorflow_in_a_process_that_builds_and_reads(tmp_path):
    code = (
        "import sys\n"
        "from tavid_jax.data.synthetic import SceneConfig, open_synthetic\n"
        "config = SceneConfig(size_hw=(32, 32), num_frames=4)\n"
        f"source = open_synthetic({str(tmp_path)!r}, config, 'train', 3)\n"
        "assert source[2].video.shape == (4, 32, 32, 3)\n"
        "assert 'tensorflow' not in sys.modules and 'jax' not in sys.modules\n"
    )
    blocked = tmp_path / "blocked" / "tensorflow"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('TensorFlow must not be needed')")
    root = Path(store.__file__).parents[3]
    path = os.pathsep.join([str(blocked.parent), str(root)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_as_any_tfds_builder(built):
    folder, source, _ = built
    import tensorflow_datasets as tfds

    from tavid_jax.data.synthetic.builder import MotionScenes

    assert set(MotionScenes.builder_configs) == {"demo", "interaction"}
    name = next((folder / "motion_scenes").glob("scenes-*"))
    builder = tfds.builder_from_directory(str(next(name.glob("*.*.*"))))
    record = builder.as_data_source("test")[4]
    np.testing.assert_array_equal(record["video"], source[4].video)
    assert record["caption"].decode() == source[4].caption


def test_every_config_has_its_own_folder(tmp_path):
    for pan in (5.0, 6.0):
        open_synthetic(tmp_path, SceneConfig(size_hw=(32, 32), num_frames=4, pan=pan), "train", 2)
    assert len(list((tmp_path / "motion_scenes").glob("scenes-*"))) == 2


def test_a_stop_half_way_leaves_nothing_behind(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_synthetic(tmp_path, CONFIG, "train", 40, stop)
    assert not list(tmp_path.rglob("*.array_record*"))
    with pytest.raises(FileNotFoundError, match="open_synthetic"):
        TfdsSource(tmp_path, "train", CONFIG, 40)


def test_damaged_data_are_built_again(tmp_path):
    config = SceneConfig(size_hw=(32, 32), num_frames=4)
    open_synthetic(tmp_path, config, "train", 3)
    drawn = SyntheticSource(config, [0, 1])[1]
    for damage in (Path.unlink, lambda file: os.truncate(file, 1000)):
        damage(next(tmp_path.rglob("*.array_record*")))
        with pytest.raises(FileNotFoundError, match="no complete data set"):
            TfdsSource(tmp_path, "train", config, 3)
        assert_same(open_synthetic(tmp_path, config, "train", 3)[1], drawn)


def test_unwritable_and_full_disks_are_one_sentence(tmp_path, monkeypatch):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(
        OSError, match=r"cannot write synthetic scenes to .*: a part of this path is a file"
    ):
        open_synthetic(blocker / "deeper", CONFIG, "train", 2)
    with pytest.raises(OSError, match="cannot write synthetic scenes to .*: the disk is full"):
        monkeypatch.setattr(store.shutil, "disk_usage", lambda _: type("", (), {"free": 10})())
        open_synthetic(tmp_path / "full", CONFIG, "train", 2)
    assert not list((tmp_path / "full").rglob("*.array_record*"))


def test_disk_that_fills_up_while_writing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    from tavid_jax.data.synthetic import builder

    monkeypatch.setattr(builder.array_record_module, "ArrayRecordWriter", full)
    with pytest.raises(OSError, match="the disk is full"):
        open_synthetic(tmp_path, CONFIG, "train", 2)
    assert not list(tmp_path.rglob("*.array_record*"))


def test_nothing_asked_for_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="num_scenes=0"):
        open_synthetic(tmp_path, CONFIG, "train", 0)
    with pytest.raises(ValueError, match="unknown split"):
        open_synthetic(tmp_path, CONFIG, "dev", 3)
    assert not list(tmp_path.iterdir())


def test_write_errors_of_array_record_become_os_errors(tmp_path, monkeypatch):
    from tavid_jax.data.synthetic import builder

    class Full:
        def __init__(self, *_):
            pass

        def write(self, record):
            raise RuntimeError("write() failed: No space left on device; writing x")

    monkeypatch.setattr(builder.array_record_module, "ArrayRecordWriter", Full)
    with pytest.raises(OSError, match="the disk is full") as caught:
        open_synthetic(tmp_path, CONFIG, "train", 2)
    assert caught.value.errno == errno.ENOSPC


def test_leftovers_of_killed_builds_are_removed_but_not_builds_under_way(tmp_path):
    config = SceneConfig(size_hw=(32, 32), num_frames=4)
    open_synthetic(tmp_path, config, "train", 2)
    target = next(tmp_path.rglob("dataset_info.json")).parent
    dead, alive = (target.parent / f"incomplete.{name}_{target.name}" for name in ("OLD", "NEW"))
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "part.array_record").write_text("half")
    for path in (dead, dead / "part.array_record"):
        os.utime(path, (1.0, 1.0))
    next(target.glob("*.array_record*")).unlink()
    open_synthetic(tmp_path, config, "train", 2)
    assert alive.exists() and not dead.exists()


def test_drawing_many_scenes_keeps_no_memory():
    from tavid_jax.data.synthetic import shapes
    from tavid_jax.data.synthetic.records import encode_scenes

    encode_scenes(CONFIG, range(12))
    for cached in (shapes.table, shapes.reach, shapes._tables):
        assert cached.cache_info().currsize <= len(shapes.SHAPES)
