"""Where on the path to train, and the grids of times that solvers walk."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

# Distance that times keep from 0 and 1; the sampler clamps by as much.
EPS = 1e-5


def clamp(t: Float[Array, "*shape"], eps: float = EPS) -> Float[Array, "*shape"]:
    """Times moved into [eps, 1 - eps]."""
    return jnp.clip(t, eps, 1 - eps)


def uniform(
    keys: Key[Array, " B"], low: float = 0.0, high: float = 1.0, eps: float = EPS
) -> Float[Array, " B"]:
    """t ~ U(low, high), clamped."""
    draw = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32, low, high))
    return clamp(draw(keys), eps)


def logit_normal(
    keys: Key[Array, " B"], mean: float = 0.0, std: float = 1.0, eps: float = EPS
) -> Float[Array, " B"]:
    """t = sigmoid(mean + std * N(0, 1)), clamped."""
    draw = jax.vmap(lambda key: jax.random.normal(key, (), jnp.float32))
    return clamp(jax.nn.sigmoid(mean + std * draw(keys)), eps)


def mixture(
    keys: Key[Array, " B"],
    small_prob: float = 0.2,
    small_max: float = 0.1,
    mean: float = 0.0,
    std: float = 1.0,
    eps: float = EPS,
) -> Float[Array, " B"]:
    """With probability small_prob U(0, small_max), else logit-normal; clamped.

    Defaults are TrajLoom's (`t_small_prob`, `t_small_max` of its released config): more weight on
    the start of the path, where a sampler decides which motion it will follow.
    """
    which, small, large = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 3))(keys), 1, 0)
    is_small = uniform(which, eps=0.0) < small_prob
    return jnp.where(
        is_small, uniform(small, 0.0, small_max, eps), logit_normal(large, mean, std, eps)
    )


KINDS = {"uniform": uniform, "logit_normal": logit_normal, "mixture": mixture}


def sample_times(
    keys: Key[Array, " B"], kind: str = "mixture", **options: float
) -> Float[Array, " B"]:
    """One training time per clip.

    Args:
      keys: one per clip.
      kind: "mixture", "logit_normal" or "uniform".
      **options: those of the function of that name.

    Raises:
      ValueError: unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no distribution of times {kind!r}: use one of {', '.join(KINDS)}")
    return KINDS[kind](keys, **options)


def uniform_grid(steps: int) -> Float[Array, " S"]:
    """0, 1/steps, ..., 1: steps + 1 times."""
    return jnp.linspace(0.0, 1.0, steps + 1, dtype=jnp.float32)


def logit_grid(t_min: float, t_max: float, steps: int) -> Float[Array, " S"]:
    """sigmoid of evenly spaced logits: steps + 1 times from t_min to t_max, dense at both ends.

    The grid of TrajLoom's on-policy stage ("logit-spaced"; its range is not published).

    Raises:
      ValueError: unless 0 < t_min < t_max < 1.
    """
    if not 0 < t_min < t_max < 1:
        raise ValueError(f"a logit-spaced grid needs 0 < t_min < t_max < 1, got {t_min}, {t_max}")
    ends = [np.log(t / (1 - t)) for t in (t_min, t_max)]
    return jnp.asarray(1 / (1 + np.exp(-np.linspace(*ends, steps + 1))), jnp.float32)
