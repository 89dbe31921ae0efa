"""CogVideoX's timesteps and where its steps lead."""

import numpy as np
import pytest

from tavid_jax.diffusion.schedulers.trailing import trailing_levels, trailing_timesteps
from tavid_jax.diffusion.vprediction import zero_snr_alphas


def test_published_lists():
    fifty = trailing_timesteps(50)
    np.testing.assert_array_equal(fifty, np.arange(999, 0, -20))
    thirty = trailing_timesteps(30)
    assert [*thirty[:4], *thirty[-2:]] == [999, 966, 932, 899, 66, 32]


def test_every_number_of_steps_has_as_many_distinct_timesteps():
    for steps in range(1, 1001):
        timesteps = trailing_timesteps(steps)
        assert len(timesteps) == steps and timesteps[0] == 999 and timesteps[-1] >= 0
        assert np.all(np.diff(timesteps) < 0)


def test_where_steps_lead():
    table = zero_snr_alphas(1)
    published, following = trailing_levels(30), trailing_levels(30, previous="next")
    np.testing.assert_array_equal(published.signal, following.signal)
    np.testing.assert_array_equal(published.landing[:3], table[[966, 933, 899]])
    np.testing.assert_array_equal(following.landing[:3], table[[966, 932, 899]])
    np.testing.assert_array_equal(following.landing[:-1], following.signal[1:])
    assert published.landing[-1] == following.landing[-1] == 1
    # 1000 / 7 = 142.86: the last step as published goes from 142 to 0, which is not quite clean.
    assert trailing_levels(7).landing[-1] == table[0] < 1
    assert trailing_levels(7, previous="next").landing[-1] == 1


def test_both_rules_agree_where_the_steps_divide_1000():
    for steps in (n for n in range(1, 1001) if 1000 % n == 0):
        ours, other = trailing_levels(steps), trailing_levels(steps, previous="next")
        np.testing.assert_array_equal(ours.landing, other.landing)


def test_the_first_level_is_pure_noise_and_alphas_follow():
    fields = trailing_levels(50, snr_shift=3).fields({})
    assert fields["alphas"][0] == 0 and fields["sigmas"][0] == 1
    assert fields["alphas"][-1] == 1 and fields["sigmas"][-1] == 0
    np.testing.assert_allclose(fields["alphas"] ** 2 + fields["sigmas"] ** 2, 1, atol=1e-15)
    assert np.all(np.diff(fields["alphas"]) > 0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": 1001}, "steps=1001: a sampler takes 1 to 1000"),
        ({"steps": 10, "previous": "last"}, "previous='last': use one of published, next"),
        ({"steps": 10, "snr_shift": 0}, "snr_shift=0: must be positive"),
        ({"steps": 10, "snr_shift": float("nan")}, "snr_shift=nan"),
    ],
)
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        trailing_levels(**options)
