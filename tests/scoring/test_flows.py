"""Flow and midpoints without weights: what is known of still and of shifted pictures."""

import cv2
import numpy as np
import pytest

from tavid_jax.metrics import vbench
from tavid_jax.scoring import DISFlow, DISMidpoint, Flow, Midpoint, ScoringError


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    """A smooth random picture, larger than the frames that are cut from it."""
    noise = np.random.default_rng(0).uniform(0, 255, (160, 220, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.round(255 * smooth).astype(np.uint8)


def window(texture: np.ndarray, x: int, y: int = 20) -> np.ndarray:
    return texture[y : y + 120, x : x + 160]


def test_providers_keep_their_protocols():
    assert isinstance(DISFlow(), Flow) and DISFlow.name == "opencv-dis-medium"
    assert isinstance(DISMidpoint(), Midpoint) and DISMidpoint.name == "opencv-dis-midpoint"
    assert DISFlow().describe()["opencv"] == cv2.__version__


def test_flow_of_a_shift(texture):
    flow = DISFlow()(window(texture, 30), window(texture, 26))  # what was at x is at x + 4
    inner = flow[16:-16, 16:-16]
    np.testing.assert_allclose(np.median(inner, axis=(0, 1)), [4, 0], atol=0.2)
    assert np.abs(inner - [4, 0]).mean() < 0.3


def test_midpoint_of_equal_frames_is_the_frame(texture):
    frame = window(texture, 30)
    np.testing.assert_array_equal(DISMidpoint()(frame, frame), frame)


def test_midpoint_of_a_shift_is_half_of_it(texture):
    middle = DISMidpoint()(window(texture, 34), window(texture, 26))
    errors = {
        name: np.abs(middle.astype(float) - window(texture, x))[16:-16, 16:-16].mean()
        for name, x in (("half", 30), ("before", 34), ("after", 26))
    }
    mean = (window(texture, 34).astype(float) + window(texture, 26)) / 2
    blend = np.abs(mean - window(texture, 30))[16:-16, 16:-16].mean()
    assert errors["half"] < 0.2 * min(errors["before"], errors["after"])
    assert errors["half"] < 0.35 * blend


def test_smooth_motion_scores_above_jumps(texture):
    def score(places):
        frames = np.stack([window(texture, x) for x in places])
        middles = [
            DISMidpoint()(frames[t - 1], frames[t + 1]) for t in vbench.odd_frames(len(frames))
        ]
        return vbench.motion_smoothness(frames, np.stack(middles))

    still, smooth, jumping = score([30] * 7), score(range(20, 41, 3)), score([20, 32, 22, 34, 24])
    assert still == 1.0
    assert jumping < smooth - 0.01 < still


def test_frames_that_are_too_small_are_refused():
    with pytest.raises(ScoringError, match="12x40 are too small"):
        DISFlow()(np.zeros((40, 12, 3), np.uint8), np.zeros((40, 12, 3), np.uint8))
