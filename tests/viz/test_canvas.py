"""Text strips, resizing and fading."""

import numpy as np
import pytest

from tavid_jax.viz import canvas


def test_resize_keeps_flat_colours_and_sizes():
    image = np.full((8, 12, 3), 77, np.uint8)
    for size in ((4, 6), (16, 24), (8, 12)):
        resized = canvas.resize(image, size)
        assert resized.shape == (*size, 3) and (resized == 77).all()
    assert canvas.resize_clip(np.zeros((0, 8, 12, 3), np.uint8), (4, 6)).shape == (0, 4, 6, 3)


def test_shrinking_averages():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = 200
    assert canvas.resize(image, (1, 1)).tolist() == [[[100, 100, 100]]]


def test_blend_white():
    image = np.array([[[0, 100, 255]]], np.uint8)
    assert canvas.blend_white(image, 0.0).tolist() == image.tolist()
    assert canvas.blend_white(image, 0.25).tolist() == [[[64, 139, 255]]]
    assert (canvas.blend_white(image, 1) == 255).all()
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        canvas.blend_white(image, 1.5)


def test_strip_shows_label_accent_and_counter():
    theme = canvas.THEME
    bare = canvas.label_strip(200, "")
    assert (bare == np.array(theme.canvas, np.uint8)).all()
    strip = canvas.label_strip(200, "truth", "3 / 9", accent=theme.truth)
    assert tuple(strip[theme.header // 2, 8]) == theme.truth
    changed = (strip != bare).any(axis=(0, 2))
    assert changed[:100].any() and changed[150:].any() and not changed[100:140].any()
    muted = canvas.label_strip(200, "truth", "3 / 9", accent=theme.truth, active=False)
    assert strip.max() > muted.max()


def test_long_labels_are_cut():
    text = "a very long label indeed"
    cut = canvas.elide(text, 80, 14)
    assert cut.endswith("…") and canvas.text_width(cut, 14) <= 80
    assert canvas.elide(text, 1000, 14) == text
    assert canvas.elide(text, 2, 14) == ""


def test_enlarging_keeps_every_pixel():
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    large = canvas.enlarge(clip, 11)
    assert large.shape == (2, 12, 18, 3)
    for row in range(3):
        for column in range(3):
            np.testing.assert_array_equal(large[:, row::3, column::3], clip)
    assert canvas.enlarge(clip[0], 4).shape == (4, 6, 3)
    np.testing.assert_array_equal(canvas.enlarge(clip, 2), clip)  # never smaller


def test_words_are_wrapped_and_the_rest_is_cut():
    text = "a red disc moves left and a pink hoop stands still"
    wide = canvas.wrap(text, 10_000, 13, 3)
    assert wide == [text]
    rows = canvas.wrap(text, 120, 13, 5)
    assert len(rows) > 2 and " ".join(rows) == text
    assert all(canvas.text_width(row, 13) <= 120 for row in rows)
    *kept, last = canvas.wrap(text, 120, 13, 2)
    assert kept == rows[:1] and last.endswith("…") and canvas.text_width(last, 13) <= 120
    assert canvas.wrap("", 100, 13, 2) == [""]
    block = canvas.caption_block(120, text, lines=3, accent=(0, 250, 0))
    assert block.shape[1] == 120 and len(block) == len(canvas.caption_block(120, "a", lines=3))
    assert (block == (0, 250, 0)).all(-1).any()
