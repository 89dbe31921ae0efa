"""Samplers by name, for each family of backbones."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tavid_jax.diffusion.schedulers.ddim import ddim
from tavid_jax.diffusion.schedulers.dpm import dpm
from tavid_jax.diffusion.schedulers.euler import euler
from tavid_jax.diffusion.schedulers.sampler import Sampler
from tavid_jax.diffusion.schedulers.unipc import unipc

# What a family was trained to predict decides its samplers. The first is its publishers' default.
SAMPLERS: Mapping[str, Mapping[str, Callable[..., Sampler]]] = {
    "cogvideox": {"dpm": dpm, "ddim": ddim},
    "wan": {"unipc": unipc, "euler": euler},
}


def make_sampler(name: str, steps: int, *, family: str, **options: Any) -> Sampler:
    """A sampler of n steps.

    Args:
      name: "dpm" or "ddim" for "cogvideox" (v-prediction), "unipc" or "euler" for "wan" (flow).
      steps: n.
      family: of the backbone.
      **options: those of the function of that name, such as snr_shift, previous; shift, grid,
        sigmas.

    Raises:
      ValueError: unknown family, a scheduler that its backbones cannot use, an option that the
        scheduler does not have, or a value that the function refuses.
    """
    if family not in SAMPLERS:
        raise ValueError(f"no backbones {family!r}: use one of {', '.join(SAMPLERS)}")
    if name not in SAMPLERS[family]:
        known = ", ".join(SAMPLERS[family])
        raise ValueError(f"no scheduler {name!r} for {family}: it has {known}")
    make = SAMPLERS[family][name]
    allowed = [option for option in inspect.signature(make).parameters if option != "steps"]
    for option in options:
        if option not in allowed:
            known = ", ".join(allowed)
            raise ValueError(f"scheduler {name} has no option {option!r}: it has {known}")
    return make(steps, **options)
