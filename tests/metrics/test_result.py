"""Records are plain data that JSON can hold."""

import json

import numpy as np
import pytest

from tavid_jax.metrics import result


def test_ratio_of_nothing_is_nan():
    np.testing.assert_array_equal(result.ratio(np.array([3, 0]), np.array([2, 0])), [1.5, np.nan])


def test_masked_mean_ignores_what_is_outside():
    values, mask = (
        np.array([[1.0, np.nan], [np.inf, 2.0]]),
        np.array([[True, False], [False, True]]),
    )
    np.testing.assert_array_equal(result.masked_mean(values, mask, axis=1), [1.0, 2.0])


def test_mask_is_not_broadcast():
    with pytest.raises(ValueError, match=r"mask has shape \(1, 2\), expected \(2, 2\)"):
        result.masked_mean(np.ones((2, 2)), np.ones((1, 2), bool), axis=1)


def test_masked_mean_sums_in_float64():
    values = np.full(2**24 + 4, 1, np.float32)
    values[0] = 2.0**24
    expected = (2.0**24 + 2**24 + 3) / (2**24 + 4)
    assert result.masked_mean(values, np.ones(values.shape, bool), axis=0) == expected


def test_finite_mean():
    assert result.finite_mean(np.array([1.0, np.nan, 3.0])) == 2.0
    assert np.isnan(result.finite_mean(np.array([np.nan])))


def test_record_is_plain_and_strict_json():
    record = result.record(
        {"a": np.float32(1.5), "b": np.array([1.0, np.nan]), "c": np.bool_(True)},
        n=np.int64(7),
        grid_hw=(2, 3),
    )
    assert record["n"] == 7 and type(record["n"]) is int
    assert record["settings"]["grid_hw"] == [2, 3]
    assert "version" in record["settings"]
    text = json.dumps(result.for_json(record), allow_nan=False)
    assert json.loads(text)["b"] == [1.0, None]
    assert json.loads(text)["c"] is True
