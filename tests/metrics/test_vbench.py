"""VBench aggregations: stored values of the definitions and edge cases."""

import numpy as np
import pytest

from tavid_jax.metrics import vbench


@pytest.fixture
def stored(goldens):
    return goldens("track_and_vbench_aggregation")


@pytest.mark.parametrize(("key", "name"), [("feat", ""), ("feat_shift", "_shift")])
def test_consistency(stored, key, name):
    scores = vbench.consistency(stored[key])
    assert scores.shape == (6,)
    assert scores.mean() == pytest.approx(float(stored[f"vbench_consistency{name}"]), rel=1e-9)


def test_opposite_frames_have_no_consistency():
    assert vbench.consistency(np.array([[1.0, 0.0], [-1.0, 0.0]])).tolist() == [0.0]
    with pytest.raises(ValueError, match="the video has 1"):
        vbench.consistency(np.ones((1, 4)))


def test_dynamic_degree(stored):
    degree = vbench.dynamic_degree(stored["flows"])
    # The stored magnitudes were rounded to float32 before they were averaged.
    np.testing.assert_allclose(degree.scores, stored["dynamic_scores"], rtol=1e-7)
    assert degree.threshold == float(stored["dynamic_thr"])
    assert degree.needed == int(stored["dynamic_count_needed"])
    assert degree.dynamic == bool(stored["dynamic_flag"])


def test_still_video_is_not_dynamic():
    assert not vbench.dynamic_degree(np.zeros((6, 32, 48, 2), np.float32)).dynamic


def test_motion_smoothness(stored):
    score = vbench.motion_smoothness(stored["frames"], stored["interp"])
    assert score == pytest.approx(float(stored["motion_smoothness"]), rel=1e-9)


@pytest.mark.parametrize(("num_frames", "midpoints"), [(3, 1), (4, 1), (7, 3), (8, 3)])
def test_every_midpoint_meets_its_frame(num_frames, midpoints):
    frames = np.arange(num_frames, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3))
    frames = frames.astype(np.uint8)
    odd = frames[1::2][:midpoints]
    assert vbench.motion_smoothness(frames, odd) == 1.0
    with pytest.raises(ValueError, match=f"has {midpoints} odd frames"):
        vbench.motion_smoothness(frames, frames)


def test_pieces_are_the_whole(stored):
    """What is summed flow by flow and frame by frame is the same number."""
    scores = np.array([vbench.flow_size(flow) for flow in stored["flows"]])
    pieces = vbench.is_dynamic(scores, stored["flows"].shape[1:3])
    whole = vbench.dynamic_degree(stored["flows"])
    np.testing.assert_array_equal(pieces.scores, whole.scores)
    assert pieces[::2] == whole[::2] and pieces.needed == whole.needed
    frames, middles = stored["frames"], stored["interp"]
    odd = vbench.odd_frames(len(frames))
    errors = [vbench.midpoint_error(frames[t], m) for t, m in zip(odd, middles, strict=True)]
    assert vbench.smoothness(np.array(errors)) == vbench.motion_smoothness(frames, middles)
