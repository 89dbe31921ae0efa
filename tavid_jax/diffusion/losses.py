"""Losses as (sum, weight) pairs.

TrajLoom normalises inside each clip (sum over visible samples / their count) and then averages
over clips. So each function sums the clips' values and gives the number of clips as the weight:
adding the pairs of micro-batches or devices and dividing once gives exactly the big batch's loss,
however unevenly visible samples are spread. All pairs of one batch share their weight, which is
what lets `combine` add them.

Letters: B clips, T frames, (H, W) rows and columns of cells (or of pixels on the dense path),
L latent steps, N tokens, C channels. Everything is computed in float32.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# A sum and the weight that divides it.
Ratio = tuple[Float[Array, ""], Float[Array, ""]]
Mask = Bool[Array, "..."] | Float[Array, "..."]

# Neighbour distances and their weights, 1 / distance (TrajLoom, equation of L_nei).
HOPS = ((1, 1.0), (2, 0.5), (4, 0.25))


def rho(error: Float[Array, "*shape"], kind: str = "huber") -> Float[Array, "*shape"]:
    """Element-wise penalty of an error: "l1" |e|, "l2" e^2, "huber" with threshold 1.

    Raises:
      ValueError: unknown kind.
    """
    error = error.astype(jnp.float32)
    size = jnp.abs(error)
    if kind == "l1":
        return size
    if kind == "l2":
        return error**2
    if kind == "huber":
        return jnp.where(size <= 1, 0.5 * error**2, size - 0.5)
    raise ValueError(f"no penalty {kind!r}: use l1, l2 or huber")


def clip_sums(values: Float[Array, "B ..."]) -> Float[Array, " B"]:
    """Sums everything but the clips, in float32."""
    return values.astype(jnp.float32).reshape(values.shape[0], -1).sum(axis=1)


def over_clips(values: Float[Array, " B"], clip_weight: Float[Array, " B"] | None = None) -> Ratio:
    """One value per clip -> (sum, weight).

    Args:
      values: the loss of each clip.
      clip_weight: 0 for clips that only pad the batch; None is 1 for all.
    """
    weight = jnp.ones_like(values) if clip_weight is None else clip_weight.astype(jnp.float32)
    return jnp.sum(weight * values), jnp.sum(weight)


def divide(ratio: Ratio) -> Float[Array, ""]:
    """sum / weight; 0 when nothing was weighed."""
    total, weight = ratio
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), 0.0)


def combine(terms: Sequence[tuple[float, Ratio]]) -> Ratio:
    """Weighted sum of losses: sum of coefficient * sum / weight, over the first term's weight.

    Exact under accumulation when the terms' weights stand in the same proportion in every
    micro-batch: all clips of it, or the same number of its clips (on-policy sub-batch).

    Args:
      terms: pairs (coefficient, (sum, weight)), at least one.
    """
    weight = terms[0][1][1]
    return sum(coefficient * divide(ratio) for coefficient, ratio in terms) * weight, weight


def reconstruction(
    predicted: Float[Array, "B T H W 2"],
    target: Float[Array, "B T H W 2"],
    mask: Mask | None = None,
    clip_weight: Float[Array, " B"] | None = None,
    kind: str = "huber",
) -> Ratio:
    """Masked Huber of normalised coordinates: L_rec (TrajLoom's VAE, as released).

    Per clip sum(m * h) / max(2 * sum(m), 1), h summed over both coordinates.

    Args:
      predicted: normalised coordinates.
      target: the same.
      mask: (B, T, H, W), 1 where the sample is visible; None counts all.
      clip_weight: see `over_clips`.
      kind: see `rho`; the released code has Huber.
    """
    mask = jnp.ones(target.shape[:-1]) if mask is None else mask.astype(jnp.float32)
    error = rho(predicted.astype(jnp.float32) - target.astype(jnp.float32), kind).sum(axis=-1)
    values = clip_sums(mask * error) / jnp.maximum(2 * clip_sums(mask), 1)
    return over_clips(values, clip_weight)


def velocity(
    predicted: Float[Array, "B T H W 2"],
    target: Float[Array, "B T H W 2"],
    mask: Mask | None = None,
    clip_weight: Float[Array, " B"] | None = None,
    kind: str = "huber",
) -> Ratio:
    """Error of the frame-to-frame motion where both frames are visible: L_vel.

    Per clip sum(m_t m_t+1 rho) / max(sum(m_t m_t+1), 1), rho the mean over both coordinates. The
    form of rho is not published; the choice is ours. Arguments as `reconstruction`.
    """
    mask = jnp.ones(target.shape[:-1]) if mask is None else mask.astype(jnp.float32)
    # The difference of errors is the error of differences.
    error = predicted.astype(jnp.float32) - target.astype(jnp.float32)
    step = rho(error[:, 1:] - error[:, :-1], kind).mean(axis=-1)
    both = mask[:, 1:] * mask[:, :-1]
    return over_clips(clip_sums(both * step) / jnp.maximum(clip_sums(both), 1), clip_weight)


def _apart(x: Array, distance: int, axis: int) -> tuple[Array, Array]:
    """All pairs of elements so far apart along an axis, as two arrays of equal shape."""
    size = x.shape[axis]
    near = jax.lax.slice_in_dim(x, 0, size - distance, axis=axis)
    return near, jax.lax.slice_in_dim(x, distance, size, axis=axis)


def neighbours(
    predicted: Float[Array, "B T H W 2"],
    target: Float[Array, "B T H W 2"],
    mask: Mask | None = None,
    clip_weight: Float[Array, " B"] | None = None,
    kind: str = "huber",
    hops: Sequence[tuple[int, float]] = HOPS,
) -> Ratio:
    """Error of differences between horizontal and vertical neighbours: L_nei.

    Per clip sum(a m_p m_q rho) / max(sum(a m_p m_q), 1) over unordered pairs (p, q) in one frame,
    rho the mean over both coordinates. Hops are counted in elements of the given grid: cells on
    the folded path, pixels on the dense one (the paper does not say which; cells are ours).

    Args:
      hops: pairs (distance, weight a); distances beyond the grid have no pairs.
      Others as `reconstruction`.

    Raises:
      ValueError: a distance below 1.
    """
    if any(distance < 1 for distance, _ in hops):
        raise ValueError(f"neighbour distances must be at least 1, got {tuple(hops)}")
    mask = jnp.ones(target.shape[:-1]) if mask is None else mask.astype(jnp.float32)
    error = predicted.astype(jnp.float32) - target.astype(jnp.float32)
    total = count = jnp.zeros(target.shape[0], jnp.float32)
    for distance, weight in hops:
        for axis in (2, 3):
            if distance >= target.shape[axis]:
                continue
            mask_p, mask_q = _apart(mask, distance, axis)
            error_p, error_q = _apart(error, distance, axis)
            both = weight * mask_p * mask_q
            total += clip_sums(both * rho(error_q - error_p, kind).mean(axis=-1))
            count += clip_sums(both)
    return over_clips(total / jnp.maximum(count, 1), clip_weight)


def gaussian_kl(
    mean: Float[Array, "B *z"],
    std: Float[Array, "B *z"],
    clip_weight: Float[Array, " B"] | None = None,
) -> Ratio:
    """KL(N(mean, std^2) || N(0, 1)) in nats, the mean over all latent elements of a clip.

    Args:
      mean: posterior means.
      std: posterior standard deviations, > 0.
      clip_weight: see `over_clips`.
    """
    mean, std = mean.astype(jnp.float32), std.astype(jnp.float32)
    kl = 0.5 * (std**2 + mean**2 - 1) - jnp.log(std)
    return over_clips(clip_sums(kl) / (kl.size // kl.shape[0]), clip_weight)


def token_weights(visible: Mask, invisible_weight: float = 0.01) -> Float[Array, "B L N"]:
    """Weight of each latent token: 1 where visible, else a little (TrajLoom `fm_invis_weight`).

    Args:
      visible: (B, L, N), pooled visibility, 1 or True = seen.
      invisible_weight: weight of the others, so that they do not drift freely.
    """
    return jnp.where(visible.astype(bool), 1.0, invisible_weight).astype(jnp.float32)


def weighted_tokens(
    squared: Float[Array, "B L N C"], weights: Float[Array, "B L N"] | None = None
) -> Float[Array, " B"]:
    """Per clip sum(w * mean over C) / sum(w); None weighs all tokens alike."""
    per_token = squared.astype(jnp.float32).mean(axis=-1)
    weights = jnp.ones_like(per_token) if weights is None else weights.astype(jnp.float32)
    # The floor only guards a clip whose weights are all zero.
    return clip_sums(weights * per_token) / jnp.maximum(clip_sums(weights), 1e-8)


def flow_matching(
    predicted: Float[Array, "B L N C"],
    target: Float[Array, "B L N C"],
    weights: Float[Array, "B L N"] | None = None,
    clip_weight: Float[Array, " B"] | None = None,
) -> Ratio:
    """Weighted squared error of the velocity: L_fm (TrajLoom, flow-matching objective).

    Args:
      predicted: model's velocity.
      target: `paths.target_velocity`.
      weights: from `token_weights`; normalised inside each clip.
      clip_weight: see `over_clips`.
    """
    squared = (predicted.astype(jnp.float32) - target.astype(jnp.float32)) ** 2
    return over_clips(weighted_tokens(squared, weights), clip_weight)


def binary_cross_entropy(
    logits: Float[Array, "B *n"],
    visible: Mask,
    pos_weight: float = 0.0,
    clip_weight: Float[Array, " B"] | None = None,
) -> Ratio:
    """Mean binary cross-entropy in nats of each clip (TrajLoom's visibility predictor).

    Args:
      logits: > 0 means visible.
      visible: shape of logits, 0 or 1.
      pos_weight: factor of the visible samples' loss; 0 means off (a factor of 1), as in the
        released config.
      clip_weight: see `over_clips`.
    """
    logits, visible = logits.astype(jnp.float32), visible.astype(jnp.float32)
    positive = -(pos_weight or 1.0) * visible * jax.nn.log_sigmoid(logits)
    negative = -(1 - visible) * jax.nn.log_sigmoid(-logits)
    size = logits.size // logits.shape[0]
    return over_clips(clip_sums(positive + negative) / size, clip_weight)
