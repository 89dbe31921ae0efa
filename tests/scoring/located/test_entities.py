"""Finding entities: boxes given out among texts, colours, looking once or in every frame."""

import numpy as np
import pytest
from located_scene import HW, SIDE, STARTS, STEP, TEXTS, TRACKS, video

from tavid_jax.data.tracker import DISTracker
from tavid_jax.scoring.located import ColourEntities, Detector, OwlViTEntities, locate
from tavid_jax.scoring.located.entities import Seen, given_out
from tavid_jax.scoring.owlvit import OwlViTBoxes
from tavid_jax.scoring.providers import ScoringError


def test_a_box_belongs_to_one_text():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30], [50, 0, 60, 9]], float)
    scores = np.array([[0.9, 0.8], [0.7, 0.85], [0.2, 0.3], [0.05, 0.01]])
    out = given_out(boxes, scores, 0.1, 0.5)
    # The second text would like the first's box, or the one upon it.
    np.testing.assert_array_equal(out, boxes[[0, 2]])
    none = given_out(boxes, scores, 0.5, 0.5)
    np.testing.assert_array_equal(none, [boxes[0], [np.nan] * 4])


def test_owlvit_gives_middles_of_boxes(checkpoints):
    detector = OwlViTEntities(OwlViTBoxes(checkpoints / "owlvit"), threshold=0)
    assert isinstance(detector, Detector) and detector.look == "first"
    seen = detector(video(("red", "teal"))[0], TEXTS)
    assert np.isfinite(seen.boxes).all()
    x0, y0, x1, y1 = seen.boxes.T
    assert ((x0 >= 0) & (x1 <= HW[1]) & (y0 >= 0) & (y1 <= HW[0])).all()
    np.testing.assert_allclose(seen.places, np.stack([x0 + x1, y0 + y1], -1) / 2 - 0.5)
    assert detector.describe()["weights"] and detector.describe()["threshold"] == 0
    alone = detector(video(("red", "teal"))[0], TEXTS[:1])  # filled up to the same shape
    np.testing.assert_allclose(alone.boxes[0], seen.boxes[0], atol=1e-3)


def test_colours_are_found_in_every_frame():
    frames = video(("red", "teal"))
    found = locate(frames, TEXTS, np.zeros(2, int), HW, ColourEntities(), DISTracker())
    assert found.detected.all()
    np.testing.assert_allclose(found.tracks, TRACKS, atol=0.6)
    with pytest.raises(ScoringError, match="'a cat' names no colour"):
        ColourEntities()(frames[0], ["a cat"])


class Left:
    """Finds the first text at a known place of frame 1, the second nowhere."""

    name, look = "left", "first"

    def __init__(self):
        self.asked = []

    def describe(self):
        return {"name": self.name}

    def __call__(self, frame, texts):
        self.asked.append(frame)
        return Seen(np.array([TRACKS[0, 1], [np.nan] * 2]), np.full((2, 4), np.nan))


def test_found_once_and_followed():
    rng = np.random.default_rng(0)
    frames = video(("red", "teal"))
    texture = rng.integers(0, 80, (SIDE, SIDE, 3), dtype=np.uint8)
    for t, frame in enumerate(frames):
        x, y = STARTS[0] + t * STEP[0] - SIDE // 2
        frame[y : y + SIDE, x : x + SIDE] += texture
    detector, said = Left(), []
    found = locate(
        frames, TEXTS, np.array([1, 0]), HW, detector, DISTracker(),
        progress=lambda *at: said.append(at),
    )  # fmt: skip
    assert said == [(1, 2), (2, 2)] and len(detector.asked) == 2  # frames 0 and 1
    assert found.detected.tolist() == [True, False] and np.isnan(found.tracks[1]).all()
    np.testing.assert_allclose(found.tracks[0, 1:], TRACKS[0, 1:], atol=1.5)
