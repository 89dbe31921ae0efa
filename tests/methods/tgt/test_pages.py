"""The report: claims whichever way they fall, tables with what does not apply, pictures."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from configs.tgt import get_config
from tavid_jax.data.synthetic import located_judging as judging
from tavid_jax.engine.report import Report
from tavid_jax.methods.tgt import films, pages
from tavid_jax.methods.tgt.evaluation import Row, Trial
from tavid_jax.tracks.neighbourhoods import Rule, neighbourhoods, owner_map
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz import panels
from tests.methods.tgt.small import OBJECTS, scene

RESULTS = SimpleNamespace(provenance={"config": "abc"})


@pytest.fixture(scope="module")
def clips() -> list:
    return [scene(i) for i in range(3)]


def row(title: str, clips: list, goals: list, videos: list, seeds: int = 1, **options) -> Row:
    judged = [judging.judge(v, g) for v, g in zip(videos, goals, strict=True)]
    values = judging.values_of(judged)
    return Row(title, title, ("stage",) * seeds, options, [values] * seeds, judged, videos)


def trial_of(clips: list, seeds: int = 1, hidden: bool = False) -> Trial:
    """ "good" shows the true clips, "bad" their ends first, "gone" nothing at all."""
    targets = [OBJECTS.known(clip) for clip in clips]
    if hidden:
        never = np.zeros_like(targets[0].visibility)
        targets = [one.replace(visibility=never) for one in targets]
    goals = [judging.goal_of(clip, aim) for clip, aim in zip(clips, targets, strict=True)]
    shown = {
        pages.ORACLE: [clip.video for clip in clips],
        "good": [clip.video for clip in clips],
        "bad": [clip.video[::-1] for clip in clips],
        "gone": [np.full_like(clip.video, 60) for clip in clips],
    }
    strength = {"good": 0.5, "bad": 1.0, "gone": 0.0}
    rows = {
        name: row(f"the {name}", clips, goals, videos, seeds, strength=strength.get(name))
        for name, videos in shown.items()
    }
    return Trial(clips, targets, goals, rows)


def config_of(main: str = "good", **table):
    config = get_config("demo")
    config.evaluate.resamples = 100
    config.report.update(scenes=2, failures=1, height=48)
    order = ("good", "bad", "gone")
    config.evaluate.tables = dict(one=dict(title="A table", order=order, main=main) | table)
    return config


def plain(report: Report) -> str:
    """The page without its marks."""
    page = re.sub(r"<(script|style).*?</\1>", "", report.html(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_numbers_claims_and_pictures(clips: list):
    report, trial = Report("a"), trial_of(clips)
    metrics = pages.trial_page(config_of(against="gone"), trial, RESULTS, report)
    assert (metrics["scenes"], metrics["entities"]) == (3, 6)
    assert set(metrics["variants"]) == {"oracle", "good", "bad", "gone"}
    table = metrics["tables"]["one"]
    assert table["main"] == "good" and set(table["claims"]) == {"bad", "gone"}
    epe = {name: v["measured"]["epe"]["value"] for name, v in metrics["variants"].items()}
    assert epe["good"] == epe["oracle"] < epe["bad"]
    for name, found in table["claims"].items():
        assert set(found) == set(judging.VALUES)
        assert found["epe"]["difference"] == pytest.approx(epe["good"] - epe[name])
    words = plain(report)
    assert re.search(r"the good: EPE is better than the bad by \d+\.\d\d px", words)
    assert "the good: missing is better than the gone by 100.0 points" in words
    assert "the good: missing" in words and "the bad by 100.0 points" not in words
    assert "3 scenes with 6 entities" in words and "px of a 24x24 frame" in words
    assert "EPE by seed" not in words
    # Two scenes, the worst one.
    assert report.html().count("image/webp") == 3 and "Worst scenes" in words


def test_a_claim_that_falls_the_other_way(clips: list):
    report = Report("a")
    metrics = pages.trial_page(config_of(main="bad"), trial_of(clips), RESULTS, report)
    assert metrics["tables"]["one"]["claims"]["good"]["epe"]["difference"] > 0
    assert re.search(r"the bad: EPE is worse than the good by \d+\.\d\d px", plain(report))


def test_several_seeds_and_a_sweep(clips: list):
    report, trial = Report("a"), trial_of(clips[:1], seeds=2)
    swept = dict(over="strength", over_label="lambda (here)")
    pages.trial_page(config_of(**swept), trial, RESULTS, report)
    page, words = report.html(), plain(report)
    assert page.count("<svg") == 1 and "lambda (here)" in page and ">EPE, px" in page
    assert "EPE by seed" in words


def test_what_does_not_apply_has_a_dash_and_no_claim(clips: list):
    report, trial = Report("a"), trial_of(clips[:2], hidden=True)
    metrics = pages.trial_page(config_of(against="gone"), trial, RESULTS, report)
    for variant in metrics["variants"].values():
        assert variant["measured"]["epe"]["scenes"] == 0
    words = plain(report)
    assert "better than" not in words and "worse than" not in words and "–" in words
    assert "no target is visible" in words and "Worst scenes" not in words


def test_samples_without_a_judge(clips: list):
    report, targets = Report("a"), [OBJECTS.known(clip) for clip in clips]
    nothing = targets[0].take(np.zeros(2, bool))
    aims = [targets[0], nothing]
    videos = [clip.video for clip in clips[:2]]
    pages.samples_page(config_of(), "Clips", clips[:2], aims, videos, report)
    words = plain(report)
    assert report.html().count("image/webp") == 2 and "EPE" not in words
    first, second = clips[0].local_captions
    assert f'{clips[0].caption} — "{first}", "{second}"'.replace('"', "&quot;") in words or (
        f'"{first}", "{second}"' in words
    )
    assert "no trajectory" in words


# ---- films ---------------------------------------------------------------------------------------


def test_trails_lie_where_trajectories_are_seen():
    video = np.full((5, 24, 24, 3), 90, np.uint8)
    tracks = np.stack([np.linspace(4, 18, 5), np.full(5, 12.0)], -1)[None].astype(np.float32)
    seen = np.array([[True, True, False, True, True]])
    aim = Trajectories(tracks, seen, (24, 24), texts=("a cat",))
    drawn = films.with_paths(video, aim, 96)
    assert drawn.shape == (5, 96, 96, 3)
    inked = (np.abs(drawn.astype(int) - 90).max(-1) > 40)[:, 44:56]
    at = [int(4 * x) + 2 for x in np.linspace(4, 18, 5)]
    assert inked[0][:, at[0]].any() and not inked[0][:, at[4]].any()
    assert inked[4][:, at[4]].any()


def test_owned_tokens_take_the_colour_of_their_trajectory():
    """The stronger the nearer; all others stay as they are."""
    tracks = np.repeat(np.float32([[[5, 5]], [[20, 20]]]), 9, axis=1)
    seen = np.ones((2, 9), bool)
    seen[1, 1:5] = False  # not in the second latent frame
    pairs = neighbourhoods(tracks, seen, (24, 24), (3, 6, 6), Rule(radius=1.0))
    owner, gauss = (x.reshape(3, 6, 6) for x in owner_map(pairs, 108))
    video = np.full((9, 24, 24, 3), 50, np.uint8)
    named = Trajectories(tracks, seen, (24, 24), texts=("a red disc", "a teal disc"))
    ink = films.colours(named)
    drawn = films.owners(video, owner, gauss, ink, 48).astype(int)
    assert drawn.shape == (9, 48, 48, 3)
    changed = (drawn != 50).any(-1)
    np.testing.assert_array_equal(changed[0], np.kron(owner[0] > 0, np.ones((8, 8))) > 0)
    assert changed[0, 40:, 40:].any() and not changed[1:5, 24:, 24:].any()
    ink = ink.astype(int)
    middle, beside = drawn[0, 12, 12], drawn[0, 12, 20]  # the point's own token, one beside it
    share = [(one - 50) / (ink[0] - 50) for one in (middle, beside)]
    np.testing.assert_allclose(share[0], 0.75, atol=0.02)
    np.testing.assert_allclose(share[1], 0.15 + 0.6 * np.exp(-0.5), atol=0.02)


def test_panels_are_put_into_even_rows(clips: list):
    clip, aim = clips[0], OBJECTS.known(clips[0])
    shown = films.sample_panels(clip.video, aim, [(f"v{i}", clip.video) for i in range(7)], 48)
    assert len(shown) == 8
    eight, four = panels.strip(shown), panels.strip(shown[:4])
    assert eight.shape[2] == four.shape[2] and eight.shape[1] > 1.8 * four.shape[1]
    assert panels.counters(clip.video)[-1] == "9 / 9"


def test_trajectories_of_one_text_have_one_colour():
    tracks, seen = np.zeros((8, 1, 2), np.float32), np.ones((8, 1), bool)
    plain = films.colours(Trajectories(tracks, seen, (8, 8)))
    assert len(np.unique(plain[:6], axis=0)) == 6
    np.testing.assert_array_equal(plain[6:], plain[:2])
    texts = ("a", "b", "a", "c", "b", "a", "a", "d")
    named = films.colours(Trajectories(tracks, seen, (8, 8), texts=texts))
    np.testing.assert_array_equal(named[[0, 1, 2, 7]], plain[[0, 1, 0, 3]])
