"""Encoded films: they decode, keep their timing, carry their provenance and stay small."""

import base64
import io
import os
import sys

import numpy as np
import pytest
from PIL import Image

from tavid_jax.viz import media

PROVENANCE = {"config": "3f9a12", "seed": 7, "weights": {"flow": "é77e0"}}


def moving_square(count: int = 6, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    clip = np.full((count, *size, 3), 240, np.uint8)
    for t in range(count):
        clip[t, 10:26, 4 + 6 * t : 20 + 6 * t] = (200, 30, 30)
    return clip


def noise(count: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


@pytest.mark.parametrize("format", ["webp", "gif"])
def test_animation_decodes_to_the_same_pictures(format):
    clip = moving_square()
    made = media.encode_animation(clip, 10, format=format, provenance=PROVENANCE, hold_last=0.5)
    assert made.mime == f"image/{format}" and (made.width, made.height, made.frames) == (64, 48, 6)
    image = Image.open(io.BytesIO(made.data))
    assert image.n_frames == 6 and image.info["loop"] == 0
    shown = []
    for t in range(6):
        image.seek(t)
        decoded = np.asarray(image.convert("RGB")).astype(int)
        shown.append(image.info["duration"])
        assert np.abs(decoded - clip[t]).mean() < 4
    assert shown[:5] == [100] * 5 and shown[5] == 600
    assert media.read_provenance(made.data) == PROVENANCE


@pytest.mark.parametrize(("fps", "unit"), [(12.0, 1), (16.0, 10), (29.97, 10), (500.0, 10)])
def test_durations_do_not_drift(fps, unit):
    shown = media._durations(60, fps, 0.0, unit)
    assert len(shown) == 60 and min(shown) >= unit
    if fps <= 1000 / unit:
        assert abs(sum(shown) - 60_000 / fps) <= unit


def test_mp4_carries_provenance():
    made = media.encode_animation(moving_square(), 10, format="mp4", provenance=PROVENANCE)
    assert made.mime == "video/mp4" and made.data[4:8] == b"ftyp"
    assert media.read_provenance(made.data) == PROVENANCE


def test_no_provenance_is_empty():
    clip = moving_square(2)
    for format in ("webp", "gif"):
        made = media.encode_animation(clip, 10, format=format)
        assert media.read_provenance(made.data) == {}


def test_animation_shrinks_until_it_fits():
    clip = noise(4, (120, 160))
    free = media.encode_animation(clip, 10, max_bytes=10**9)
    limit = len(free.data) // 8
    tight = media.encode_animation(clip, 10, max_bytes=limit)
    assert len(free.data) > limit >= len(tight.data)
    assert (free.width, free.height) == (160, 120)
    assert tight.width < 160 and tight.frames == 4  # short films are not thinned


def test_long_films_are_thinned_and_keep_their_last_frame():
    clip = noise(48, (32, 32))
    clip[-1] = (0, 255, 0)
    free = media.encode_animation(clip, 24, max_bytes=10**9, quality=80)
    made = media.encode_animation(clip, 24, max_bytes=int(0.45 * len(free.data)), quality=80)
    assert made.frames == 24
    image = Image.open(io.BytesIO(made.data))
    image.seek(image.n_frames - 1)
    assert np.asarray(image.convert("RGB"))[16, 16, 1] > 200


def test_what_cannot_fit_is_given_and_told(caplog):
    with caplog.at_level("WARNING"):
        made = media.encode_animation(noise(3, (64, 64)), 10, max_bytes=50)
    assert len(made.data) > 50
    assert "more than the 50" in caplog.text


def test_png_is_lossless_with_provenance():
    picture = noise(1, (9, 7))[0]
    made = media.encode_png(picture, provenance=PROVENANCE)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(made.data))), picture)
    assert media.read_provenance(made.data) == PROVENANCE


def test_data_uri():
    uri = media.data_uri(b"\x00abc", "image/webp")
    head, body = uri.split(",")
    assert head == "data:image/webp;base64" and base64.b64decode(body) == b"\x00abc"


def test_save_replaces_whole_files(tmp_path, monkeypatch):
    path = tmp_path / "a.webp"
    media.save(path, media.Media(b"old", "image/webp", 1, 1))
    assert path.read_bytes() == b"old"

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        media.save(path, media.Media(b"new", "image/webp", 1, 1))
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.webp"]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="unknown animation format 'avi'"):
        media.encode_animation(moving_square(2), 10, format="avi")
    with pytest.raises(ValueError, match="fps > 0"):
        media.encode_animation(moving_square(2), 0)
    with pytest.raises(ValueError, match="needs frames"):
        media.encode_animation(moving_square(0), 10)


def test_mp4_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(RuntimeError, match="imageio-ffmpeg"):
        media.encode_animation(moving_square(2), 10, format="mp4")
