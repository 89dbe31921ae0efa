"""The contract between the engine and a paper.

A `Method` is one thing that can be trained: pure functions of their arguments, no files, no
meshes, no clocks. A `System` is what a paper amounts to: it names the methods of its stages and
knows how to judge, sample and draw the result. The engine sees nothing else of a paper.

docs/add_a_method.md writes the smallest of both, step by step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from tavid_jax.parallel.sharding import PathTable

Params = dict[str, Any]
Arrays = dict[str, jax.Array]
# A sum and the weight that divides it: kept apart until the very end, so that gradient
# accumulation, padding and sharding cannot change a mean.
Ratio = tuple[jax.Array, jax.Array]


class Spec(NamedTuple):
    """One entry of an example: shape without the batch axis, dtype, logical axis names.

    The names are those of `parallel.sharding.RULES`, None for an axis without one. A batch arrives
    split along its first axis alone; where it shall lie within a model, the model says by
    `parallel.sharding.constrain`.
    """

    shape: tuple[int, ...]
    dtype: Any
    axes: tuple[str | None, ...]


@runtime_checkable
class Stored(Protocol):
    """A parameter that lies outside of the run: its shape is known, its values are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""

    def read(self) -> np.ndarray:
        """The values, of any floating dtype; nothing is cached."""


class Phase(NamedTuple):
    """A program of a method besides its training step: pure, compiled on its own.

    Attributes:
      step: (params, batch, rng) -> what is new; `rng` is one key per example.
      init: key -> its parameters, in the types in which they are kept; works under eval_shape.
      spec: of its batch.
      sharding: where its parameters lie on the mesh.
    """

    step: Callable[[Params, Arrays, jax.Array], Arrays]
    init: Callable[[jax.Array], Params]
    spec: dict[str, Spec]
    sharding: PathTable = PathTable()


