"""The order of batches depends on nothing but seed and step."""

import itertools
import os
import time

import numpy as np
import pytest
from absl import flags

from tavid_jax.data.clip import ClipError
from tavid_jax.data.pipeline import ExampleError, PipelineError, batches, global_order
from tavid_jax.run import USER_ERRORS


class Numbers:
    """A source of n small arrays."""

    name = "numbers"

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return {"id": f"n{index}", "value": np.full(3, index, np.float32)}


def prepare(item, rng):
    return {"id": item["id"], "value": item["value"], "noise": rng.random(2)}


def take(count, source=None, **kw):
    settings = dict(batch_size=4, seed=3, threads=0)
    it = batches(source or Numbers(10), prepare, **(settings | kw))
    got = list(itertools.islice(it, count))
    it.close()
    return got


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.step == y.step and x.ids == y.ids and x.arrays.keys() == y.arrays.keys()
        for key in x.arrays:
            np.testing.assert_array_equal(x.arrays[key], y.arrays[key])


def test_every_epoch_shows_every_item_once_in_another_order():
    ids = [name for batch in take(10) for name in batch.ids]
    epochs = [ids[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert len(set(epochs[0])) == 10


def test_randomness_never_repeats_and_follows_the_seed():
    noise = np.concatenate([batch.arrays["noise"] for batch in take(10)])
    assert len(np.unique(noise)) == noise.size
    assert_same(take(5), take(5))
    other = take(5, seed=4)
    assert other[0].ids != take(1)[0].ids
    assert not np.isin(other[0].arrays["noise"], noise).any()


def test_neighbouring_seeds_share_no_epoch():
    """Grain shuffles epoch e of seed s as epoch 0 of seed s + e: runs must not inherit that."""
    a = global_order(50, 0)
    b = global_order(50, 1)
    assert [a[i] % 50 for i in range(50, 100)] != [b[i] % 50 for i in range(50)]


@pytest.mark.parametrize("threads, workers", [(1, 0), (3, 0), (1, 1), (2, 2)])
def test_threads_and_workers_change_nothing(threads, workers):
    assert_same(take(7), take(7, threads=threads, workers=workers))


@pytest.mark.parametrize("process_count", [1, 2, 4])
@pytest.mark.parametrize("kw", [dict(), dict(shuffle=False, num_epochs=1)])
def test_hosts_slice_each_global_batch(process_count, kw):
    whole = take(3, **kw)
    parts = [
        take(3, process_index=p, process_count=process_count, **kw) for p in range(process_count)
    ]
    for step, batch in enumerate(whole):
        slices = [part[step] for part in parts]
        assert sum((piece.ids for piece in slices), []) == batch.ids
        real = len(batch.ids)
        for key, array in batch.arrays.items():
            joined = np.concatenate([piece.arrays[key] for piece in slices])
            assert joined.shape == array.shape
            np.testing.assert_array_equal(joined[:real], array[:real])


def scheduled(item, rng, step):
    return {"value": item["value"] * 0, "step": step}


@pytest.mark.parametrize("threads, workers", [(0, 0), (2, 0)])
def test_a_schedule_knows_the_step_of_a_resumed_run(threads, workers):
    got = batches(
        Numbers(10),
        scheduled,
        batch_size=4,
        seed=3,
        start_step=5,
        scheduled=True,
        threads=threads,
        workers=workers,
    )
    for step, batch in zip((5, 6), got, strict=False):
        assert batch.step == step and batch.arrays["step"].tolist() == [step] * 4
    got.close()


@pytest.mark.parametrize("threads, workers", [(0, 0), (2, 0), (1, 2)])
def test_resume_is_exact(threads, workers):
    whole = take(9)
    assert_same(whole[5:], take(4, start_step=5, threads=threads, workers=workers))


def test_evaluation_shows_every_item_once_in_order():
    got = take(99, shuffle=False, num_epochs=1)
    assert [b.ids for b in got] == [[f"n{i}" for i in r] for r in (range(4), range(4, 8), (8, 9))]
    assert got[-1].arrays["value"].shape == (4, 3)
    np.testing.assert_array_equal(got[-1].arrays["value"][:, 0], [8, 9, 9, 9])
    assert take(99, shuffle=False, num_epochs=1, start_step=3) == []


def test_padding_of_a_small_source_on_many_hosts():
    last = take(9, Numbers(1), process_index=3, process_count=4, num_epochs=1)
    assert len(last) == 1 and last[0].ids == []
    assert last[0].arrays["value"].tolist() == [[0, 0, 0]]


def test_a_batch_larger_than_the_source_spans_epochs():
    ids = take(1, Numbers(3), batch_size=8)[0].ids
    assert sorted(ids[:3]) == sorted(ids[3:6]) == ["n0", "n1", "n2"]


def test_ids_come_from_the_example_the_item_or_the_place():
    def no_id(item, rng):
        return {"value": item["value"]}

    class Bare(Numbers):
        def __getitem__(self, index):
            return {"value": np.zeros(1)}

    for source, want in ((Numbers(4), "n0"), (Bare(4), "numbers[0]")):
        first = next(batches(source, no_id, batch_size=1, seed=0, shuffle=False, threads=0))
        assert first.ids == [want]


def breaks(item, rng):
    if item["id"] == "n6":
        raise KeyError("depth")
    return {"value": item["value"]}


@pytest.mark.parametrize("threads, workers", [(0, 0), (2, 0), (1, 1)])
def test_a_failing_item_is_named(threads, workers):
    it = batches(
        Numbers(10), breaks, batch_size=4, seed=0, shuffle=False, threads=threads, workers=workers
    )
    assert next(it).step == 0
    with pytest.raises(PipelineError, match=r"'n6' \(item 6 of source 'numbers', step 1\).*depth"):
        next(it)


def lacks(item, rng):
    raise ClipError("it has no words")


@pytest.mark.parametrize("threads", [0, 1])
def test_a_clip_that_is_at_fault_is_told_as_what_users_mend(threads):
    it = batches(Numbers(2), lacks, batch_size=1, seed=0, shuffle=False, threads=threads)
    with pytest.raises(ExampleError, match="'n0'.*ClipError: it has no words") as told:
        next(it)
    assert isinstance(told.value, USER_ERRORS)


def test_shapes_and_keys_that_differ_are_named():
    def ragged(item, rng):
        return {"value": np.zeros(int(item["value"][0]) + 1)}

    def uneven(item, rng):
        return {"a" if item["id"] == "n0" else "b": np.zeros(1)}

    def wordy(item, rng):
        return {"caption": "hello"}

    kw = dict(batch_size=2, seed=0, shuffle=False, threads=0)
    with pytest.raises(PipelineError, match=r"'value' is float64 \(2,\) in example 'n1'.*'n0'"):
        next(batches(Numbers(4), ragged, **kw))
    with pytest.raises(PipelineError, match=r"'n1' has keys \['b'\], example 'n0' has \['a'\]"):
        next(batches(Numbers(4), uneven, **kw))
    with pytest.raises(PipelineError, match="'caption' is str, batches hold numbers"):
        next(batches(Numbers(4), wordy, **kw))


def crashes(item, rng):
    os._exit(3)


def test_a_crashing_worker_is_an_error():
    it = batches(Numbers(4), crashes, batch_size=2, seed=0, workers=1, threads=1)
    with pytest.raises(PipelineError, match="failed at step 0: .*exit code 3"):
        next(it)


def test_a_hanging_thread_is_an_error():
    def hangs(item, rng):
        time.sleep(1.0 if item["id"] == "n2" else 0.0)
        return {"value": item["value"]}

    it = batches(Numbers(4), hangs, batch_size=2, seed=0, shuffle=False, threads=1, timeout_s=0.2)
    assert next(it).step == 0
    with pytest.raises(PipelineError, match=r"no batch for 0.2 s at step 1: .*hangs.*\[2, 3\]"):
        next(it)


@pytest.mark.parametrize(
    "kw, words",
    [
        (dict(batch_size=5, process_count=2), "positive multiple of process_count 2"),
        (dict(process_index=2, process_count=2), "process_index 2 is outside 2"),
        (dict(source=Numbers(0)), "source 'numbers' is empty"),
        (dict(start_step=-1), "must be >= 0"),
        (dict(num_epochs=0), "num_epochs >= 1"),
        (dict(timeout_s=0), "data.timeout_s is 0, must be more than 0 seconds"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_at_once(kw, words):
    settings = dict(source=Numbers(10), prepare=prepare, batch_size=4, seed=0)
    with pytest.raises(ValueError, match=words):
        batches(**(settings | kw))


def test_workers_without_parsed_flags_are_refused_with_the_mend(monkeypatch):
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    with pytest.raises(ValueError, match="absl flags.*workers=0"):
        batches(Numbers(4), prepare, batch_size=2, seed=0, workers=1)
