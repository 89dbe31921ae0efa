"""Camera motion: known ones are found behind foregrounds and gaps, and said in the right words."""

import dataclasses
import math

import numpy as np
import pytest

from tavid_jax.tracks.camera_motion import (
    MOTIONS,
    Thresholds,
    Vocabulary,
    captioned,
    describe,
    estimate,
)
from tavid_jax.tracks.grid import query_points

SIZE_HW, FPS = (480, 832), 16
CENTRE = (np.array(SIZE_HW[::-1]) - 1) / 2


def scene(frames=49, shift=(0, 0), scale=1.0, turn=0.0, jitter=0.0, foreground=None, seed=0):
    """Tracks from the top left of 32 px cells: content moves, grows by `scale` and turns clockwise
    by `turn` degrees a frame about the centre; 40 % of points move with the foreground instead."""
    rng, t = np.random.default_rng(seed), np.arange(frames)
    query = query_points(SIZE_HW, 32).astype(np.float64)
    place = ((query - CENTRE) @ [1, 1j])[:, None]
    place = place * (scale * np.exp(1j * np.radians(turn))) ** t + complex(*shift) * t
    place = place + jitter * (rng.normal(size=frames) + 1j * rng.normal(size=frames))
    tracks = np.stack([place.real, place.imag], axis=-1) + CENTRE
    if foreground is not None:
        near = rng.permutation(len(query))[: round(0.4 * len(query))]
        tracks[near] = query[near, None] + t[:, None] * np.array(foreground)
    inside = ((tracks >= 0) & (tracks <= 2 * CENTRE)).all(axis=-1)
    return tracks.astype(np.float32), inside


def told(tracks, seen):
    return describe(estimate(tracks, seen, SIZE_HW, FPS))


@pytest.mark.parametrize(
    ("motion", "name", "value", "sentence"),
    [
        (dict(shift=(-3, 0)), "pan", 0.04997, "The camera steadily pans right."),
        (dict(shift=(0, 1)), "tilt", 0.01666, "The camera slowly tilts up."),
        (dict(scale=1.01), "zoom", 0.15921, "The camera steadily zooms in."),
        (dict(scale=0.99), "zoom", -0.16081, "The camera steadily zooms out."),
        (dict(turn=0.5), "roll", -0.13963, "The camera steadily rolls counter-clockwise."),
        (dict(turn=-1.5), "roll", 0.41888, "The camera quickly rolls clockwise."),
        (dict(shift=(9, 0)), "pan", -0.14990, "The camera quickly pans left."),
        (dict(), "pan", 0.0, "The camera is static."),
        (dict(jitter=1.0), "pan", None, "The camera is handheld with slight shake."),
        (dict(foreground=(10, 0)), "pan", 0.0, "The camera is static."),
    ],
)
def test_table_of_known_motions(motion, name, value, sentence):
    found = estimate(*scene(**motion), SIZE_HW, FPS)
    assert describe(found) == sentence
    if value is not None:
        assert getattr(found, name).value == pytest.approx(value, abs=1e-4)
        others = [getattr(found, other).value for other in MOTIONS if other != name]
        np.testing.assert_allclose(others, 0, atol=1e-4)  # a turn is no zoom, and so on
        assert found.reliable == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_zoom_behind_a_large_foreground_and_gaps(seed, noise):
    """40 % foreground, points hidden now and then, tracker's noise, NaN, infinity and huge values
    where they are invisible or not."""
    rng = np.random.default_rng(seed)
    tracks, seen = scene(frames=25, scale=1.01, foreground=(10, 3), seed=seed)
    tracks += noise * rng.normal(size=tracks.shape).astype(np.float32)
    seen &= rng.random(seen.shape) > 0.3
    tracks[~seen] = np.nan
    tracks[:3], tracks[3], tracks[4] = np.nan, np.inf, 1e30
    seen[:5] = True
    found = estimate(tracks, seen, SIZE_HW, FPS)
    assert describe(found) == "The camera steadily zooms in."
    assert found.zoom.value == pytest.approx(0.1592, rel=0.05)
    assert 0.4 < np.median(found.inliers) < 0.8


def test_too_few_points_tell_nothing():
    tracks, seen = scene(shift=(-3, 0))
    assert told(tracks[:15], seen[:15]) == ""
    assert told(tracks[:1], seen[:1]) == "" == told(tracks[:, :1], seen[:, :1])
    seen[15:, 20:] = False  # most pairs
    found = estimate(tracks, seen, SIZE_HW, FPS)
    assert found.reliable == pytest.approx(18 / 47)
    assert np.isnan(found.pan.series[18:]).all() and np.isfinite(found.pan.series[:18]).all()
    assert describe(found) == "The camera steadily pans right."
    assert describe(found, Thresholds(reliable=0.5)) == ""


def test_points_without_a_common_motion_tell_nothing():
    rng = np.random.default_rng(0)
    query = query_points(SIZE_HW, 32)
    away = rng.normal(size=(len(query), 1, 2)) * 40 * np.arange(25)[:, None]
    tracks = (query[:, None] + away).astype(np.float32)
    found = estimate(tracks, np.ones(tracks.shape[:2], bool), SIZE_HW, FPS)
    assert found.reliable == 0 and math.isnan(found.pan.value) and describe(found) == ""


def test_to_and_fro_is_neither_a_pan_nor_static():
    tracks, seen = scene(frames=33, shift=(-3, 0))
    back = np.concatenate([tracks, tracks[:, -2::-1]], axis=1)
    seen = np.concatenate([seen, seen[:, -2::-1]], axis=1)
    assert told(back, seen) == ""


def test_two_strongest_motions_are_said():
    one = dict(frames=25, scale=1.02, shift=(-1, 0))
    assert told(*scene(**one)) == "The camera quickly zooms in and slowly pans right."
    three = estimate(*scene(**one, turn=0.5), SIZE_HW, FPS)
    assert describe(three) == "The camera quickly zooms in and steadily rolls counter-clockwise."
    assert describe(three, Thresholds(most=1)) == "The camera quickly zooms in."
    alike = scene(frames=25, shift=(-1, 0.8))
    assert told(*alike) == "The camera slowly pans right and tilts up."
    words = dataclasses.replace(Vocabulary(), pan=("goes left", "goes right"))
    found = estimate(*scene(shift=(-3, 0)), SIZE_HW, FPS)
    assert describe(found, vocabulary=words) == "The camera steadily goes right."


def test_low_rates_use_neighbouring_frames():
    found = estimate(*scene(frames=9, shift=(-12, 0)), SIZE_HW, 4)
    assert len(found.seconds) == 8 and found.seconds[0] == pytest.approx(1 / 8)
    assert found.pan.value == pytest.approx(12 * 4 / np.hypot(*SIZE_HW), rel=1e-4)
    with pytest.raises(ValueError, match="fps"):
        estimate(*scene(frames=3), SIZE_HW, 0)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("", "The camera is static."),
        ("A dog runs.", "A dog runs. The camera is static."),
        ("a dog runs ", "a dog runs. The camera is static."),
        ("A dog runs. The camera slowly pans left.", "A dog runs. The camera slowly pans left."),
        ("An empty view; the camera is still.", "An empty view; the camera is still."),
        ("A man holds a camera.", "A man holds a camera. The camera is static."),
    ],
)
def test_sentence_behind_a_caption(caption, expected):
    assert captioned(caption, "The camera is static.") == expected
    assert captioned(expected, "The camera is static.") == expected
    assert captioned(caption, "") == caption.strip()
