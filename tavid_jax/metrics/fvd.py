"""FVD (Unterthiner et al. 2018, arXiv:1812.01717) by the conventions of two widely used tools.

The Frechet distance between features of generated and of real videos, one of each video. Values of
different networks, conventions, numbers of videos or of frames cannot be compared.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from tavid_jax.metrics import result
from tavid_jax.metrics.frechet import frechet_distance

Convention = Literal["stylegan-v", "videogpt"]


class _Rule(NamedTuple):
    unbiased: bool  # covariances divide by n - 1, not by n
    eps: float = 0.0  # neither adds anything to the diagonal


_RULES = {"stylegan-v": _Rule(unbiased=False), "videogpt": _Rule(unbiased=True)}


def fvd(
    generated: Float[np.ndarray, "n D"],
    real: Float[np.ndarray, "m D"],
    *,
    convention: Convention = "stylegan-v",
    **settings: Any,
) -> dict[str, Any]:
    """FVD of two sets of videos from their features, in float64.

    Args:
      generated, real: one feature per video, e.g. the logits of `models.vision.i3d`.
      convention: how covariances are made: divided by n ("stylegan-v") or n - 1 ("videogpt").
      **settings: what else the value depends on, for the record: network, frames, size.

    Returns:
      Record with `fvd`, `n` generated and `real` real videos.

    Raises:
      ValueError: see `frechet_distance`.
    """
    rule = _RULES[convention]
    value = frechet_distance(generated, real, eps=rule.eps, unbiased=rule.unbiased)
    return result.record(
        {"fvd": value, "real": len(real)},
        n=len(generated),
        convention=convention,
        unbiased=rule.unbiased,
        eps=rule.eps,
        **settings,
    )
