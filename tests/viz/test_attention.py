"""Films of a word and grids of blocks: what stands where."""

import numpy as np
import pytest

from tavid_jax.viz import attention, canvas, heat

FRAMES = np.stack([np.full((12, 16, 3), 20 * t, np.uint8) for t in range(9)])
SPANS = ((0, 1), (1, 5), (5, 9))
MASK = np.zeros((12, 16))
MASK[4:8, 4:8] = 1


def panels(film: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two pictures of every frame."""
    theme, width = canvas.THEME, (film.shape[2] - 3 * canvas.THEME.gap) // 2
    tall = 12 * width // 16
    rows = slice(theme.header, theme.header + tall)
    return tuple(film[:, rows, left : left + width] for left in (theme.gap, 2 * theme.gap + width))


def test_every_frame_has_the_map_of_its_latent_frame():
    rng = np.random.default_rng(0)
    maps = rng.random((3, 3, 4))
    film = attention.heat_clip(FRAMES, maps, SPANS, "target")
    plain, hot = panels(film)
    assert len(film) == 9 and plain.shape[1:3] == (192, 256)
    zoomed = FRAMES.repeat(16, 1).repeat(16, 2)
    np.testing.assert_array_equal(plain, zoomed)
    for t in range(9):
        which = 0 if t == 0 else 1 if t < 5 else 2
        np.testing.assert_array_equal(hot[t], heat.over(zoomed[t], heat.scaled(maps[which])))


def test_a_mask_is_outlined_in_the_first_frame_alone():
    maps = np.random.default_rng(0).random((3, 3, 4))
    with_mask, without = (
        attention.heat_clip(FRAMES, maps, SPANS, "target", mask) for mask in (MASK, None)
    )
    differs = (with_mask != without).any((1, 2, 3))
    assert differs.tolist() == [True] + 8 * [False]


def test_only_the_frames_of_the_given_maps_are_shown():
    film = attention.heat_clip(FRAMES, np.eye(4)[None], ((5, 9),), "target")
    assert len(film) == 4
    assert len(attention.heat_clip(FRAMES, np.zeros((2, 3, 4)), ((0, 0), (0, 5)), "box")) == 5
    for spans in ((), ((0, 1), (1, 5)), ((0, 0),)):
        with pytest.raises(ValueError, match="give a span for each"):
            attention.heat_clip(FRAMES, np.eye(4)[None], spans, "target")


def rows_of(count: int, columns: int = 2, scores: bool = True) -> list[attention.Row]:
    rng = np.random.default_rng(1)
    return [
        attention.Row(
            f"block {i}",
            rng.random((columns, 3, 4)),
            rng.random(columns).tolist() if scores else (),
        )
        for i in range(count)
    ]


def test_the_grid_holds_every_map():
    frame, rows = FRAMES[5], rows_of(3)
    sheet = attention.heat_grid(frame, rows, ["step 1", "step 2"], "attention", MASK)
    ground, edge = frame.repeat(10, 0).repeat(10, 1), MASK.repeat(10, 0).repeat(10, 1)
    for row in rows:
        for values in row.maps:
            wanted = heat.over(ground, heat.scaled(values), edge)
            assert len(places(sheet, wanted)) == 1
    (shown,) = places(sheet, heat.outlined(ground, edge))
    first = places(sheet, heat.over(ground, heat.scaled(rows[0].maps[0]), edge))[0]
    assert shown[0] == first[0] and shown[1] < first[1]


def places(sheet: np.ndarray, picture: np.ndarray) -> list[tuple[int, int]]:
    """Where a picture stands in a larger one."""
    height, width = picture.shape[:2]
    return [
        (int(y), int(x))
        for y, x in np.argwhere((sheet == picture[0, 0]).all(-1))
        if sheet[y : y + height, x : x + width].shape == picture.shape
        and (sheet[y : y + height, x : x + width] == picture).all()
    ]


def test_the_best_scores_are_marked():
    rows = rows_of(3)
    best = attention._best(rows)
    scores = np.array([row.scores for row in rows])
    assert best == {(int(i), j) for j, i in enumerate(scores.argmax(0))}
    assert attention._best([attention.Row("a", np.zeros((1, 2, 2)), [0.0])]) == set()


def test_many_blocks_stand_side_by_side():
    sheet = attention.heat_grid(FRAMES[5], rows_of(43, 3), ["1", "25", "49"], "attention")
    assert 0.6 < sheet.shape[1] / sheet.shape[0] * 3 / 4 < 1.7
    bare = attention.heat_grid(FRAMES[5], rows_of(4, scores=False), ["1", "2"], "attention")
    assert bare.shape[0] < attention.heat_grid(FRAMES[5], rows_of(4), ["1", "2"], "a").shape[0]


def test_rows_that_do_not_fit():
    for rows in ([], rows_of(1, 3)):
        with pytest.raises(ValueError, match="each with 2 maps"):
            attention.heat_grid(FRAMES[0], rows, ["1", "2"], "attention")


def test_pictures_below_each_other():
    a, b = np.full((4, 6, 3), 9, np.uint8), np.full((2, 3, 3), 8, np.uint8)
    sheet = attention.stacked([a, b])
    assert sheet.shape == (6, 6, 3)
    assert (sheet[:4] == 9).all() and (sheet[4:, :3] == 8).all()
    assert (sheet[4:, 3:] == canvas.THEME.canvas).all()
