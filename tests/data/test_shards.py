"""Examples in shards: the same bytes whoever makes them, and clear words about what is missing."""

import json
import pickle
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tavid_jax.data.clip import Clip
from tavid_jax.data.plan import Plan
from tavid_jax.data.records import RecordError
from tavid_jax.data.shards import ShardedRecords, write_shards

SIZE = 3  # examples per shard


class Clips:
    """Seven clips of one pixel."""

    name = "seven"

    def __init__(self, count=7):
        self.count, self.read = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.read.append(i)
        video = np.full((1, 1, 1, 3), i, np.uint8)
        return Clip(f"c{i}", (1, 1), 8, video=video, caption=f"words {i}")


class Doubling:
    """An encoder; `fail_at` raises at that clip."""

    def __init__(self, fail_at=None, **facts):
        self.given, self.fail_at, self.calls = facts, fail_at, []

    def facts(self):
        arrays = {"video": {"shape": [2], "dtype": "float32"}}
        return {"size_hw": (1, 1), "arrays": arrays} | self.given

    def examples(self, captions, clips):
        self.calls.append(list(captions))
        for caption, clip in zip(captions, clips, strict=True):
            if clip.id == self.fail_at:
                raise KeyboardInterrupt
            video = np.full(2, 2.0 * clip.video.max(), np.float16)
            yield {"video": video, "text": np.full(3, len(caption), ml_dtypes.bfloat16)}

    def shared(self):
        return {"null_text": np.zeros(3, np.float32)}


def make(folder, encoder=None, clips=None, shard_size=SIZE, **how):
    clips, encoder = Clips() if clips is None else clips, encoder or Doubling()
    plan = Plan.of(clips, encoder.facts(), shard_size)
    return write_shards(folder, plan, clips, encoder, **how)


