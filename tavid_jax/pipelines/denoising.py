"""The denoising phase: one compiled scan from noise to latent, for any published backbone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from tavid_jax.diffusion import guidance
from tavid_jax.diffusion.denoise import denoise
from tavid_jax.diffusion.schedulers.registry import make_sampler
from tavid_jax.diffusion.schedulers.sampler import Sampler
from tavid_jax.models.layers.ports import Prediction, Probe
from tavid_jax.models.wan.experts import HIGH_NOISE, LOW_NOISE, high_noise_steps
from tavid_jax.pipelines.backbones import Backbone, CogVideoXBackbone
from tavid_jax.pipelines.control import CONTROL, CONTROLS
from tavid_jax.pipelines.settings import Published, Sampling

# Called with the index of each step that is done.
Report = Callable[[int], None]


def neighbours(*branches: Shaped[Array, "B *x"]) -> Shaped[Array, "P *x"]:
    """(a, A), (b, B), ...: an example's branches, so that they lie on the device that has it."""
    return jnp.stack(branches, axis=1).reshape(-1, *branches[0].shape[1:])


@dataclasses.dataclass(frozen=True)
class Segment:
    """Successive steps of one program: one expert, guided or not.

    Attributes:
      start, stop: of the schedule.
      guided: whether both branches are evaluated.
      expert: of two; "" where there is one.
    """

    start: int
    stop: int
    guided: bool
    expert: str

    def cut(self, steps: Sequence[int]) -> list[Segment]:
        """The same in pieces, so that each of `steps` that lies in it begins one."""
        inner = sorted({i for i in steps if self.start < i < self.stop})
        marks = [self.start, *inner, self.stop]
        return [
            dataclasses.replace(self, start=start, stop=stop)
            for start, stop in zip(marks[:-1], marks[1:], strict=True)
        ]


def sampler_of(backbone: Backbone, published: Published, sampling: Sampling) -> Sampler:
    """The solver, its tables made for the size and the number of steps.

    Raises:
      ValueError: a solver that the backbone's family does not have.
    """
    if isinstance(backbone, CogVideoXBackbone):
        options: dict[str, Any] = {"snr_shift": backbone.snr_shift}
    else:
        options = {"shift": published.shift_for(sampling), "grid": sampling.grid}
    return make_sampler(sampling.sampler, sampling.steps, family=published.family, **options)


def scales_of(
    sampler: Sampler, published: Published, sampling: Sampling, dual: str = ""
) -> Float[np.ndarray, " n"] | Float[np.ndarray, "n 2"]:
    """The scale of guidance in each step, 1 where there is none; with a mode of dual guidance both
    of its scales, see `guidance.dual_scales`."""
    given = sampling.guidance
    high, low = given if isinstance(given, tuple) and len(given) == 2 else (given, given)
    high, low = (g[0] if isinstance(g, tuple) else g for g in (high, low))
    if dual:
        first = _high_noise_steps(sampler, published)
        scales = np.where(np.arange(sampler.steps) < first, high, low).astype(np.float64)
        local = guidance.constant(sampling.local_guidance, sampler.steps)
        return guidance.dual_scales(scales, local, sampler.timesteps, sampling.guided, dual)
    if sampling.dynamic != "none" and high > 1:
        scales = guidance.dynamic_cfg(high, sampler.timesteps, sampling.dynamic)
    else:
        first = _high_noise_steps(sampler, published)
        scales = np.where(np.arange(sampler.steps) < first, high, low).astype(np.float64)
        # At 1 and below, published pipelines evaluate one branch.
        scales = np.where(scales > 1, scales, 1.0)
    return guidance.within(scales, sampler.timesteps, *sampling.guided)


def _high_noise_steps(sampler: Sampler, published: Published) -> int:
    if published.boundary is None:
        return sampler.steps
    return high_noise_steps(sampler.timesteps, published.boundary)


def segments_of(
    sampler: Sampler, published: Published, scales: Float[np.ndarray, "n *scales"]
) -> list[Segment]:
    """The schedule, cut where the expert changes and where guidance begins or ends."""
    guided, first = guidance.is_guided(scales), _high_noise_steps(sampler, published)
    two = published.boundary is not None
    kinds = [
        (bool(guided[i]), (HIGH_NOISE if i < first else LOW_NOISE) if two else "")
        for i in range(sampler.steps)
    ]
    cuts = [0, *(i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]), len(kinds)]
    return [
        Segment(start, stop, *kinds[start]) for start, stop in zip(cuts[:-1], cuts[1:], strict=True)
    ]