class Method:
    """One trainable thing.

    A method that reads clips defines `prepare`, `raw_spec`, `init` and `loss`, one that reads a
    cache `encoded_spec` in place of the first two; the rest is overridden where it is needed. What
    runs on the device (`init`, `encode`, `loss`) is traced: its shapes are those of the specs, with
    the batch axis in front, and its randomness comes from the keys that it is given.
    """

    #: regexes over whole "a/b/c" parameter paths: what this method trains and hands on; every
    #: other parameter must come from an earlier stage or from outside (`pretrained`)
    trainable_paths: tuple[str, ...] = ()
    #: of these, what stays as initialised (fixed embeddings and the like)
    frozen_paths: tuple[str, ...] = ()
    #: where parameters (and their optimizer moments) lie on the mesh, by path
    sharding: PathTable = PathTable()
    #: regexes over whole paths of stacked blocks that the method's models fetch layer by layer:
    #: matrices of them that are frozen may wait in the host's memory (`offload.frozen` of a stage)
    host_paths: tuple[str, ...] = ()
    #: whether examples change over the run: `prepare` is then told the step, see there
    scheduled: bool = False

    def prepare(self, clip: Any, rng: np.random.Generator) -> dict[str, Any]:
        """Host side: one clip (`data.clip.Clip`) -> one example, numpy arrays of static shapes.

        All that is random is drawn from `rng`, which depends on the run's seed and the example's
        number in the run: any number of hosts, workers and restarts makes the same examples. The
        string "id" may be among the arrays: it names the example in messages and stays on the host.

        A `scheduled` method has `prepare(clip, rng, step)`. In training, step is the one that the
        example is for (0 is the first), in a resumed run too. What validates a stage is prepared
        as for its last step, since the final weights are judged by what they are trained for in
        the end. A compute stage, which makes one pass without steps, has step 0.
        """
        raise TypeError(f"{type(self).__name__} does not read clips: give its stage cached data")

    def prepare_at(self, step: int) -> Callable[..., dict[str, Any]]:
        """(clip, rng) -> `prepare` of them as at one step, whether it is scheduled or not."""
        return functools.partial(self.prepare, step=step) if self.scheduled else self.prepare

    def raw_spec(self) -> dict[str, Spec]:
        """What `prepare` returns, without "id"."""
        raise TypeError(f"{type(self).__name__} does not read clips: give its stage cached data")

    def encoded_spec(self) -> dict[str, Spec]:
        """What `encode` returns and `loss` reads; without frozen encoders, `raw_spec`."""
        return self.raw_spec()

    def init(self, rng: jax.Array) -> Params:
        """All parameters, trained and frozen, in one tree. Works under `jax.eval_shape`."""
        raise TypeError(f"{type(self).__name__} defines no init")

    def pretrained(self) -> Mapping[str, Stored]:
        """{path: parameter} of those that come from outside, such as published weights.

        They are read one at a time, cast to the types of `init`, and take the place of what it
        would make; results of the stages in `init_from` override them.
        """
        return {}

    def sources(self) -> Mapping[str, str]:
        """{what: fingerprint} of all that `pretrained` reads; part of the run's provenance."""
        return {}

    def recall(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Host side: an example of a cache -> one of `encoded_spec`; by default it is one.

        What a cache keeps whole may be drawn from here, anew for each step. Strings are as in
        `prepare`.
        """
        del rng
        return example

    def encode(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """Frozen encoders: raw batch -> encoded batch. Cacheable. `rng`: one key per example."""
        del params, rng
        return batch

    def loss(
        self, params: Params, batch: Arrays, rng: jax.Array, step: jax.Array
    ) -> tuple[Ratio, dict[str, Ratio]]:
        """The loss of an encoded batch as (sum, weight), and named (sum, weight) pairs to log.

        Args:
          params: the whole tree of `init`; gradients are taken of what `trainable_paths` name.
          batch: arrays of `encoded_spec`, B examples; B may be a share of the stage's batch_size.
          rng: one key per example, (B,), so that noise does not depend on how a batch is split
            over devices or micro-batches.
          step: of the run, an int32 scalar, for what changes over training.
        """
        raise TypeError(f"{type(self).__name__} defines no loss")

    def flops(self, batch_size: int, *, encode: bool = False) -> int | None:
        """Model FLOPs of one training step on a batch of this many examples, over all chips.

        Optional; None leaves the speed of a run untold. Two per multiply-add of products and
        convolutions: forward, and for every gradient that is needed, weights that are frozen have
        none. Nothing that remat computes again. `encode`: the step runs the frozen encoders.
        """
        del batch_size, encode
        return None

    def amounts(self) -> Mapping[str, int]:
        """What one example holds, to tell the speed of a run: "tokens" that the model attends
        over and "frames" of video or of tracks. Optional."""
        return {}

    def phases(self) -> dict[str, Phase]:
        """What this method does besides training, by name: "sample", "encode", "decode".

        Optional; with it the memory of such work can be told before there is a chip
        (`launch/fit.py --what=sample`). "sample" is one step of the sampler's loop.
        """
        return {}


class ComputeMethod(Method):
    """A stage that makes one pass over the data instead of training: statistics, caches."""

    #: a source of finished examples, read once instead of the stage's data; "" = none. `examine`
    #: then gets no parameters, and nothing is cached: later stages open the same source
    given: str = ""

    def examine(self, params: Params, batch: Arrays, rng: jax.Array) -> tuple[Arrays, Params]:
        """One batch -> (examples to cache, or {}; a tree of per-example sums of shape (B, ...)).

        The engine adds the sums of all real examples in float64 on the host.
        """
        raise TypeError(f"{type(self).__name__} defines no examine")

    def conclude(self, sums: Params) -> Params:
        """The float64 totals -> the stage's result, a tree of parameters for later stages."""
        raise TypeError(f"{type(self).__name__} defines no conclude")


class EncodeMethod(Method):
    """A stage that turns clips into examples by frozen encoders, which later stages read.

    The engine divides the clips over hosts and keeps what is finished.
    """

    #: whether every clip must have a caption, and every caption a clip
    needs_captions: bool = True

    def facts(self) -> dict[str, Any]:
        """All that the examples depend on besides the clips, JSON-able; kept with them."""
        raise TypeError(f"{type(self).__name__} defines no facts")

    def requirements(self) -> dict[str, Any]:
        """The facts that examples made elsewhere must share to be of use; by default all."""
        return self.facts()

    def examples(self, captions: Sequence[str], clips: Iterator[Any]) -> Iterator[dict[str, Any]]:
        """One example of numpy arrays for each clip, in order; all captions are known first."""
        raise TypeError(f"{type(self).__name__} defines no examples")

    def shared(self) -> dict[str, np.ndarray]:
        """What all examples have in common: the stage's result, parameters of later stages."""
        return {}


class System:
    """A paper's whole: the methods of its stages, and what to do with their results.

    It is made from the run's config, `ItsSystem(config)`, for every mode and on every host, and
    does no work then. Of a run that trains it needs `method` and `evaluate` alone. `inputs` opens
    sources of clips by name (`data.inputs.ConfiguredInputs`); `report` is a `report.Report`.
    """

    def method(self, stage: str) -> Method:
        """The method that a stage asks for: `config.stages[stage].method`, `.options`."""
        raise TypeError(f"{type(self).__name__} defines no method")

    def evaluate(self, results: Results, inputs: Any, report: Any) -> dict[str, Any]:
        """Judge the finished stages, fill the report, return the tree of metrics.json.

        The tree holds what JSON can, numpy values and tuples included; the run adds its seconds.
        """
        raise TypeError(f"{type(self).__name__} defines no evaluate")

    def sampler(self, results: Results, inputs: Any) -> Any:
        """What `tavid_jax.load` returns: an object with `sample(...)`."""
        raise TypeError(f"{type(self).__name__} defines no sampler")

    def sample(self, results: Results, inputs: Any, out_dir: Any) -> list[Any]:
        """Run the finished stages on the clips that the user gave; return the files written."""
        raise TypeError(f"{type(self).__name__} defines no sample")

    def preview(self, inputs: Any, report: Any) -> dict[str, Any]:
        """Draw prepared examples before any model has run."""
        raise TypeError(f"{type(self).__name__} defines no preview")


class Results(NamedTuple):
    """What the stages of a run left behind.

    `params("vae", "flow@200", ...)` loads and merges the trees of stages, as they finished or at
    a kept step; `curves` maps a stage to its logged records, `seconds` to its training time.
    """

    params: Callable[..., Params]
    curves: Mapping[str, list[dict[str, float]]]
    seconds: Mapping[str, float]
    provenance: Mapping[str, str]
