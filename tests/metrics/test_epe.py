"""EPE and VEPE: values of the public script, options, and what is left out."""

import math

import numpy as np
import pytest

from tavid_jax.metrics.epe import epe


def test_waves_equal_the_public_script(waves):
    prediction, truth, seen, _ = waves
    assert epe(prediction, truth, seen)["epe"] == pytest.approx(0.43295383167641505, rel=1e-6)
    assert epe(prediction, truth, None)["epe"] == pytest.approx(0.43296156952976617, rel=1e-6)


def test_vepe_golden(goldens):
    file = goldens("vepe")
    prediction, truth, seen = (
        np.swapaxes(file[key], 1, 2) for key in ("pred_tracks", "gt_tracks", "visibility")
    )
    record = epe(prediction, truth, seen)
    assert record["epe"] == pytest.approx(float(file["vepe_dataset"]), rel=1e-5)
    np.testing.assert_allclose(record["per_video"], file["vepe_per_video"], rtol=1e-5)


def test_stored_values(goldens):
    file = goldens("track_and_vbench_aggregation")
    prediction, truth, seen = file["pred"][None], file["gt"][None], file["vis"][None]
    assert epe(prediction, truth, None)["epe"] == pytest.approx(file["epe_all"], rel=1e-9)
    assert epe(prediction, truth, seen)["epe"] == pytest.approx(file["epe_visible"], rel=1e-9)
    skipped = epe(prediction, truth, seen, skip_first=True)["epe"]
    assert skipped == pytest.approx(file["epe_visible_skip0"], rel=1e-9)


def pair():
    truth = np.zeros((2, 1, 3, 2), np.float32)
    prediction = truth.copy()
    prediction[0, 0, :, 0] = [3, 5, 7]
    prediction[1, 0, :, 1] = [1, 1, 4]
    return prediction, truth


def test_micro_average_weights_samples_not_videos():
    prediction, truth = pair()
    seen = np.array([[[1, 1, 1]], [[0, 0, 1]]], bool)
    record = epe(prediction, truth, seen)
    assert record["epe"] == pytest.approx((3 + 5 + 7 + 4) / 4)
    assert record["per_video"] == [5.0, 4.0]
    assert record["n"] == 4


def test_frames_can_be_left_out():
    prediction, truth = pair()
    assert epe(prediction, truth, None, skip_first=True)["per_video"] == [6.0, 2.5]
    assert epe(prediction, truth, None, num_frames=2)["per_video"] == [4.0, 1.0]


def test_what_is_not_finite_is_dropped_and_counted():
    prediction, truth = pair()
    prediction[0, 0, 0] = np.nan
    record = epe(prediction, truth, None)
    assert record["dropped"] == 1 and record["n"] == 5
    assert record["per_video"][0] == 6.0


def test_nothing_visible_is_nan():
    prediction, truth = pair()
    seen = np.zeros((2, 1, 3), bool)
    seen[0] = True
    assert math.isnan(epe(prediction, truth, seen)["per_video"][1])
    assert math.isnan(epe(prediction, truth, np.zeros_like(seen))["epe"])
