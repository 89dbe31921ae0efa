"""Jobs on their way through the phases: what was checked, and what was made of them so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from tavid_jax.pipelines.backbones import BIAS, Backbone
from tavid_jax.pipelines.denoising import Denoiser, Segment
from tavid_jax.pipelines.following import Guide
from tavid_jax.pipelines.images import fit_image
from tavid_jax.pipelines.jobs import Job
from tavid_jax.pipelines.located import LOCAL_TEXT
from tavid_jax.pipelines.locating import EMPTY_TEXT, LocalGuide, dual_branches
from tavid_jax.pipelines.moving import STILL, MoveGuide
from tavid_jax.pipelines.settings import Sampling
from tavid_jax.pipelines.watching import Watch

# Entries that are features of a text or an image.
FEATURES = ("text", "negative", "clip", LOCAL_TEXT, EMPTY_TEXT)
# What a job's key is folded with, for each use of randomness.
NOISE, POSTERIOR, SAMPLER, CONDITION = range(4)


@dataclasses.dataclass(eq=False)
class Task:
    """A job that was checked, and what the phases made of it so far.

    Attributes:
      job: the prompt is what the model reads.
      name, sampling, backbone: as they were settled.
      images: as they were given.
      masks: of the targets, fitted to the frames.
      guide: what draws the condition videos or the trajectories, if there is something to draw;
        None without.
      conditions: entries of a batch.
      black: entries of a batch whose condition videos are black, where guidance reads them.
      given: the clean latent of the first frames.
      latents: of the video.
    """

    job: Job
    name: str
    sampling: Sampling
    backbone: Backbone
    images: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...] = ()
    guide: Guide | None = None
    conditions: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    black: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    given: np.ndarray | None = None
    latents: np.ndarray | None = None

    def key(self, use: int) -> jax.Array:
        """Of a use of randomness."""
        return jax.random.fold_in(jax.random.key(self.job.seed), use)

    def fitted(self) -> list[np.ndarray]:
        """The images at the video's size."""
        s = self.sampling
        return [fit_image(image, s.size_hw, s.fit or "cover") for image in self.images]

    @property
    def is_guided(self) -> bool:
        """Whether condition videos are read: the plain model makes what has none."""
        return self.shown is not None and not (self.is_located or self.is_moved)

    @property
    def is_located(self) -> bool:
        """Whether local texts are read: the plain model makes what has none."""
        return isinstance(self.shown, LocalGuide)

    @property
    def is_moved(self) -> bool:
        """Whether the image's latent is moved along tracks."""
        return isinstance(self.shown, MoveGuide)

    @property
    def is_amplified(self) -> bool:
        """Whether the branch without the prompt lacks the motion too."""
        return self.is_moved and not self.shown.uncond_motion

    @property
    def shown(self) -> Guide | None:
        """The guide, if it shows anything."""
        return None if self.guide is None or self.guide.is_empty else self.guide

    @property
    def dual(self) -> str:
        """Mode of guidance by local texts; "" where there are none."""
        return self.sampling.dual if self.is_located else ""

    @property
    def control_guidance(self) -> float | int:
        """1 where there is nothing to guide by."""
        return self.sampling.control_guidance if self.is_guided else 1.0

    @property
    def program(self) -> tuple[Any, ...]:
        """Tasks of equal values share one compiled program."""
        # What only encoding or the file reads does not count.
        read = dataclasses.replace(
            self.sampling,
            fps=1,
            fit=None,
            posterior="sample",
            control_guidance=self.control_guidance,
            strength=None,
        )
        has = bool(self.job.modulation), self.is_guided, self.is_located, self.is_amplified
        return read, self.backbone, len(self.images), *has


@dataclasses.dataclass(eq=False)
class Batch:
    """Tasks that are denoised together."""

    tasks: list[Task]
    denoiser: Denoiser
    segments: list[Segment]
    state: Any = None
    watch: Watch | None = None

    def branches(self, guided: bool, dtype: DTypeLike) -> list[dict[str, jax.Array]]:
        """Conditions of each branch of guidance: [black condition videos,] [no prompt,] all; or
        those of `guidance.BRANCHES`.

        Args:
          guided: whether there is one without the prompt.
          dtype: of features.
        """
        everything = self._stacked(lambda task: task.conditions)
        everything = {
            name: x.astype(dtype) if name in FEATURES else x for name, x in everything.items()
        }
        without = {"text": everything.pop("negative")}
        if STILL in everything:
            without["condition"] = everything.pop(STILL)
        if BIAS in everything:  # the negative prompt names no target
            without[BIAS] = jnp.zeros_like(everything[BIAS])
        if self.denoiser.dual:
            backbone = self.tasks[0].backbone
            return dual_branches(backbone, everything, without, self.denoiser.dual, guided)
        branches = [everything]
        if guided:
            branches.insert(0, everything | without)
        if self.denoiser.control_guidance != 1:
            branches.insert(0, branches[0] | self._stacked(lambda task: task.black))
        return branches

    def _stacked(self, of: Callable[[Task], Mapping[str, Any]]) -> dict[str, jax.Array]:
        names = of(self.tasks[0])
        return {n: stacked(self.tasks, lambda task, n=n: of(task)[n]) for n in names}


def stacked(tasks: Sequence[Task], of: Callable[[Task], Any]) -> jax.Array:
    """A value of every task, as a batch; empty where there is none."""
    values = [of(task) for task in tasks]
    return jnp.zeros((len(tasks), 0)) if values[0] is None else jnp.asarray(np.stack(values))
