"""Samplers by name."""

import pytest

from tavid_jax.diffusion.schedulers.ddim import ddim
from tavid_jax.diffusion.schedulers.dpm import dpm
from tavid_jax.diffusion.schedulers.euler import euler
from tavid_jax.diffusion.schedulers.registry import make_sampler
from tavid_jax.diffusion.schedulers.unipc import unipc


def test_names_and_options():
    assert make_sampler("ddim", 6, family="cogvideox") == ddim(6)
    made = make_sampler("dpm", 30, family="cogvideox", snr_shift=3, previous="next")
    assert made == dpm(30, snr_shift=3.0, previous="next")
    assert make_sampler("unipc", 6, family="wan", grid="diffusers") == unipc(6, grid="diffusers")
    assert make_sampler("euler", 2, family="wan", sigmas=[0.9, 0.2]) == euler(2, sigmas=[0.9, 0.2])


@pytest.mark.parametrize(
    ("name", "family", "options", "match"),
    [
        ("unipc", "cogvideox", {}, "no scheduler 'unipc' for cogvideox: it has dpm, ddim"),
        ("heun", "wan", {}, "no scheduler 'heun' for wan: it has unipc, euler"),
        ("ddim", "sora", {}, "no backbones 'sora': use one of cogvideox, wan"),
        ("ddim", "cogvideox", {"shift": 3.0}, "scheduler ddim has no option 'shift': it has snr_"),
        ("euler", "wan", {"eta": 0.0}, "no option 'eta': it has shift, grid, sigmas"),
        ("euler", "wan", {"grid": "wan"}, "no grid of sigmas 'wan': use one of plain, diffusers"),
    ],
)
def test_bad_input(name, family, options, match):
    with pytest.raises(ValueError, match=match):
        make_sampler(name, 6, family=family, **options)
