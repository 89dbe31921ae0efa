"""The training state and the one pure training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from tavid_jax.engine import trees
from tavid_jax.engine.method import Arrays, Method, Params

# Arrays, or what stands for them while a tree is mapped: shapes, shardings, placeholders of jax.
Leaf = Any
Tree = Any


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes; frozen weights travel beside it.

    Attributes:
      step: int32 [], steps done.
      trainable, opt_state: fp32 weights and what the optimizer keeps.
      ema: their moving average, or None.
      rng: typed key [], the base of all randomness of the stage; never changes.
      skipped: int32 [], non-finite steps in all; `streak` those in a row at present, which began
        at step `streak_start` (-1 when there are none).
    """

    step: Leaf
    trainable: Tree
    opt_state: Tree
    ema: Tree | None
    rng: Leaf
    skipped: Leaf
    streak: Leaf
    streak_start: Leaf


def init_state(
    trainable: Params, optimizer: optax.GradientTransformation, rng: jax.Array, ema: bool
) -> TrainState:
    """A state at step 0: masters, moments and average in fp32, whatever the model computes in.

    `rng` is the base key: never consumed, only folded into.
    """
    trainable = jax.tree.map(_master, trainable)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trainable=trainable,
        opt_state=optimizer.init(trainable),
        ema=jax.tree.map(jnp.copy, trainable) if ema else None,
        rng=rng,
        skipped=jnp.zeros((), jnp.int32),
        streak=jnp.zeros((), jnp.int32),
        streak_start=jnp.full((), -1, jnp.int32),
    )


def _master(weight: jax.Array) -> jax.Array:
    return weight.astype(jnp.float32) if jnp.issubdtype(weight.dtype, jnp.floating) else weight


def example_keys(rng: jax.Array, step: jax.Array, consumer: int, batch: int) -> jax.Array:
    """One key per example of the global batch: a function of (seed, step, consumer, position)."""
    return jax.random.split(jax.random.fold_in(jax.random.fold_in(rng, step), consumer), batch)


def accumulate(
    method: Method,
    trainable: Params,
    frozen: Params,
    batch: Arrays,
    rng: jax.Array,
    step: jax.Array,
    *,
    encode: bool,
    micro_batches: int,
    spread: Callable[[Callable[..., Tree]], Callable[..., Tree]] = lambda sums: sums,
) -> tuple[Params, dict[str, tuple[jax.Array, jax.Array]]]:
    """Gradient of sum(loss)/sum(weight), and all (sum, weight) pairs, over micro-batches.

    `spread` says how sums over a batch come from those of the devices, see `Program.step`.

    Sums and weights are added up before the division, and every example has its own key, so the
    result is that of the whole batch at once, masks included, whatever `micro_batches` is.

    Raises ValueError for a batch that does not split into `micro_batches`.
    """
    size = _batch_size(batch, micro_batches)
    keys = {
        "encode": example_keys(rng, step, 0, size),
        "loss": example_keys(rng, step, 1, size),
    }

    def sums(whole: Tree, parts: Tree):
        (weights, fixed, now), (examples, example_keys) = whole, parts
        return _sums(method, weights, fixed, examples, example_keys, now, encode, micro_batches)

    grads, ratios = spread(sums)((trainable, frozen, step), (batch, keys))
    total_weight = jnp.maximum(ratios["loss"][1], 1e-8)
    return jax.tree.map(lambda g: g / total_weight, grads), ratios


def _sums(
    method: Method,
    trainable: Params,
    frozen: Params,
    batch: Arrays,
    keys: dict[str, jax.Array],
    step: jax.Array,
    encode: bool,
    micro_batches: int,
) -> tuple[Params, dict[str, tuple[jax.Array, jax.Array]]]:
    """Gradient of sum(loss), and all (sum, weight) pairs."""

    def loss_sum(weights: Params, part: Arrays, part_keys: jax.Array):
        (total, weight), logs = method.loss(trees.merge(frozen, weights), part, part_keys, step)
        return total.astype(jnp.float32), {"loss": (total, weight), **logs}

    def grad(weights: Params, part: Arrays, part_keys: dict[str, jax.Array]):
        if encode:
            part = method.encode(trees.merge(frozen, weights), part, part_keys["encode"])
        return jax.grad(loss_sum, has_aux=True)(weights, part, part_keys["loss"])

    if micro_batches == 1:
        return grad(trainable, batch, keys)
    # Micro-batch m takes examples m, m + M, m + 2M, ...: every device keeps its own examples.
    split = jax.tree.map(
        lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), (batch, keys)
    )
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, jnp.float32),
        jax.eval_shape(grad, trainable, *jax.tree.map(lambda x: x[0], split)),
    )

    def body(carry, part):
        return jax.tree.map(jnp.add, carry, grad(trainable, *part)), None

    return jax.lax.scan(body, zeros, split)[0]


