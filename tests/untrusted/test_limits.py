"""Limits: one table, raised by the environment, told in the error."""

import numpy as np
import pytest

from tavid_jax.data.arrays import ArrayFileError, read_npz
from tavid_jax.data.clip import ClipError
from tavid_jax.data.files import read_captions
from tavid_jax.data.video import VideoError, probe, read_video, write_video
from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import LimitError, UntrustedError
from tavid_jax.untrusted.texts import parse_json


def test_every_limit_has_a_reason():
    for name, limit in limits.LIMITS.items():
        assert limits.most(name) == limit.most > 0 and limit.unit and len(limit.why) > 10


def test_message_tells_how_to_raise_it(monkeypatch):
    with pytest.raises(LimitError, match="TAVID_LIMIT_POINTS=9999999999"):
        limits.check("points", 9_999_999_999, "its tracks")
    monkeypatch.setenv("TAVID_LIMIT_POINTS", "1e10")
    limits.check("points", 9_999_999_999, "its tracks")
    monkeypatch.setenv("TAVID_LIMIT_POINTS", "many")
    with pytest.raises(UntrustedError, match="TAVID_LIMIT_POINTS must be a positive number"):
        limits.check("points", 1, "its tracks")


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "v.mp4"
    write_video(path, np.zeros((9, 32, 48, 3), np.uint8), 8)
    return path


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("FRAME_PIXELS", 1000, "frames of 48x32"),
        ("VIDEO_FRAMES", 4, "its length"),
        ("VIDEO_SECONDS", 1, "its duration"),
        ("VIDEO_BYTES", 10_000, "9 frames of 48x32 at once"),
    ],
)
def test_videos(name, value, words, video, monkeypatch):
    assert read_video(video).shape == (9, 32, 48, 3)
    monkeypatch.setenv(f"TAVID_LIMIT_{name}", str(value))
    with pytest.raises(VideoError, match=f"v.mp4: refused: {words}.*TAVID_LIMIT_{name}="):
        read_video(video)


def test_pictures_are_measured_before_they_are_decoded(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    head = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02"
    (folder / "0.png").write_bytes(head + bytes(100))
    with pytest.raises(VideoError, match="0.png: refused: a picture of 60000x60000"):
        probe(folder)


def test_list_of_addresses_is_no_video(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n")
    with pytest.raises(VideoError, match="not a video"):
        probe(path)


def test_captions(tmp_path, monkeypatch):
    path = tmp_path / "c.csv"
    path.write_text(f"videoid,text\na,{'x' * 30_000}\n")
    with pytest.raises(ClipError, match="c.csv: refused: a cell of the table: 30,000 characters"):
        read_captions(path)


def test_json_nests_so_deep(tmp_path):
    assert parse_json("[" * 60 + "]" * 60)
    for depth in (70, 5000, 200_000):
        with pytest.raises(UntrustedError, match="nest"):
            parse_json("[" * depth + "]" * depth)
    with pytest.raises(UntrustedError, match="half a character"):
        parse_json('{"a": "\\ud800"}')
    assert parse_json('"\\ud83d\\ude00"') == "😀"


def test_arrays_of_an_archive(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros((100, 100)))
    assert read_npz(path)["a"].shape == (100, 100)
    monkeypatch.setenv("TAVID_LIMIT_ARRAY_BYTES", "10000")
    with pytest.raises(ArrayFileError, match="a.npz: refused: its arrays, unpacked: 80,128 bytes"):
        read_npz(path)
