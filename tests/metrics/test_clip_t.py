"""CLIP-T: cases by hand, masks, scale."""

import math

import numpy as np
import pytest

from tavid_jax.metrics.clip_t import clip_t, local_clip_t

# Two clips of two frames; the texts are (1, 0) and (3, 4).
FRAMES = np.array([[[2.0, 0.0], [3.0, 4.0]], [[3.0, 4.0], [0.0, -1.0]]], np.float32)
PROMPTS = np.array([[1.0, 0.0], [3.0, 4.0]], np.float32)


def test_by_hand():
    record = clip_t(FRAMES, PROMPTS, network="toy")
    # Cosines 1, 3/5; 1, -4/5.
    assert record["per_clip"] == pytest.approx([0.8, 0.1], abs=1e-12)
    assert record["clip_t"] == pytest.approx(0.45, abs=1e-12)
    assert record["n"] == 4 and record["settings"]["network"] == "toy"


def test_frames_that_do_not_count_have_no_influence():
    frames = FRAMES.copy()
    frames[1, 1] = np.nan
    valid = np.array([[True, True], [True, False]])
    record = clip_t(frames, PROMPTS, valid, network="toy")
    assert record["per_clip"] == pytest.approx([0.8, 1.0], abs=1e-12)
    assert record["clip_t"] == pytest.approx(2.6 / 3, abs=1e-12) and record["n"] == 3


def test_local_by_hand():
    """Two trajectories; the second is seen in the first frame of the first clip only."""
    crops = np.stack([FRAMES, np.full_like(FRAMES, 5.0)], axis=1)
    captions = np.stack([PROMPTS, np.array([[0.0, 2.0], [0.0, 0.0]], np.float32)], axis=1)
    seen = np.array([[[True, True], [True, False]], [[False, True], [False, False]]])
    record = local_clip_t(crops, captions, seen, network="toy", crop_rule="toy")
    assert record["per_clip"] == pytest.approx([(1.6 + math.sqrt(0.5)) / 3, -0.8], abs=1e-12)
    assert record["local_clip_t"] == pytest.approx((0.8 + math.sqrt(0.5)) / 4, abs=1e-12)
    assert record["n"] == 4 and record["settings"]["crop_rule"] == "toy"


def test_lengths_of_features_do_not_matter():
    rng = np.random.default_rng(0)
    frames, prompts = rng.standard_normal((3, 5, 8)), rng.standard_normal((3, 8))
    record = clip_t(frames, prompts, network="toy")
    scaled = clip_t(frames * rng.uniform(1, 9, (3, 5, 1)), 100 * prompts, network="toy")
    assert scaled["per_clip"] == pytest.approx(record["per_clip"], abs=1e-12)
    assert clip_t(prompts[:, None], prompts, network="toy")["clip_t"] == pytest.approx(1)


def test_nothing_and_zero_features_are_nan():
    nothing = np.zeros((2, 2), bool)
    record = clip_t(FRAMES, PROMPTS, nothing, network="toy")
    assert math.isnan(record["clip_t"]) and record["n"] == 0
    assert math.isnan(clip_t(0 * FRAMES, PROMPTS, network="toy")["clip_t"])


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"prompts has shape \(2, 3\), expected \(2, 2\)"):
        clip_t(FRAMES, np.zeros((2, 3), np.float32), network="toy")
    with pytest.raises(ValueError, match=r"captions has shape \(2, 2, 3\), expected \(2, 2, 2\)"):
        crops = np.stack([FRAMES, FRAMES], axis=1)
        seen = np.ones((2, 2, 2), bool)
        captions = np.zeros((2, 2, 3), np.float32)
        local_clip_t(crops, captions, seen, network="toy", crop_rule="toy")
