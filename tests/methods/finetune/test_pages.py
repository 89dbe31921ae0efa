"""The report's words, tables and pictures."""

from __future__ import annotations

import base64
import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tavid_jax.engine.report import Report
from tavid_jax.methods.finetune import judging, pages
from tavid_jax.methods.finetune.judging import Judged
from tavid_jax.viz import canvas, media


def measured(value: float, low: float = 0.0, high: float = 1.0, scenes: int = 200) -> dict:
    return {"value": value, "interval": [low, high], "scenes": scenes}


def plain(report: Report) -> str:
    """The page without its marks."""
    page = re.sub(r"<(script|style).*?</\1>", "", report.html(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def goals(*rows: tuple) -> list[dict]:
    names = ("group", "name", "goal", "value", "interval", "reached", "certain")
    return [dict(zip(names, row, strict=True), scenes=120) for row in rows]


def test_the_headline_says_what_is_not_reached():
    report = Report("a")
    pages.headline(
        report,
        goals(
            ("one", "colour", 0.95, 0.975, [0.951, 1.0], True, True),
            ("all", "motion", 0.8, 0.71, [0.64, 0.82], False, False),
            ("all", "balance", [0.4, 0.6], 0.5, [0.45, 0.55], True, True),
            ("all", "first_frame", [0.0, 8.0], 12.0, [11.0, 13.0], False, True),
        ),
        200,
    )
    words = plain(report)
    assert "2 of 4 goals are reached on 200 unseen scenes. Not reached: motion; error of" in words
    assert "97.5 %" in words and "[95.1, 100.0] · goal 95 %: reached (120 scenes)" in words
    assert "goal 80 %: not reached, but not beyond doubt" in words
    assert "goal 40 to 60 %: reached" in words
    assert "12.0 1/255" in words and "goal 0 to 8 1/255: not reached" in words


def test_the_headline_when_all_is_reached_and_without_goals():
    report = Report("a")
    pages.headline(report, goals(("one", "colour", 0.9, 1.0, [1.0, 1.0], True, True)), 8)
    assert "The goal is reached on 8 unseen scenes." in plain(report)
    nothing = Report("a")
    pages.headline(nothing, [], 8)
    assert "goal" not in plain(nothing)


def test_shares_stand_beside_those_of_true_clips_and_of_the_base():
    def model(colour: float) -> dict:
        attributes = dict.fromkeys(judging.ATTRIBUTES, measured(0.5, 0.4, 0.6))
        one = attributes | {"colour": measured(colour, 0.1, 0.9)}
        return {"one": one, "all": attributes}

    trial = {"title": "New captions", "scenes": 200, "captions": 90}
    trial |= {"sample": model(0.25), "base": model(0.125), "truth": model(1.0)}
    report = Report("a")
    pages.share_table(report, trial)
    words = plain(report)
    assert "New captions (200 scenes, 90 different captions)" in words
    assert "samples % the base alone % true clips: the judge %" in words
    ends = "[10.0, 90.0]"
    assert f"colour, one object 25.0 {ends} 12.5 {ends} 100.0 {ends}" in words
    assert "motion " + "50.0 [40.0, 60.0] " * 3 in words
    assert "two objects" not in words  # there are none


def test_touches():
    names = judging.MEASURED[judging.CONTACT]
    found = {name: measured(0.25, 0.2, 0.3) for name in names} | {"first_frame": measured(3.25)}
    still = found | {name: measured(float("nan"), scenes=0) for name in judging.CHOICES}
    report = Report("a")
    trial = {"title": "Scenes", "scenes": 8, "captions": 8}
    trial |= {"sample": {"all": found}, "still": {"all": still}}
    pages.touch_table(report, trial)
    words = plain(report)
    assert "a target touched 25.0 [20.0, 30.0] 25.0 [20.0, 30.0]" in words
    assert "of the touches: the left one 25.0 [20.0, 30.0] –" in words
    assert "error of the first frame, 1/255 3.2 [0.0, 1.0] 3.2 [0.0, 1.0]" in words


def test_the_change_against_the_base_in_words():
    change = {"difference": 0.75, "interval": [0.7, 0.8], "scenes": 200}
    trial = {"title": "New colour", "change": {"all": {"colour": change}}}
    report = Report("a")
    pages.comparison(report, {"test": trial}, ["colour"])
    assert (
        "New colour, colour: the fine-tuned model is better than the base alone by 75.0 points "
        "[70.0, 80.0]" in plain(report)
    )


def test_where_it_fails_and_whether_it_reads():
    report = Report("a")
    row = dict(colour=1.0, motion=0.25, shape=0.5, objects=8)
    pages.failure_tables(report, {"shape": {"hoop": row}})
    probe = dict(
        sigma=[0.9], right=[2.0], permuted=[3.0], difference=[1.0], interval=[[0.5, 1.5]], scenes=8
    )
    pages.probe_table(report, probe)
    words = plain(report)
    assert "By silhouette" in words and "hoop 8 100 25 50" in words
    assert "0.9 2.00 3.00 1.00 [0.50, 1.50] 1.50" in words


def test_curves_of_what_was_logged():
    records = [{"step": i, "loss": 1.0 / (i + 1)} for i in range(5)]
    records[4] |= {"validation/loss": 0.5}
    results = SimpleNamespace(
        seconds={"finetune": 12.0}, curves={"finetune": records, "encode": []}
    )
    report = Report("a")
    pages.training_curves(report, results)
    page = report.html()
    assert page.count("<svg") == 1 and ">validation/loss" in page and ">loss" in page
    assert "finetune 12" in plain(report)


# ---- pictures ------------------------------------------------------------------------------------


def test_small_videos_grow_by_whole_pixels_large_ones_shrink():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (3, 24, 32, 3), dtype=np.uint8)
    large = pages.at_height(small, 144)
    assert large.shape == (3, 144, 192, 3)
    np.testing.assert_array_equal(large[:, ::6, ::6], small)
    np.testing.assert_array_equal(large[:, 5::6, 5::6], small)
    assert pages.at_height(np.zeros((2, 480, 832, 3), np.uint8), 144).shape == (2, 144, 250, 3)


def test_verdicts_in_words():
    found = Judged(dict(colour=1.0, motion=0.0, shape=1.0, clean=1.0, all=0.0))
    assert pages.verdict_words(found) == "✓ colour ✗ motion ✓ silhouette ✓ nothing else"
    assert not pages.is_right(found)
    touched = Judged(dict(touched=1.0, target=0.0, lookalike=1.0, none=0.0))
    assert pages.verdict_words(touched) == "✓ its look-alike touched" and pages.is_right(touched)
    nothing = Judged(dict(touched=0.0, target=0.0, lookalike=0.0, none=1.0))
    assert pages.verdict_words(nothing) == "✗ nothing touched" and not pages.is_right(nothing)


def test_films_play_with_caption_and_provenance():
    video = np.zeros((9, 24, 24, 3), np.uint8)
    video[4:, 10:14] = 255
    report, settings = Report("a"), SimpleNamespace(height=144)
    films = [{"sample": video, "truth": video}]
    pages.show(report, films, ["a white beam"], settings, 8.0, {"config": "abc"})
    page = report.html()
    data = base64.b64decode(re.search(r'src="data:image/webp;base64,([^"]+)"', page)[1])
    film = Image.open(io.BytesIO(data))
    assert film.size[0] == 2 * 144 + 3 * canvas.THEME.gap and film.n_frames > 1
    assert media.read_provenance(data) == {"config": "abc", "caption": "a white beam"}
    assert "a white beam" in plain(report)


@pytest.mark.parametrize("marks", [(), (True, False)])
def test_a_sheet_of_many(marks: tuple):
    video = np.full((4, 24, 24, 3), 9, np.uint8)
    sheet = pages.sheet([video, video], ["a", "b"], marks, columns=2)
    assert sheet.shape[0] == 4 and sheet.shape[2] == 2 * 144 + 3 * canvas.THEME.gap
    right, wrong = ((sheet[0] == c).all(-1) for c in (pages.RIGHT_DOT, pages.WRONG_DOT))
    half = sheet.shape[2] // 2
    assert right[:, :half].any() == wrong[:, half:].any() == bool(marks)
    assert not right[:, half:].any() and not wrong[:, :half].any()
