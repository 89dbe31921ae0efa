"""What a train stage compiles: its state, its batch and its step, known from shapes alone.

The training loop fills these shapes with arrays; `engine/fit.py` compiles them for absent chips.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from tavid_jax.engine import trees
from tavid_jax.engine.method import Arrays, Method, Params, Spec
from tavid_jax.engine.optimizer import make_optimizer, make_schedule
from tavid_jax.engine.placement import (
    abstract_params,
    frozen_on_host,
    placed,
    split_trainable,
)
from tavid_jax.engine.state import TrainState, init_state, make_train_step
from tavid_jax.parallel.memory import fetched_behind, placed_on_host, whole_first
from tavid_jax.parallel.mesh import BATCH_AXES
from tavid_jax.parallel.one_message import in_one_message, is_worth_it
from tavid_jax.parallel.sharding import AnyMesh, batch_sharding, is_in_few_bits

#: A batch that is only shapes, dtypes and places.
Shapes = dict[str, jax.ShapeDtypeStruct]
#: (state, frozen parameters, batch) -> (state, metrics)
Step = Callable[[TrainState, Params, Arrays], tuple[TrainState, dict[str, jax.Array]]]

#: Fields of a stage's `offload`, and values of its `frozen_dtype`; see configs/common.py.
OFFLOAD = ("optimizer", "frozen")
FROZEN_DTYPES = ("", "int8")


def check_levers(stage: Any) -> None:
    """Raises ValueError for a field of `offload`, or a `frozen_dtype`, that there is not."""
    unknown = sorted(set(stage.get("offload", {})) - set(OFFLOAD))
    if unknown:
        known = ", ".join(OFFLOAD)
        raise ValueError(f"offload.{unknown[0]} is no field of a stage; there are {known}")
    if (dtype := stage.get("frozen_dtype", "")) not in FROZEN_DTYPES:
        raise ValueError(f"frozen_dtype {dtype!r} of a stage is none of {FROZEN_DTYPES}")


@dataclasses.dataclass(frozen=True)
class Program:
    """The training step of a stage and all that it reads.

    Attributes:
      method: what the stage trains.
      stage: its config (see configs/common.py for the fields).
      mesh: where everything lies; without devices, only shapes can be asked for.
    """

    method: Method
    stage: Any
    mesh: AnyMesh

    def __post_init__(self) -> None:
        check_levers(self.stage)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The stage's optimizer."""
        return make_optimizer(self.stage.optimizer, self.stage.steps)

    def is_cache(self, data: str) -> bool:
        """Whether these data are a compute stage's encoded examples, or the held-out part of them
        ("<stage>_eval"), rather than clips."""
        return data.removesuffix("_eval") in self.stage.cached_by

    @property
    def encodes(self) -> bool:
        """Whether the step itself runs the frozen encoders."""
        return not self.is_cache(self.stage.data)

    @functools.cached_property
    def on_host(self) -> frozenset[str]:
        """Paths of the frozen parameters that wait in the host's memory, see `offload.frozen`.

        Raises ValueError where that gains nothing.
        """
        return frozen_on_host(self.method) if self._offloads("frozen") else frozenset()

    def _offloads(self, what: str) -> bool:
        return bool(self.stage.get("offload", {}).get(what, False))

    def abstract_params(self) -> tuple[Params, Params]:
        """Shapes, dtypes and places of what is trained and of what is frozen.

        Raises ValueError, see `on_host`, and for a `frozen_dtype` in which nothing can be kept.
        """
        return self._abstract_params

    @functools.cached_property
    def _abstract_params(self) -> tuple[Params, Params]:
        params = abstract_params(self.method, self.mesh, self.on_host)
        trainable, frozen = split_trainable(self.method, params)
        self._check_frozen_dtype(frozen)
        return trainable, frozen

    def _check_frozen_dtype(self, frozen: Params) -> None:
        name = self.stage.get("frozen_dtype", "")
        if name and not any(map(is_in_few_bits, trees.flatten(frozen).values())):
            raise ValueError(
                f"frozen_dtype {name!r}: {type(self.method).__name__} has no frozen kernels of "
                "blocks that could be kept so; set it to ''"
            )

    def build(self, trainable: Params, rng: jax.Array) -> TrainState:
        """The state at step 0; `rng` is the stage's base key."""
        return init_state(trainable, self.optimizer, rng, self.stage.ema > 0)

    def abstract_state(self, trainable: Params) -> TrainState:
        """Shapes, dtypes and places of the state; `trainable` are arrays or shapes."""
        shapes = jax.eval_shape(lambda t: self.build(t, jax.random.key(0)), trainable)
        state = placed(shapes, self.mesh, self.method.sharding)
        if not self._offloads("optimizer"):
            return state
        return state.replace(
            opt_state=placed_on_host(state.opt_state), ema=placed_on_host(state.ema)
        )

    def abstract_batch(self, size: int = 0) -> Shapes:
        """Shapes, dtypes and places of a batch of the stage's size, or of `size` examples.

        Raises ValueError for a size that does not split over the mesh.
        """
        # A method without encoders reads the same either way.
        reads_raw = self.encodes and type(self.method).encode is not Method.encode
        spec = self.method.raw_spec() if reads_raw else self.method.encoded_spec()
        return abstract_batch(spec, size or self.stage.batch_size, self.mesh)

    def step(self) -> Step:
        """The step as a pure function.

        The compiler sums over the devices, or `one_message` where that is faster.
        """
        ways = math.prod(self.mesh.shape[axis] for axis in BATCH_AXES)
        own = self.stage.batch_size // ways
        options: dict[str, Any] = {"fetch": self._fetch()} if self._offloads("optimizer") else {}
        if own % self.stage.micro_batches == 0 and is_worth_it(self.mesh, self.abstract_params()):
            options["spread"] = functools.partial(in_one_message, mesh=self.mesh)
        return make_train_step(
            self.method,
            self.optimizer,
            make_schedule(self.stage.optimizer, self.stage.steps),
            encode=self.encodes,
            micro_batches=self.stage.micro_batches,
            ema_decay=self.stage.ema,
            ema_window=self.stage.ema_window,
            **options,
        )

    def _fetch(self) -> Callable[[Any, jax.Array], Any]:
        """How what waits on the host comes to the device for the update."""
        state = self.abstract_state(self.abstract_params()[0])
        slices = whole_first((state.opt_state, state.ema))
        return lambda kept, norm: fetched_behind(kept, norm, slices)

    def jitted_step(self, state: TrainState) -> jax.stages.Wrapped:
        """The step, for a compiler: the state is donated and stays where it lies."""
        places = jax.tree.map(lambda leaf: leaf.sharding, state)
        return jax.jit(self.step(), donate_argnums=0, out_shardings=(places, None))


def difference(batch: Mapping[str, Any], like: Mapping[str, Any]) -> str:
    """What tells two batches, or their shapes, apart: the first entry of another type or shape, in
    words; "" if nothing does."""
    for name in sorted(batch.keys() | like.keys()):
        found, wanted = (
            trees.signature(x[name]) if name in x else "missing" for x in (batch, like)
        )
        if found != wanted:
            return f"{name!r} is {found}, not {wanted}"
    return ""


def abstract_batch(spec: dict[str, Spec], size: int, mesh: AnyMesh) -> Shapes:
    """`size` examples as shapes, split over the data axes of the mesh.

    Raises ValueError for a size that does not split.
    """
    ways = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    if size % ways:
        raise ValueError(
            f"a batch of {size} examples does not split over replica x fsdp = {ways}: set the "
            f"batch size to a multiple of {ways}, or put chips on another axis of the mesh"
        )
    return {
        name: jax.ShapeDtypeStruct((size, *one.shape), one.dtype, sharding=batch_sharding(mesh))
        for name, one in spec.items()
    }
