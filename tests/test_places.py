"""Files here and in a bucket by the same functions: whole or not there, copied only when new."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tavid_jax import places
from tavid_jax.data.plan import Plan
from tavid_jax.data.records import RecordError, RecordSource, RecordWriter
from tavid_jax.data.shards import ShardedRecords, write_shards
from tavid_jax.pipelines.bases import resolve_checkpoint
from tavid_jax.pipelines.pretrained import is_here
from tavid_jax.places import copy_of, place, pull, push


def test_local_paths_are_paths_and_their_own_copies(tmp_path: Path):
    assert place(str(tmp_path)) == tmp_path and isinstance(place(str(tmp_path)), Path)
    assert copy_of(tmp_path) == pull(tmp_path) == tmp_path
    push(tmp_path)
    assert not places.is_remote("hf:owner/name") and not places.is_remote("gs/x")


@pytest.mark.parametrize("name", ["http://x/y", "gs://", "gs://b/../c", "gs:/"])
def test_names_of_no_place_are_refused(name: str):
    with pytest.raises(ValueError, match="place"):
        place(name)


def test_missing_reader_is_named(monkeypatch: pytest.MonkeyPatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(places.importlib, "import_module", missing)
    places._prepare.cache_clear()
    with pytest.raises(ValueError, match=r"gs:// needs gcsfs: pip install 'tavid_jax\[cloud\]'"):
        place("gs://bucket/x")


@pytest.mark.parametrize("where", ["here", "there"])
def test_files_are_created_once(where: str, tmp_path: Path, bucket):
    file = (tmp_path if where == "here" else place("gs://bucket")) / "a" / "b"
    assert places.create(file, b"1") and not places.create(file, b"2")
    assert file.read_bytes() == b"1"
    places.write_text(file, "3")
    assert file.read_text() == "3" and places.sizes(file.parent) == {"b": 1}


def test_what_pathlib_makes_of_a_bucket_is_understood(bucket):
    assert str(place(Path("gs://bucket/a") / "b")) == "gs://bucket/a/b"


def test_only_what_is_new_is_copied(bucket):
    there = place("gs://bucket/run/x")
    local = copy_of(there)
    (local / "sub").mkdir(parents=True)
    (local / "sub" / "a").write_bytes(b"1")
    (local / "big").write_bytes(bytes(6_000_000))  # in parts
    (local / ".hidden").write_text("")
    push(there, last="big")
    assert set(bucket.objects) == {"run/x/sub/a", "run/x/big"}
    assert bucket.generation("run/x/big") > bucket.generation("run/x/sub/a")
    bucket.requests.clear()
    push(there)
    assert pull(there) == local
    # What is known of an object is asked for twice at once, and the slower answer may come late.
    assert not any("upload" in what or "alt=media" in what for what in bucket.requests)
    assert sum("prefix=run/x/&" in what for what in bucket.requests) == 2  # listings
    bucket.put("run/x/sub/a", b"2")
    (local / "gone").write_text("")
    pull(there)
    assert (local / "sub" / "a").read_bytes() == b"2" and not (local / "gone").exists()
    (local / "sub" / "a").write_bytes(b"3")
    push(there)
    assert bucket.objects["run/x/sub/a"][0] == b"3"


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSPC])
def test_files_are_created_without_links_but_not_without_space(code, tmp_path, monkeypatch):
    def link(*_):
        raise OSError(code, "no")

    monkeypatch.setattr("os.link", link)
    if code == errno.ENOSPC:
        with pytest.raises(OSError, match="no"):
            places.create(tmp_path / "a", b"1")
        assert not list(tmp_path.iterdir())
    else:
        assert places.create(tmp_path / "a", b"1") and not places.create(tmp_path / "a", b"2")
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"1"]


def test_single_files_and_missing_ones(bucket):
    bucket.put("weights.bin", b"123")
    bucket.put("weights.bin.more", b"")
    assert pull(place("gs://bucket/weights.bin")).read_bytes() == b"123"
    with pytest.raises(FileNotFoundError, match="gs://bucket/no is not there"):
        pull(place("gs://bucket/no"))
    assert not pull(place("gs://bucket/no"), missing_ok=True).exists()


def test_objects_whose_names_lead_out_of_the_folder_are_refused(bucket, tmp_path: Path):
    bucket.put("model/../../../evil", b"x")
    with pytest.raises(ValueError, match="leads out of it"):
        pull(place("gs://bucket/model"))
    assert not list(tmp_path.rglob("evil"))


def test_failed_pushes_raise_or_warn_and_come_later(bucket, caplog):
    there = place("gs://bucket/x")
    copy_of(there).mkdir(parents=True)
    (copy_of(there) / "a").write_text("1")
    bucket.read_only = True
    with pytest.raises(OSError):
        push(there)
    push(there, strict=False)
    assert "gs://bucket/x is not up to date" in caplog.text
    bucket.read_only = False
    push(there)
    assert bucket.objects["x/a"][0] == b"1"


def test_folders_move_with_all_that_is_in_them(bucket, tmp_path: Path):
    for root in (place("gs://bucket"), tmp_path):
        places.write_text(root / "old" / "a[1]" / "b", "1")
        places.write_text(root / "new" / "left", "1")
        places.move(root / "old", root / "new")
        assert places.sizes(root / "new") == {"a[1]/b": 1} and not (root / "old").exists()


class Clips(list):
    name = "clips"


class Encoder:
    def __init__(self):
        self.made = 0

    def facts(self):
        return {"encoder": "one"}

    def examples(self, captions, clips):
        for clip in clips:
            self.made += 1
            yield {"x": np.full(3, clip, np.float32)}

    def shared(self):
        return {"null_text": np.zeros(2, np.float32)}


def test_shards_in_a_bucket_go_on_and_are_read_from_copies(bucket, tmp_path, monkeypatch):
    there, encoder = place("gs://bucket/run/cache"), Encoder()
    entries = [{"id": f"c{i}", "caption": f"clip {i}"} for i in range(5)]
    plan = Plan({"encoder": "one"}, entries, 2)

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(there, plan, Clips(range(5)), encoder, at_once=2, progress=stop)
    assert "run/cache/00000-of-00003/meta.json" in bucket.objects
    assert "run/cache/00001-of-00003/meta.json" not in bucket.objects
    # Another machine goes on, and a third one reads.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    assert write_shards(there, plan, Clips(range(5)), encoder, at_once=2)
    assert encoder.made == 3 + 3
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "third"))
    records = ShardedRecords(there)
    assert [records[i]["x"][0] for i in range(5)] == [0, 1, 2, 3, 4]
    assert records.shared["null_text"].shape == (2,)
    del bucket.objects["run/cache/00002-of-00003/examples.array_record"]
    with pytest.raises(RecordError, match="00002-of-00003 are not as they were written"):
        ShardedRecords(there)


def test_records_in_a_bucket(bucket):
    there = place("gs://bucket/records")
    with pytest.raises(RecordError, match="gs://bucket/records: holds no finished examples"):
        RecordSource(there)
    for value in (1, 2):  # the second in place of the first
        with RecordWriter(there, {"v": value}) as writer:
            writer.write({"id": "a", "x": np.arange(value)})
    source = RecordSource(there, {"v": 2})
    assert source.name == "records" and source[0]["x"].tolist() == [0, 1]


def test_checkpoints_in_a_bucket_are_fetched_when_they_are_read(bucket):
    bucket.put("model/vae/config.json", b"{}")
    assert not is_here("gs://bucket/model", ("vae",))
    assert not [line for line in bucket.requests if "alt=media" in line]
    local = resolve_checkpoint("gs://bucket/model")
    assert local == os.fspath(copy_of(place("gs://bucket/model")))
    assert Path(local, "vae", "config.json").read_text() == "{}"
