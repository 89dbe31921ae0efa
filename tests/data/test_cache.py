"""The cache of derived arrays: hit, miss, and every way to be broken."""

import numpy as np
import pytest

from tavid_jax.data import cache


class Builder:
    """Counts how often it was asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"x": np.arange(5), "seen": np.array([True, False])}


def test_second_read_builds_nothing(tmp_path):
    build = Builder()
    first = cache.cached(tmp_path / "new", {"a": 1}, build)
    again = cache.cached(tmp_path / "new", {"a": 1}, build)
    assert build.calls == 1 and set(again) == {"x", "seen"}
    np.testing.assert_array_equal(first["x"], again["x"])
    cache.cached(tmp_path / "new", {"a": 2}, build)
    assert build.calls == 2
    assert not [p for p in (tmp_path / "new").iterdir() if p.suffix != ".npz"]


def test_no_folder_keeps_nothing():
    build = Builder()
    cache.cached(None, {}, build)
    cache.cached(None, {}, build)
    assert build.calls == 2


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "other key"])
def test_a_broken_file_is_rebuilt(tmp_path, damage):
    build = Builder()
    cache.cached(tmp_path, {"a": 1}, build)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if damage == "other key":
        cache.save_npz(path, x=np.zeros(1), cache_key=np.array("{}"))
    else:
        path.write_bytes({"cut": content[:-40], "noise": b"PK" + bytes(50), "empty": b""}[damage])
    again = cache.cached(tmp_path, {"a": 1}, build)
    assert build.calls == 2
    np.testing.assert_array_equal(again["x"], np.arange(5))
    cache.cached(tmp_path, {"a": 1}, build)
    assert build.calls == 2  # mended


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def savez(stream, **arrays):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "savez", savez)
    build = Builder()
    assert cache.cached(tmp_path, {"a": 1}, build)["x"].tolist() == [0, 1, 2, 3, 4]
    assert list(tmp_path.iterdir()) == []


def test_content_hash_notices_a_change(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    first = cache.content_hash(path)
    path.write_bytes(b"12")
    assert cache.content_hash(path) != first