def contents(folder: Path) -> dict[str, bytes]:
    """Of every file but those of nobody in particular."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "whole"
    assert make(folder)
    return folder


def test_examples_come_back_in_order(whole):
    source = ShardedRecords(whole)
    assert len(source) == 7 and source.name == "whole"
    for records in (source, pickle.loads(pickle.dumps(source))):
        for i in (6, 0, 3):
            example = records[i]
            assert example["id"] == f"c{i}"
            assert example["video"].dtype == np.float32 and example["video"][1] == 2 * i
            assert example["text"].dtype == ml_dtypes.bfloat16 and example["text"][0] == 7
    assert source[-1]["id"] == "c6"
    with pytest.raises(IndexError):
        source[7]
    assert source.clips[2] == {"id": "c2", "caption": "words 2"}
    assert source.meta["clips"] == {"source": "seven"}
    np.testing.assert_array_equal(source.null_text, np.zeros(3))


def test_what_was_killed_goes_on_to_the_same_bytes(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "cache", Doubling(fail_at="c4"))
    assert [p.name for p in sorted((tmp_path / "cache").glob("0*"))] == ["00000-of-00003"]
    assert not list((tmp_path / "cache").glob(".*"))
    # As a process that is killed for good leaves it.
    (tmp_path / "cache" / ".00001-of-00003.77.part").mkdir()
    encoder, clips = Doubling(), Clips()
    assert make(tmp_path / "cache", encoder, clips)
    assert encoder.calls == [[f"words {i}" for i in (3, 4, 5, 6)]]
    assert contents(tmp_path / "cache") == contents(whole)
    assert make(tmp_path / "cache", encoder) and len(encoder.calls) == 1


def test_two_hosts_make_what_one_makes(tmp_path, whole):
    assert not make(tmp_path / "cache", index=1, count=2)
    message = r"not finished: 2 of 3 shards are missing \(00000-of-00003, 00002-of-00003\); run the"
    with pytest.raises(RecordError, match=message):
        ShardedRecords(tmp_path / "cache")
    assert make(tmp_path / "cache", index=0, count=2)
    assert contents(tmp_path / "cache") == contents(whole)


def test_shares_that_are_copied_together_need_no_index(tmp_path, whole):
    for index in (0, 1):
        assert not make(tmp_path / str(index), index=index, count=2)
    shutil.copytree(tmp_path / "1", tmp_path / "0", dirs_exist_ok=True)
    assert [ShardedRecords(tmp_path / "0")[i]["id"] for i in range(7)] == [
        f"c{i}" for i in range(7)
    ]


def test_captions_are_encoded_for_several_shards_at_once(tmp_path):
    encoder, told = Doubling(), []
    make(tmp_path / "cache", encoder, at_once=6, progress=lambda *done: told.append(done))
    assert [len(captions) for captions in encoder.calls] == [6, 1]
    assert told == [(i, 7) for i in range(1, 8)]


def test_another_plan_is_refused(tmp_path):
    folder = tmp_path / "cache"
    make(folder, index=1, count=2)
    with pytest.raises(RecordError, match=r"begun otherwise: size_hw: \[1, 1\] there, \[2, 2\] wa"):
        make(folder, Doubling(size_hw=(2, 2)))
    with pytest.raises(RecordError, match=r"encoder: 'nothing' there, 'ab' wanted; go on with"):
        make(folder, Doubling(encoder="ab"))
    with pytest.raises(RecordError, match="shard size: 3 there, 4 wanted"):
        make(folder, shard_size=4)
    with pytest.raises(RecordError, match=r"2 clips are gone \(c5, c6\)"):
        make(folder, clips=Clips(5))
    with pytest.raises(RecordError, match=r"3 clips are new \(c7, c8, c9\)"):
        make(folder, clips=Clips(10))


def test_changed_captions_are_refused(tmp_path):
    class Other(Clips):
        def __getitem__(self, i):
            return super().__getitem__(i).replace(caption="other words")

    make(tmp_path / "cache", index=1, count=2)
    with pytest.raises(RecordError, match=r"7 clips have changed \(c0, c1, c2, \.\.\.\)"):
        make(tmp_path / "cache", clips=Other())


def test_facts_that_were_asked_for_must_hold(whole):
    assert len(ShardedRecords(whole, expect={"size_hw": [1, 1]})) == 7
    wanted = {"size_hw": (4, 4), "arrays": {"video": {"shape": (9,)}}}
    message = (
        r"encoded otherwise: size_hw: \[1, 1\] there, \[4, 4\] wanted; "
        r"arrays.video.shape: \[2\] there, \[9\] wanted; encode the clips again"
    )
    with pytest.raises(RecordError, match=message):
        ShardedRecords(whole, expect=wanted)


def test_no_cache_at_all(tmp_path):
    with pytest.raises(RecordError, match="holds no encoded clips"):
        ShardedRecords(tmp_path / "nowhere")


def test_a_copy_that_was_cut_short_is_told(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "copy")
    data = tmp_path / "copy" / "00001-of-00003" / "examples.array_record"
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(RecordError, match="00001-of-00003 are not as they were written; delete"):
        ShardedRecords(tmp_path / "copy")
    (tmp_path / "copy" / "index.json").unlink()
    shutil.rmtree(data.parent)
    assert make(tmp_path / "copy") and contents(tmp_path / "copy") == contents(whole)


def test_a_broken_plan_is_told(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "copy")
    (tmp_path / "copy" / "plan.json").write_text("{")
    with pytest.raises(RecordError, match="plan.json is broken"):
        ShardedRecords(tmp_path / "copy")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(shard_size=0), "shard_size 0 must be at least 1"),
        (dict(index=2, count=2), "shard 2/2: hosts count from 0 to 1"),
        (dict(clips=Clips(0)), "'seven' holds no clips: there is nothing to encode"),
    ],
)
def test_numbers_that_make_no_sense(tmp_path, how, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "cache", **how)
    assert not list(tmp_path.iterdir())


def test_clips_without_words_or_with_one_name_are_told(tmp_path):
    class Silent(Clips):
        def __getitem__(self, i):
            return super().__getitem__(i).replace(caption="" if i < 5 else "words")

    with pytest.raises(
        ValueError, match=r"5 of 7 clips have no caption: c0, c1, c2, \.\.\.; write"
    ):
        make(tmp_path / "cache", clips=Silent())

    class Twins(Clips):
        def __getitem__(self, i):
            return super().__getitem__(i).replace(id="c0")

    with pytest.raises(ValueError, match="clip 'c0' is there twice"):
        make(tmp_path / "cache", clips=Twins())


def test_an_error_of_a_clip_leaves_nothing_half_written(tmp_path):
    class Bad(Clips):
        def __getitem__(self, i):
            if self.read.count(5) and i == 5:
                raise ValueError("c5 cannot be read")
            return super().__getitem__(i)

    with pytest.raises(ValueError, match="c5 cannot be read"):
        make(tmp_path / "cache", clips=Bad())
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [
        "00000-of-00003",
        "plan.json",
    ]


def test_the_plan_tells_people_what_is_there(whole):
    plan = json.loads((whole / "plan.json").read_text())
    assert plan["facts"]["size_hw"] == [1, 1] and plan["shard_size"] == SIZE
    assert json.loads((whole / "index.json").read_text())["count"] == 7
