"""Contact sheets: sizes, order, aspect."""

import numpy as np
import pytest

from tavid_jax.viz import canvas, sheets

GAP, HEADER = canvas.THEME.gap, canvas.THEME.header


def flat(value: int, size: tuple[int, int] = (20, 40)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def test_pictures_stand_in_reading_order():
    sheet = sheets.contact_sheet([flat(v) for v in (50, 100, 150)], columns=2, cell_height=20)
    assert sheet.shape == (2 * (20 + GAP) + GAP, 2 * (40 + GAP) + GAP, 3)
    centres = [(GAP + 10, GAP + 20), (GAP + 10, 2 * GAP + 60), (2 * GAP + 30, GAP + 20)]
    assert [sheet[at][0] for at in centres] == [50, 100, 150]
    assert tuple(sheet[2 * GAP + 30, 2 * GAP + 60]) == canvas.THEME.canvas  # the empty cell


def test_captions_stand_below():
    sheet = sheets.contact_sheet([flat(50)], ["a name"], cell_height=20)
    assert sheet.shape[0] == 20 + HEADER + 2 * GAP
    below = sheet[GAP + 20 : GAP + 20 + HEADER, GAP : GAP + 40]
    assert (below != np.array(canvas.THEME.canvas, np.uint8)).any()


def test_other_aspects_are_centred_not_stretched():
    sheet = sheets.contact_sheet(
        [flat(50), flat(60), flat(200, (40, 20))], columns=3, cell_height=20
    )
    cell = sheet[GAP : GAP + 20, GAP + 2 * (40 + GAP) :][:, :40]
    columns = np.flatnonzero((cell[..., 0] == 200).all(axis=0))
    assert columns.tolist() == list(range(15, 25))


def test_film_strip_takes_first_and_last():
    clip = np.stack([flat(v) for v in (10, 60, 110, 160, 210)])
    strip = sheets.film_strip(clip, 3, cell_height=20)
    row = strip[GAP + 10, :, 0]
    assert [row[GAP + 20 + k * (40 + GAP)] for k in range(3)] == [10, 110, 210]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="at least one picture"):
        sheets.contact_sheet([])
    with pytest.raises(ValueError, match="1 captions for 2 pictures"):
        sheets.contact_sheet([flat(1), flat(2)], ["a"])


def test_a_moving_sheet_plays_all_clips_at_once():
    clips = [np.stack([flat(v), flat(v + 1)]) for v in (50, 100, 150)]
    sheet = sheets.moving_sheet(clips, ["a", "b", "c"], columns=2, lines=2)
    block = len(canvas.caption_block(40, "a", lines=2))
    step = 20 + block + GAP
    assert sheet.shape == (2, 2 * step + GAP, 2 * (40 + GAP) + GAP, 3)
    places = [(GAP, GAP), (GAP, GAP + 40 + GAP), (GAP + step, GAP)]
    for (top, left), value in zip(places, (50, 100, 150), strict=True):
        assert (sheet[0, top : top + 20, left : left + 40] == value).all()
        assert (sheet[1, top : top + 20, left : left + 40] == value + 1).all()
        below = sheet[0, top + 20 : top + 20 + block, left : left + 40]
        assert (below != np.array(canvas.THEME.canvas, np.uint8)).any()


def test_a_dot_tells_clips_apart():
    clip, red = np.stack([flat(50)]), (255, 0, 0)
    sheet = sheets.moving_sheet([clip, clip], ["a", "b"], accents=[red, None])
    marked = (sheet[0] == red).all(-1)
    assert marked[:, : 40 + GAP].any() and not marked[:, 40 + GAP :].any()


def test_a_moving_sheet_of_unequal_clips():
    with pytest.raises(ValueError, match="all of one shape"):
        sheets.moving_sheet([np.stack([flat(1)]), np.stack([flat(1)] * 2)], ["a", "b"])
    with pytest.raises(ValueError, match="all of one shape"):
        sheets.moving_sheet([], [])
    with pytest.raises(ValueError, match="1 captions, 0 accents, 2 clips"):
        sheets.moving_sheet([np.stack([flat(1)])] * 2, ["a"])
