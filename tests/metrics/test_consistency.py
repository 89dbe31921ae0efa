"""Cosines of frames."""

import numpy as np
import pytest

from tavid_jax.metrics.consistency import frame_cosines


def test_by_hand():
    features = np.array([[2.0, 0], [0, 3.0], [-1, 0], [-1, -1]])
    found = frame_cosines(features)
    np.testing.assert_allclose(found.before, [0, 0, 1 / np.sqrt(2)], atol=1e-12)
    np.testing.assert_allclose(found.first, [0, -1, -1 / np.sqrt(2)], atol=1e-12)


def test_one_frame_is_refused():
    with pytest.raises(ValueError, match="the video has 1"):
        frame_cosines(np.ones((1, 4)))
