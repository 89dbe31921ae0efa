"""Batches ahead of the loop: in order, one at a time, and with their errors."""

import threading
import time
from types import SimpleNamespace

import pytest

from tavid_jax.engine.feed import AHEAD, Feed


def numbered(stop: int, made: list[int] | None = None):
    for step in range(stop):
        if made is not None:
            made.append(step)
        yield SimpleNamespace(step=step, arrays={"x": step})


def double(arrays):
    return {key: 2 * value for key, value in arrays.items()}


def test_batches_come_in_order_and_placed():
    with Feed(numbered(3), double, 9) as feed:
        for step in range(3):
            batch, arrays = feed.take()
            assert batch.step == step and arrays == {"x": 2 * step}
            feed.ask()
        assert feed.take() == (None, {})


def test_no_more_is_made_than_was_asked_for():
    made: list[int] = []
    with Feed(numbered(9, made), double, 4) as feed:
        for _ in range(AHEAD):
            feed.take()
        time.sleep(0.05)
        assert made == [0, 1]
        feed.ask()
        feed.take()
        assert made == [0, 1, 2]
        for _ in range(3):
            feed.ask()  # the loop takes one more
        feed.take()
        time.sleep(0.05)
        assert made == [0, 1, 2, 3]


@pytest.mark.parametrize("where", ["batches", "place"])
def test_errors_reach_the_loop(where: str):
    def broken():
        yield SimpleNamespace(arrays={})
        raise OSError("a broken disk")

    def place(arrays):
        raise OSError("a broken disk")

    with Feed(broken(), double if where == "batches" else place, 9) as feed:
        if where == "batches":
            feed.take()
        with pytest.raises(OSError, match="a broken disk"):
            feed.take()


def test_the_end_closes_what_was_read_and_waits_for_no_hung_disk(monkeypatch):
    monkeypatch.setattr("tavid_jax.engine.feed._PATIENCE", 0.05)
    closed, hung = threading.Event(), threading.Event()

    def reading():
        try:
            yield SimpleNamespace(arrays={})
            hung.wait()
        finally:
            closed.set()

    with Feed(reading(), double, 9) as feed:
        feed.take()
    assert not closed.is_set()  # the thread hangs in the second
    hung.set()
    assert closed.wait(1.0)
