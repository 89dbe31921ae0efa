"""Guidance: how predictions with and without conditions are combined, and how strongly per step.

Scales are arrays of one value per step, made on the host in float64, because one published rule
takes the cosine of arguments in the millions.
"""

import numpy as np
from jaxtyping import Array, Bool, Float

from tavid_jax.diffusion.schedulers.sampler import at_least_float32

Scale = Float[Array, ""] | float | int

# What the model is asked for in each mode of `dual_cfg`, in the batch's order. "none": neither
# prompt; "glob": the global prompt; "loc": the local texts; "both".
BRANCHES = {
    "literal": ("none", "glob", "loc", "both"),
    "semantic": ("none", "glob", "loc", "both"),
    "global": ("none", "glob"),
    "local": ("none", "loc"),
    "combined": ("none", "both"),
    "global_given": ("loc", "both"),
    "local_given": ("glob", "both"),
}
# Modes of two branches that the scale of the local texts weighs; the others take the prompt's.
BY_LOCAL = ("local", "local_given")


def cfg(
    without: Float[Array, "B *x"], given: Float[Array, "B *x"], scale: Scale
) -> Float[Array, "B *x"]:
    """Classifier-free guidance (arXiv:2207.12598): without + scale (given - without), float32.

    Published batches are ordered [without, given].
    """
    without, given = at_least_float32(without), at_least_float32(given)
    return without + scale * (given - without)


def dual_cfg(
    branches: Float[Array, "N B *x"], s_glob: Scale, s_loc: Scale, mode: str = "literal"
) -> Float[Array, "B *x"]:
    """TGT's guidance by a global prompt and local texts, float32.

      literal   none + s_glob (both - glob) + s_loc (both - loc)
      semantic  none + s_glob (both - loc) + s_loc (both - glob)
      global    none + s_glob (glob - none)
      local     none + s_loc (loc - none)
      combined  none + s_glob (both - none)
      global_given  loc + s_glob (both - loc)
      local_given   glob + s_loc (both - glob)

    "global" and "local" leave the other condition out; the two "given" modes hold it in both
    branches, as the paper's rows of guidance by one condition "with trajectories" may be read.

    "literal" is the equation as printed. There s_glob scales what the *local* texts add; the text
    around it says that s_glob is for the global prompt, which is "semantic". Where the conditions'
    effects add up, both are ordinary guidance by all conditions as soon as the scales are equal.

    Args:
      branches: predictions in the order of BRANCHES[mode]. Four ways in one batch of 4 B: reshape
        it to (4, B, ...).
      s_glob, s_loc: 5 and 4 in the paper.
      mode: one of BRANCHES.

    Raises:
      ValueError: unknown mode, or another number of branches than it has.
    """
    if mode not in BRANCHES:
        raise ValueError(f"no dual guidance {mode!r}: use one of {', '.join(BRANCHES)}")
    names = BRANCHES[mode]
    if len(branches) != len(names):
        raise ValueError(f"{len(branches)} branches: {mode} takes {len(names)}, {', '.join(names)}")
    if len(names) == 2:
        return cfg(*branches, s_loc if mode in BY_LOCAL else s_glob)
    none, glob, loc, both = at_least_float32(branches)
    if mode == "literal":
        return none + s_glob * (both - glob) + s_loc * (both - loc)
    return none + s_glob * (both - loc) + s_loc * (both - glob)


def constant(scale: float | int, steps: int) -> Float[np.ndarray, " n"]:
    """The same scale in every step; 1 is no guidance."""
    return np.full(steps, scale, np.float64)


def dynamic_cfg(
    scale: float | int, timesteps: Float[np.ndarray, " n"], by: str = "timestep"
) -> Float[np.ndarray, " n"]:
    """CogVideoX's dynamic guidance: 1 + scale (1 - cos(pi ((n - t) / n)^5)) / 2.

    The published pipeline puts the raw timestep (999 ... 19) where the count of steps done was
    meant, so that the scale jumps about within [1, 1 + scale]. Its authors keep it.

    Args:
      scale: largest addition, 6 as published.
      timesteps: `Sampler.timesteps`.
      by: "timestep": as published; "index": t counts the steps, so the scale falls smoothly from
        1 + scale to 1.

    Raises:
      ValueError: unknown variant.
    """
    steps = len(timesteps)
    if by not in ("timestep", "index"):
        raise ValueError(f"dynamic guidance by {by!r}: use timestep or index")
    t = np.asarray(timesteps, np.float64) if by == "timestep" else np.arange(steps)
    return 1 + scale * (1 - np.cos(np.pi * ((steps - t) / steps) ** 5)) / 2


def within(
    scales: Float[np.ndarray, " n"],
    timesteps: Float[np.ndarray, " n"],
    low: float | int,
    high: float | int,
) -> Float[np.ndarray, " n"]:
    """Guidance in an interval of noise levels only (arXiv:2404.07724), 1 elsewhere.

    Args:
      scales: of all steps.
      timesteps: `Sampler.timesteps`.
      low, high: ends, both included, as fractions of the range of timesteps: t / 1000, where 1 is
        noise and 0 is data. For flow matching that is sigma.

    Raises:
      ValueError: unless 0 <= low <= high <= 1.
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"guidance interval [{low}, {high}]: needs 0 <= low <= high <= 1")
    levels = np.asarray(timesteps) / 1000
    return np.where((low <= levels) & (levels <= high), scales, 1.0)


def dual_scales(
    s_glob: Float[np.ndarray, " n"],
    s_loc: Float[np.ndarray, " n"],
    timesteps: Float[np.ndarray, " n"],
    guided: tuple[float | int, float | int] = (0.0, 1.0),
    mode: str = "literal",
) -> Float[np.ndarray, "n 2"]:
    """Both scales of `dual_cfg` in each step, for `is_guided`: 1 where the mode's last branch is
    evaluated alone, outside of an interval of noise levels (see `within`). A scale that the mode
    does not read is 1.
    """
    pair = [s_glob, s_loc]
    if len(BRANCHES[mode]) == 2:
        pair[0 if mode in BY_LOCAL else 1] = np.ones_like(s_glob)
    return np.stack([within(scale, timesteps, *guided) for scale in pair], axis=-1)


def is_guided(
    scales: Float[np.ndarray, " n"] | Float[np.ndarray, "n scales"],
) -> Bool[np.ndarray, " n"]:
    """Steps with a scale that is not 1: in the others one branch alone is run."""
    guided = np.asarray(scales) != 1
    return guided if guided.ndim == 1 else guided.any(axis=-1)
