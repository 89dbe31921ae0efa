"""Learning-rate schedules and optimizers from a stage's config."""

from __future__ import annotations

from typing import Any

import optax

from tavid_jax.engine.muon import muon

SCHEDULES = ("constant", "cosine", "linear", "trapezoid")
OPTIMIZERS = ("adam", "adamw", "muon", "sgd")


def make_schedule(config: Any, steps: int) -> optax.Schedule:
    """Warm-up to `lr` over `warmup` steps, then constant, or down to `lr * final` at `steps`.

    The first step has lr/warmup, not 0: it should not be wasted. "trapezoid" stays at `lr` and goes
    down in a line over the last `decay` of all steps.

    Raises ValueError for an unknown schedule, a warm-up longer than the stage, or one that leaves
    the trapezoid no room for its decay.
    """
    if config.schedule not in SCHEDULES:
        raise ValueError(f"optimizer.schedule {config.schedule!r} is none of {SCHEDULES}")
    if not 0 <= config.warmup <= steps:
        raise ValueError(f"optimizer.warmup {config.warmup} must lie in 0..steps ({steps})")
    rest = max(steps - config.warmup, 1)
    decay = {
        "constant": lambda: optax.constant_schedule(config.lr),
        "cosine": lambda: optax.cosine_decay_schedule(config.lr, rest, alpha=config.final),
        "linear": lambda: optax.linear_schedule(config.lr, config.lr * config.final, rest),
        "trapezoid": lambda: _trapezoid(config, steps),
    }[config.schedule]()
    if config.warmup == 0:
        return decay
    warmup = optax.linear_schedule(config.lr / config.warmup, config.lr, max(config.warmup - 1, 1))
    return optax.join_schedules([warmup, decay], [config.warmup])


def _trapezoid(config: Any, steps: int) -> optax.Schedule:
    """From the end of the warm-up on: constant, then linear."""
    down = round(config.decay * steps)
    flat = steps - config.warmup - down
    if not 0 < config.decay <= 1 or flat < 0:
        raise ValueError(
            f"optimizer.decay {config.decay} of {steps} steps and a warm-up of {config.warmup} do "
            "not fit: decay is the share of the steps that go down, above 0"
        )
    return optax.linear_schedule(config.lr, config.lr * config.final, max(down, 1), flat)


def make_optimizer(config: Any, steps: int) -> optax.GradientTransformation:
    """Global-norm clipping, then the named optimizer under the schedule. Moments are fp32.

    Raises ValueError for an unknown name, and as `make_schedule`.
    """
    schedule = make_schedule(config, steps)
    if config.name not in OPTIMIZERS:
        raise ValueError(f"optimizer.name {config.name!r} is none of {OPTIMIZERS}")
    moments = dict(b1=config.b1, b2=config.b2, eps=config.eps)
    core = {
        "adam": lambda: optax.adam(schedule, **moments),
        "adamw": lambda: optax.adamw(schedule, weight_decay=config.weight_decay, **moments),
        "muon": lambda: muon(
            schedule,
            beta=config.beta,
            steps=config.muon_steps,
            consistent_rms=config.consistent_rms,
            weight_decay=config.weight_decay,
            also=tuple(config.muon_also),
            never=tuple(config.muon_not),
            **moments,
        ),
        "sgd": lambda: optax.sgd(schedule, momentum=config.b1),
    }[config.name]()
    return optax.chain(optax.clip_by_global_norm(config.clip), core) if config.clip else core
