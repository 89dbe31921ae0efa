"""On-policy K-step training: the model's own states, pulled toward both ends of the path.

A model trained on the straight path sees, when it samples, states that its own errors have moved
off it. This stage walks K Euler steps with the model itself and asks, in every state that it
visits, for the velocities that lead to the data and that come from the source (TrajLoom, sec.
on-policy fine-tuning and appendix A.3). The paper names the parts; their exact form and most
numbers are not published. What is ours is marked.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tavid_jax.diffusion.losses import Ratio, clip_sums, over_clips, weighted_tokens
from tavid_jax.diffusion.paths import interpolate
from tavid_jax.diffusion.times import logit_grid

# (z: B L N C, t: B) -> velocity: B L N C
Velocity = Callable[[Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class OnPolicyConfig:
    """Numbers of the roll-out. Defaults are ours: the authors' are not published.

    Attributes:
      steps: K, Euler steps = states visited.
      t_min, t_max: ends of the logit-spaced grid of times.
      tau: least denominator of the two velocity targets.
      data_weight: b1, weight of the target that leads to the data.
      source_weight: b0, weight of the target that comes from the source.
      source_endpoint_weight: weight of the source's end in the endpoint consistency.
      start: "interpolated" starts at (1 - t_min) z0 + t_min z1, "source" at z0 itself.
      remat: recompute each step's activations in the backward pass instead of storing K of them.
    """

    steps: int = 4
    t_min: float = 0.02
    t_max: float = 0.98
    tau: float = 0.05
    data_weight: float = 1.0
    source_weight: float = 0.25
    source_endpoint_weight: float = 1.0
    start: str = "interpolated"
    remat: bool = False

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"on-policy steps={self.steps}: at least one is needed")
        if self.tau <= 0:
            raise ValueError(f"on-policy tau={self.tau}: must be positive")
        if self.start not in ("interpolated", "source"):
            raise ValueError(f"on-policy start={self.start!r}: use interpolated or source")


class OnPolicyLosses(NamedTuple):
    """Both terms of the stage; the whole is L_fm + lambda_on (rollout + lambda_end endpoint)."""

    rollout: Ratio
    endpoint: Ratio


def rollout_targets(
    z: Float[Array, "B *z"],
    t: Float[Array, ""] | float,
    z0: Float[Array, "B *z"],
    z1: Float[Array, "B *z"],
    tau: float,
) -> tuple[Float[Array, "B *z"], Float[Array, "B *z"]]:
    """Velocities from state z at time t: to the data, and from the source.

    u1 = (z1 - z) / max(1 - t, tau), u0 = (z - z0) / max(t, tau). Equal only on the straight path.
    """
    return (z1 - z) / jnp.maximum(1 - t, tau), (z - z0) / jnp.maximum(t, tau)


def on_policy(
    velocity: Velocity,
    z0: Float[Array, "B L N C"],
    z1: Float[Array, "B L N C"],
    weights: Float[Array, "B L N"] | None = None,
    config: OnPolicyConfig = OnPolicyConfig(),
    clip_weight: Float[Array, " B"] | None = None,
) -> OnPolicyLosses:
    """Rolls the model out and compares its velocities with both ends of the path.

    z_{k+1} = z_k + (t_{k+1} - t_k) stop_gradient(v(z_k, t_k)), k = 0 .. K-1, so gradients flow
    through each v(z_k, t_k) but never from one state to the next.

      rollout  = 1/K sum_k sum wbar 1/C (b1 |v_k - u1_k|^2 + b0 |v_k - u0_k|^2)
      endpoint = 1/K sum_k mean over all tokens of |z_k + (1 - t_k) v_k - z1|^2
                                                 + |z_k - t_k v_k - z0|^2

    Args:
      velocity: the model with parameters and context bound; called in one `lax.scan`.
      z0: source states.
      z1: data.
      weights: of tokens, for the roll-out term only (see `losses.token_weights`).
      config: numbers of the stage.
      clip_weight: see `losses.over_clips`.
    """
    z0 = jax.lax.stop_gradient(z0.astype(jnp.float32))
    z1 = jax.lax.stop_gradient(z1.astype(jnp.float32))
    grid = logit_grid(config.t_min, config.t_max, config.steps)
    start = z0
    if config.start == "interpolated":
        start = interpolate(z0, z1, jnp.full(z0.shape[:1], grid[0]))

    def step(state, times):
        t, t_next = times
        v = velocity(state, jnp.full(z0.shape[:1], t)).astype(jnp.float32)
        u1, u0 = rollout_targets(state, t, z0, z1, config.tau)
        squared = config.data_weight * (v - u1) ** 2 + config.source_weight * (v - u0) ** 2
        to_data = (state + (1 - t) * v - z1) ** 2
        to_source = config.source_endpoint_weight * (state - t * v - z0) ** 2
        endpoint = clip_sums(to_data + to_source) / (z0.size // z0.shape[0])
        state = jax.lax.stop_gradient(state + (t_next - t) * v)
        return state, (weighted_tokens(squared, weights), endpoint)

    if config.remat:
        step = jax.checkpoint(step, prevent_cse=False)
    _, (rollout, endpoint) = jax.lax.scan(step, start, (grid[:-1], grid[1:]))
    return OnPolicyLosses(
        over_clips(rollout.mean(axis=0), clip_weight),
        over_clips(endpoint.mean(axis=0), clip_weight),
    )


def sub_batch(tree: Any, count: int) -> Any:
    """`count` clips of a batch, evenly spaced, so that every device keeps some of its own.

    Args:
      tree: arrays with the batch dimension first.
      count: clips wanted; a batch of no more is returned whole.

    Raises:
      ValueError: count below 1.
    """
    if count < 1:
        raise ValueError(f"a sub-batch of {count} clips: at least one is needed")

    def take(x):
        stride = x.shape[0] // count
        if stride <= 1:
            return x[:count]
        return x[: count * stride].reshape(count, stride, *x.shape[1:])[:, 0]

    return jax.tree.map(take, tree)
