"""Grids of sigmas: published numbers, diffusers', and what is refused."""

import numpy as np
import pytest

from tavid_jax.diffusion.schedulers import sigmas
from tavid_jax.diffusion.schedulers.euler import euler
from tavid_jax.diffusion.schedulers.unipc import unipc


@pytest.mark.parametrize(
    ("sampler", "expected", "timesteps"),
    [
        (
            unipc(6, shift=3),
            [0.99966645, 0.93714821, 0.85677528, 0.74962479, 0.59963983, 0.37471870, 0],
            [999, 937, 856, 749, 599, 374],
        ),
        (
            unipc(6, shift=3, grid="diffusers"),
            [0.99999899, 0.93757033, 0.85732651, 0.75037479, 0.60071945, 0.37640449, 0],
            [999, 937, 857, 750, 600, 376],
        ),
        (
            euler(6, shift=3, grid="diffusers"),
            [1, 0.92334253, 0.81892335, 0.66832668, 0.43222508, 0.00892857, 0],
            [1000, 923.34253, 818.92335, 668.32668, 432.22508, 8.92857],
        ),
        (
            euler(6, shift=5, grid="diffusers"),
            [1, 0.95266300, 0.88321251, 0.77143073, 0.56164985, 0.02441407, 0],
            [1000, 952.663, 883.21251, 771.43073, 561.64985, 24.41407],
        ),
        (euler(4, shift=1), [1, 0.75, 0.5, 0.25, 0], [1000, 750, 500, 250]),
        (euler(2, shift=3), [1, 0.75, 0], [1000, 750]),
    ],
)
def test_published_numbers(sampler, expected, timesteps):
    np.testing.assert_allclose(sampler.sigmas, expected, atol=1e-8)
    np.testing.assert_allclose(sampler.timesteps, timesteps, atol=1e-5)
    np.testing.assert_array_equal(sampler.alphas, 1 - sampler.sigmas)


def test_wan_at_fifty_steps():
    timesteps = unipc(50, shift=5).timesteps
    assert list(timesteps[:5]) == [999, 995, 991, 987, 982]
    assert list(timesteps[-4:]) == [302, 241, 172, 92]
    # Steps of the high-noise expert of the 14B pair.
    assert (timesteps >= 875).sum() == 21


@pytest.mark.parity
@pytest.mark.parametrize("shift", [1.0, 1.5, 3.0, 5.0, 7.3, 12.0, 16.0])
def test_diffusers_grids_to_the_last_bit(shift):
    pytest.importorskip("diffusers")
    from tests.diffusion.schedulers import peers

    for steps in (1, 2, 3, 6, 10, 33, 50, 101):
        for make, peer in ((unipc, peers.unipc_peer), (euler, peers.euler_peer)):
            ours, theirs = make(steps, shift=shift, grid="diffusers"), peer(steps, shift)
            np.testing.assert_array_equal(ours.sigmas, theirs.sigmas.double().numpy())
            np.testing.assert_array_equal(ours.timesteps, theirs.timesteps.double().numpy())


@pytest.mark.parametrize(
    "given", [[1.0, 0.6, 0.25], (1.0, 0.6, 0.25, 0.0), np.array([1, 0.6, 0.25])]
)
def test_sigmas_of_ones_own(given):
    for make in (unipc, euler):
        sampler = make(3, sigmas=given)
        np.testing.assert_array_equal(sampler.sigmas, [1, 0.6, 0.25, 0])
        np.testing.assert_array_equal(sampler.timesteps, [1000, 600, 250])
    assert unipc(1, sigmas=[0.9378]).timesteps == [937]
    np.testing.assert_allclose(euler(1, sigmas=[0.9378]).timesteps, 937.8)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([0.9, 0.5, -0.1], r"sigmas\[2\] = -0.1: noise levels lie within \[0, 1\]"),
        ([1.2, 0.5, 0.1], r"sigmas\[0\] = 1.2: noise levels lie within"),
        ([0.9, float("nan"), 0.1], r"sigmas\[1\] = nan: noise levels lie within"),
        ([0.9, 0.95, 0.1], r"sigmas\[1\] = 0.95 is not below sigmas\[0\] = 0.9: levels must dec"),
        ([0.9, 0.5, 0.5], r"sigmas\[2\] = 0.5 is not below sigmas\[1\] = 0.5"),
        ([0.9, 0.0, 0.0], r"sigmas\[2\] = 0.0 is not below"),
        ([0.0], r"sigmas\[0\] = 0.0: the first level must be above 0"),
        ([], r"must be a list of levels, got shape \(0,\)"),
        ([[0.9, 0.1]], r"must be a list of levels, got shape \(1, 2\)"),
        ([0.9, 0.1], "steps=3 but sigmas has 2 levels above 0"),
    ],
)
@pytest.mark.parametrize("make", [unipc, euler])
def test_bad_sigmas(make, given, match):
    with pytest.raises(ValueError, match=match):
        make(3, sigmas=np.array(given))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"grid": "karras"}, "no grid of sigmas 'karras': use one of"),
        ({"shift": 0}, "shift=0: must be positive"),
        ({"shift": -1.0}, "shift=-1.0: must be positive"),
        ({"shift": float("inf")}, "shift=inf"),
        ({"sigmas": [0.9, 0.5, 0.1], "shift": 3.0}, "leave out grid and shift, or sigmas"),
        ({"sigmas": [0.9, 0.5, 0.1], "grid": "diffusers"}, "leave out grid and shift, or sigmas"),
    ],
)
@pytest.mark.parametrize("make", [unipc, euler])
def test_bad_options(make, options, match):
    with pytest.raises(ValueError, match=match):
        make(3, **options)


def test_a_shift_so_large_that_float32_cannot_tell_levels_apart():
    with pytest.raises(ValueError, match="is not below"):
        unipc(50, shift=1e9)


def test_a_shift_keeps_the_ends():
    even = np.linspace(0, 1, 11)
    np.testing.assert_allclose(sigmas.shifted(even, 1), even)
    moved = sigmas.shifted(even, 4.0)
    assert moved[0] == 0 and moved[-1] == 1 and np.all(moved[1:-1] > even[1:-1])