def _batch_size(batch: Arrays, micro_batches: int) -> int:
    sizes = {name: x.shape[0] if x.ndim else None for name, x in batch.items()}
    size = next(iter(sizes.values()))
    if size is None or set(sizes.values()) != {size}:
        raise ValueError(f"every array of a batch needs the same batch axis first; got {sizes}")
    if size % micro_batches:
        raise ValueError(f"a batch of {size} does not split into {micro_batches} micro_batches")
    return size


def make_train_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    encode: bool,
    micro_batches: int = 1,
    ema_decay: float | int = 0.0,
    ema_window: float | int = 0.0,
    fetch: Callable[[Tree, jax.Array], Tree] = lambda kept, norm: kept,
    spread: Callable[[Callable[..., Tree]], Callable[..., Tree]] = lambda sums: sums,
) -> Callable[[TrainState, Params, Arrays], tuple[TrainState, dict[str, jax.Array]]]:
    """The step (state, frozen, batch) -> (state, metrics): pure, to be jitted with donated state.

    A step whose loss or gradient is not finite changes no weight; it is counted in the state.

    Args:
      fetch: brings the optimizer's state and the average to where they are used, after the norm of
        the gradient is known.

    Raises ValueError for a decay or a window of the moving average that cannot be.
    """
    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema {ema_decay} must lie in [0, 1): it is the decay; 0 is no average")
    if not 0 <= ema_window <= 1 or (ema_window and not ema_decay):
        raise ValueError(
            f"ema_window {ema_window} must be a share of the steps, 0 to 1, and needs ema above 0"
        )

    def step(state: TrainState, frozen: Params, batch: Arrays):
        with jax.named_scope("gradient"):
            grads, ratios = accumulate(
                method,
                state.trainable,
                frozen,
                batch,
                state.rng,
                state.step,
                encode=encode,
                micro_batches=micro_batches,
                spread=spread,
            )
        norm = optax.tree.norm(grads)
        metrics = {name: total / jnp.maximum(w, 1e-8) for name, (total, w) in ratios.items()}
        finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"])
        with jax.named_scope("update"):
            # Only now, if it waited in the host's memory: `jitted_step` sends it back there.
            before, average = fetch((state.opt_state, state.ema), norm)
            updates, opt_state = optimizer.update(grads, before, state.trainable)
            trainable = optax.apply_updates(state.trainable, updates)
            ema = update_ema(average, trainable, state.step, ema_decay, ema_window)

        def keep(new, old):
            return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

        streak = jnp.where(finite, 0, state.streak + 1)
        started = jnp.where(state.streak > 0, state.streak_start, state.step)
        new_state = state.replace(
            step=state.step + 1,
            trainable=keep(trainable, state.trainable),
            opt_state=keep(opt_state, before),
            ema=keep(ema, average),
            skipped=state.skipped + (1 - finite.astype(jnp.int32)),
            streak=streak,
            streak_start=jnp.where(finite, -1, started),
        )
        metrics |= {
            "grad_norm": norm,
            # Skipped steps do not advance the optimizer's own count.
            "learning_rate": schedule(state.step - state.skipped),
            "skipped": new_state.skipped,
            "streak": new_state.streak,
            "streak_start": new_state.streak_start,
        }
        return new_state, metrics

    return step


def update_ema(
    ema: Params | None, new: Params, step: jax.Array, decay: float | int, window: float | int = 0.0
) -> Params | None:
    """Moving average with a decay that rises to `decay`, so that short runs do not lag.

    Args:
      ema: the average, None if there is none.
      new: weights after the step.
      step: n, int32 [], steps done before it.
      decay: the highest.
      window: share of the steps done that the average looks back over, decay 1 - 1/(1 + window n):
        the average forgets the beginning in proportion as the run goes on. 0: (1 + n)/(10 + n).
    """
    if ema is None:
        return None
    n = step.astype(jnp.float32)
    rising = window * n / (1.0 + window * n) if window else (1.0 + n) / (10.0 + n)
    d = jnp.minimum(decay, rising)
    return jax.tree.map(lambda e, p: d * e + (1.0 - d) * p, ema, new)
