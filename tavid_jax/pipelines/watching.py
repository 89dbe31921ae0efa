"""Looking on while a video is made: what attention sees before some of its steps are taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array

from tavid_jax.models.layers.ports import Prediction, Probe
from tavid_jax.pipelines.denoising import Denoiser


class Moment(NamedTuple):
    """A video that is being made, before one of its steps is taken.

    Attributes:
      index: of the step, from 0.
      evaluate: one more evaluation of the conditional branch, with a probe in it.
    """

    index: int
    evaluate: Callable[[Probe], Prediction]


@dataclasses.dataclass(frozen=True)
class Watch:
    """Who looks on; what is made stays the same.

    Attributes:
      steps: indices of the steps before which `see` is called.
      see: is given the moment.
    """

    steps: tuple[int, ...]
    see: Callable[[Moment], None]

    def show(
        self,
        denoiser: Denoiser,
        params: Any,
        state: Any,
        index: int,
        branch: dict[str, Array],
        given: Array,
    ) -> None:
        """Tells a moment; the arguments are those of `Denoiser.look`."""
        here = (params, state, index, branch, given)
        self.see(Moment(index, lambda probe: denoiser.look(*here, probe)))