@dataclasses.dataclass(frozen=True, eq=False)
class Denoiser:
    """The programs of one kind of video; each is compiled once for each size of batch.

    Attributes:
      backbone: with its conditions.
      sampler: the solver.
      scales: of guidance, per step; two of them for dual guidance.
      control_guidance: how much stronger condition videos act, where branches lack them.
      sequential: whether the branches of guidance are evaluated one after the other.
      report: told each step that is done, from within the program.
      dual: mode of guidance by the prompt and local texts, of conditions that hold any; "" of
        others. Not beside `control_guidance`.
    """

    backbone: Backbone
    sampler: Sampler
    scales: Float[np.ndarray, "n *scales"]
    control_guidance: float | int = 1.0
    sequential: bool = False
    report: Report | None = None
    dual: str = ""

    def precompute(self, params: Any, branches: list[dict[str, Array]]) -> Any:
        """What does not change over the steps, for the branches of guidance.

        Args:
          params: of the backbone.
          branches: the conditions (batch first) of each branch, the unconditional one first.

        Returns:
          (conditions of all branches: one batch in which those of an example are neighbours, or
          stacked on a new axis if they are sequential; conditions that serve all branches).
        """
        common = {}
        if self.backbone.shares_control and CONTROL in branches[0]:
            # Condition videos are walked once for all branches that share them.
            same = all(branch[CONTROL] is branches[0][CONTROL] for branch in branches)
            if same:
                control = {n: branches[0][n] for n in CONTROLS if n in branches[0]}
                common = self._precompute(params, control)
                branches = [{n: x for n, x in b.items() if n not in CONTROLS} for b in branches]
        if len(branches) == 1 or self.sequential:
            each = [self._precompute(params, branch) for branch in branches]
            each = each[0] if len(each) == 1 else jax.tree.map(lambda *x: jnp.stack(x), *each)
            return each, common
        return self._precompute(params, jax.tree.map(neighbours, *branches)), common

    def run(
        self, params: Any, state: Any, conditions: Any, segment: Segment, keys: Array, given: Array
    ) -> Any:
        """The sampler's state after a segment.

        Args:
          params: of the segment's expert.
          state: noise (B, F, h, w, C), or the state that the segment before left.
          conditions: from `precompute`, with as many branches as the segment evaluates.
          segment: see `segments_of`.
          keys: one per video, of the sampler's own noise.
          given: the clean latent of `backbone.given_frames` frames at the start, (B, f, h, w, C).
        """
        return self._run(params, state, conditions, segment, keys, given)

    def look(
        self,
        params: Any,
        state: Any,
        index: int,
        branch: dict[str, Array],
        given: Array,
        probe: Probe,
    ) -> Prediction:
        """One more evaluation of a branch before a step is taken, with a probe in it.

        Args:
          params: of the step's expert.
          state: see `run`.
          index: of the step.
          branch: its conditions, see `precompute`.
          given: see `run`.
          probe: what looks.
        """
        conditions = self.precompute(params, [branch])
        x = self.sampler.init(state).x if isinstance(state, jax.Array) else state.x
        timestep = jnp.full((x.shape[0],), self.sampler.timesteps[index], jnp.float32)
        return self._look(params, x, timestep, conditions, given, probe)

    @functools.cached_property
    def _look(self) -> Callable[..., Prediction]:
        def evaluate(params, x, timestep, conditions, given, probe):
            x, (each, common) = self._with_given(x, given), conditions
            return self.backbone.evaluate(params, x, timestep, each | common, probe)

        return jax.jit(evaluate)

    @functools.cached_property
    def _precompute(self) -> Callable[..., Any]:
        return jax.jit(self.backbone.precompute)

    @functools.cached_property
    def _run(self) -> Callable[..., Any]:
        return jax.jit(self._walk, static_argnums=(3,))

    def _walk(
        self, params: Any, state: Any, conditions: Any, segment: Segment, keys: Array, given: Array
    ) -> Any:
        each, common = conditions

        def predict(x: Array, timestep: Array, row: dict[str, Array]) -> Array:
            x = self._with_given(x, given)
            count = self._count(segment.guided)
            if count == 1:
                out = self._evaluate(params, x, timestep, each | common)
            elif self.sequential:
                outs = jax.lax.map(
                    lambda branch: self._evaluate(params, x, timestep, branch | common), each
                )
                out = self._guided(outs, segment.guided, row["guidance"])
            else:
                outs = self._evaluate(params, neighbours(*[x] * count), timestep, each | common)
                outs = jnp.stack([outs[i::count] for i in range(count)])
                out = self._guided(outs, segment.guided, row["guidance"])
            if self.report is not None:
                # The output is passed along so that the step is done when it is told.
                jax.debug.callback(
                    lambda index, _: self.report(int(index)), row["index"], out.ravel()[0]
                )
            return out

        state = denoise(
            predict,
            self.sampler,
            state,
            guidance=self.scales,
            noise=keys if self.sampler.needs_noise else None,
            start=segment.start,
            stop=segment.stop,
        )
        done = segment.stop == self.sampler.steps
        return state._replace(x=self._with_given(state.x, given)) if done else state

    def _count(self, guided: bool) -> int:
        """Branches of a step."""
        if self.dual:
            return len(guidance.BRANCHES[self.dual]) if guided else 1
        return 1 + guided + self._steered

    @property
    def _steered(self) -> bool:
        """Whether there is a branch whose condition videos are black."""
        return self.control_guidance != 1

    def _guided(self, outs: Float[Array, "n B F h w C"], guided: bool, scale: Array) -> Array:
        """Predictions of the branches, combined: [black condition videos,] [no prompt,] all; or
        those of `guidance.BRANCHES`."""
        if self.dual:
            return guidance.dual_cfg(outs, scale[0], scale[1], self.dual)
        if guided and self._steered:
            bare, without, with_ = outs
            return guidance.cfg(bare, without, self.control_guidance) + scale * (with_ - without)
        return guidance.cfg(*outs, scale if guided else self.control_guidance)

    def _evaluate(self, params: Any, x: Array, timestep: Array, conditions: Any) -> Array:
        timesteps = jnp.full((x.shape[0],), timestep, jnp.float32)
        return self.backbone.predict(params, x, timesteps, conditions)

    def _with_given(self, x: Float[Array, "B F h w C"], given: Array) -> Float[Array, "B F h w C"]:
        """The first frames as they are given; they are never noisy for the model."""
        count = self.backbone.given_frames
        return x.at[:, :count].set(given.astype(x.dtype)) if count else x
