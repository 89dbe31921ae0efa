"""What a train stage compiles: its state, its batch and its step, known from shapes alone.

The training loop fills these shapes with arrays; `engine/fit.py` compiles them for absent chips.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from tavid_jax.engine.method import Arrays, Method, Params, Spec
from tavid_jax.engine.optimizer import make_optimizer, make_schedule
from tavid_jax.engine.placement import placed
from tavid_jax.engine.state import TrainState, init_state, make_train_step
from tavid_jax.parallel.mesh import BATCH_AXES
from tavid_jax.parallel.sharding import batch_sharding

#: A batch that is only shapes, dtypes and places.
Shapes = dict[str, jax.ShapeDtypeStruct]
#: (state, frozen parameters, batch) -> (state, metrics)
Step = Callable[[TrainState, Params, Arrays], tuple[TrainState, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Program:
    """The training step of a stage and all that it reads.

    Attributes:
      method: what the stage trains.
      stage: its config (see configs/common.py for the fields).
      mesh: where everything lies.
    """

    method: Method
    stage: Any
    mesh: Mesh

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

    def build(self, trainable: Params, rng: jax.Array) -> TrainState:
        """The state at step 0; `rng` is the stage's base key."""
        return init_state(trainable, self.optimizer, rng, self.stage.ema > 0)

    def abstract_state(self, trainable: Params) -> TrainState:
        """Shapes, dtypes and places of the state; `trainable` are arrays or shapes."""
        shapes = jax.eval_shape(lambda t: self.build(t, jax.random.key(0)), trainable)
        return placed(shapes, self.mesh, self.method.sharding)

    def abstract_batch(self, size: int = 0) -> Shapes:
        """Shapes, dtypes and places of a batch of the stage's size, or of `size` examples.

        Raises ValueError for a size that does not split over the mesh.
        """
        # A method without encoders reads the same either way.
        reads_raw = self.encodes and type(self.method).encode is not Method.encode
        spec = self.method.raw_spec() if reads_raw else self.method.encoded_spec()
        return abstract_batch(spec, size or self.stage.batch_size, self.mesh)

    def step(self) -> Step:
        """The step as a pure function."""
        return make_train_step(
            self.method,
            self.optimizer,
            make_schedule(self.stage.optimizer, self.stage.steps),
            encode=self.encodes,
            micro_batches=self.stage.micro_batches,
            ema_decay=self.stage.ema,
            ema_window=self.stage.ema_window,
        )

    def jitted_step(self, state: TrainState) -> Step:
        """The compiled step: the state is donated and stays where `abstract_state` put it."""
        places = jax.tree.map(lambda leaf: leaf.sharding, state)
        return jax.jit(self.step(), donate_argnums=0, out_shardings=(places, None))


def abstract_batch(spec: dict[str, Spec], size: int, mesh: Mesh) -> Shapes:
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
