"""Which bucket a batch of prompts goes into, and what is put behind its features."""

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.text.lengths import bucket_length, cut, zero_padded


def masks(lengths, total: int) -> np.ndarray:
    return np.arange(total) < np.array(lengths)[:, None]


@pytest.mark.parametrize(
    ("lengths", "total", "want"),
    [((1,), 512, 64), ((64, 3), 512, 64), ((65,), 512, 128), ((3, 512), 512, 512)]
    + [((257,), 512, 512), ((200,), 226, 226), ((9,), 40, 40), ((), 512, 64)],
)
def test_the_smallest_bucket_that_holds_all(lengths, total, want):
    mask = masks(lengths, total) if lengths else np.zeros((0, total), bool)
    assert bucket_length(mask) == want


def test_trimming_keeps_real_tokens():
    mask = masks((3, 5), 12)
    ids = np.where(mask, 7, 0)
    short, seen = cut(ids, mask, buckets=(4, 6, 8))
    assert short.shape == seen.shape == (2, 6)
    np.testing.assert_array_equal(seen.sum(1), [3, 5])
    np.testing.assert_array_equal(short, ids[:, :6])


def test_padding_is_zero():
    features = jnp.full((2, 4, 3), jnp.nan).at[0, :2].set(1).at[1, :4].set(2)
    padded = np.asarray(zero_padded(features, masks((2, 4), 4), 6))
    assert padded.shape == (2, 6, 3)
    assert (padded[0, :2] == 1).all() and (padded[1, :4] == 2).all()
    assert padded.sum() == 2 * 3 + 4 * 3 * 2
    with pytest.raises(ValueError, match="4 features cannot be padded to 3"):
        zero_padded(features, masks((2, 4), 4), 3)
