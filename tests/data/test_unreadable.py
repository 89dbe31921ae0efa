"""Clips that cannot be read: the first stops the run, or others take their place."""

import itertools

import numpy as np
import pytest

from tavid_jax.data.pipeline import ExampleError, PipelineError, batches
from tavid_jax.data.records import RecordError
from tavid_jax.data.unreadable import FeedError
from tavid_jax.data.video import VideoError
from tavid_jax.run import USER_ERRORS

BAD = (2, 6)


class Clips:
    """Ten items, of which some cannot be read."""

    name = "clips"

    def __init__(self, error: type[Exception] = VideoError):
        self.error = error

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int):
        if index in BAD:
            raise self.error(f"clip{index}.mp4: ends after 3 frames")
        return {"id": f"clip{index}", "value": np.full(2, index, np.float32)}


def prepare(item, rng):
    return item | {"noise": rng.random(2)}


def take(count: int, source=None, **options):
    settings = dict(batch_size=4, seed=3, threads=0, on_bad="skip") | options
    return list(itertools.islice(batches(source or Clips(), prepare, **settings), count))


@pytest.mark.parametrize("error", [VideoError, RecordError, OSError])
def test_the_default_stops_and_names(error):
    with pytest.raises(ExampleError, match="item 2 of source 'clips'.*ends after 3 frames") as told:
        take(1, Clips(error), on_bad="stop", shuffle=False)
    assert isinstance(told.value, USER_ERRORS)


@pytest.mark.parametrize("options", [dict(threads=2), dict(workers=1), dict(start_step=3)])
def test_others_take_their_place_whoever_prepares_them(options, caplog):
    whole = take(6)
    ids = {name for batch in whole for name in batch.ids}
    assert ids == {f"clip{i}" for i in range(10) if i not in BAD}
    assert all(len(batch.ids) == 4 for batch in whole)
    start = options.get("start_step", 0)
    for a, b in zip(whole[start:], take(6 - start, **options), strict=True):
        assert a.step == b.step and a.ids == b.ids
        for key in a.arrays:
            np.testing.assert_array_equal(a.arrays[key], b.arrays[key])


def test_only_the_places_of_bad_clips_change():
    class Good(Clips):
        def __getitem__(self, index):
            return {"id": f"clip{index}", "value": np.full(2, index, np.float32)}

    for with_bad, good in zip(take(5), take(5, Good()), strict=True):
        for a, b in zip(with_bad.ids, good.ids, strict=True):
            assert a == b or b in ("clip2", "clip6")


def test_hosts_agree():
    whole = take(5)
    parts = [take(5, process_index=p, process_count=2) for p in range(2)]
    assert [b.ids for b in whole] == [a.ids + b.ids for a, b in zip(*parts, strict=True)]


def test_each_is_named_once_and_counted(caplog):
    with caplog.at_level("WARNING", "absl"):
        take(20)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "clip2.mp4: ends after 3 frames" in "".join(said)
    assert "another one is shown in its place (2 of at most 100 so far)" in said[1]


def test_too_many_stop_the_run():
    with pytest.raises(ExampleError, match="2 examples of source 'clips' .* more than .*max_bad=1"):
        take(20, max_bad=1)


def test_a_source_without_any_good_one_stops():
    class Broken(Clips):
        def __getitem__(self, index):
            raise VideoError("broken")

    with pytest.raises(ExampleError, match="broken"):
        take(1, Broken(), max_bad=5)


def test_what_the_system_refuses_and_errors_of_code_are_never_skipped():
    with pytest.raises(ExampleError, match="OSError"):
        take(20, Clips(OSError))
    with pytest.raises(PipelineError, match="KeyError") as told:
        take(20, Clips(KeyError))
    assert not isinstance(told.value, ExampleError)


@pytest.mark.parametrize("options", [dict(on_bad="ignore"), dict(max_bad=0)])
def test_policies_that_there_are_not(options):
    with pytest.raises(ValueError, match="must be one of stop, skip"):
        take(1, **options)


def test_an_end_of_the_feed_is_what_users_mend():
    assert issubclass(FeedError, USER_ERRORS)
