"""Frechet distance between two sets of features, in float64.

d = |mu1 - mu2|^2 + Tr S1 + Tr S2 - 2 Tr sqrt((S1 + eps I)(S2 + eps I))

(Dowson & Landau 1982; Heusel et al. 2017). `eps` stands inside of the root only, as in the public
FVMD code: two equal sets give about -2 eps D, so small negative values are right and not clamped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

Root = Literal["auto", "eigen", "subspace", "nuclear"]
ROWS = 4096  # of features in float64 at a time: bounds memory


def frechet_distance(
    first: Float[np.ndarray, "n D"],
    second: Float[np.ndarray, "m E"],
    *,
    eps: float = 1e-5,
    unbiased: bool = True,
    root: Root = "auto",
) -> float:
    """Frechet distance between Gaussians fitted to two feature sets.

    Args:
      first, second: one feature per row, D = E columns; at least two rows each.
      eps: added to the diagonals inside of the root. FVMD 1e-5, StyleGAN-V's FVD 0.
      unbiased: covariances divide by n - 1 (FVMD) or by n (StyleGAN-V's FVD).
      root: how Tr sqrt is found.
        "eigen": symmetric square root in all D dimensions, O(D^3); the public TrajLoom code.
        "subspace": the same number in the span of both sets, O(D (n + m)^2). Exact for every eps.
        "nuclear": nuclear norm of the product of the centred sets; ignores eps (exact for eps 0).
        "auto": "subspace" when n + m < D, else "eigen".

    Raises:
      ValueError: fewer than two rows, different D, or a value that is not finite.
    """
    return frechet_distances(first, second, [slice(None)], eps=eps, unbiased=unbiased, root=root)[0]


def frechet_distances(
    first: Float[np.ndarray, "n D"],
    second: Float[np.ndarray, "m E"],
    columns: Sequence[slice],
    *,
    eps: float = 1e-5,
    unbiased: bool = True,
    root: Root = "auto",
) -> list[float]:
    """`frechet_distance` of some of the columns, for each of several choices.

    Covariances of all columns are made once, where they are needed in full.
    """
    sets = _checked(first, "first"), _checked(second, "second")
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"features of {first.shape[1]} and {second.shape[1]} dimensions cannot be compared: "
            "make both with the same settings and grid"
        )
    rows = len(first) + len(second)
    fits: list[_Gaussian] = []
    distances = []
    for chosen in columns:
        dim = len(range(*chosen.indices(first.shape[1])))
        if root == "eigen" or (root == "auto" and rows >= dim):
            fits = fits or [_fit(features, unbiased) for features in sets]
            distances.append(_between(*(_marginal(fit, chosen) for fit in fits), eps))
        else:
            thin = [_centred(features[:, chosen], unbiased) for features in sets]
            distances.append(_between_thin(*thin, eps, root))
    return distances


class _Gaussian(NamedTuple):
    mean: Float[np.ndarray, " D"]
    covariance: Float[np.ndarray, "D D"]


def _checked(features: np.ndarray, name: str) -> np.ndarray:
    if len(features) < 2:
        raise ValueError(f"the {name} set has {len(features)} feature(s): a covariance needs two")
    if not np.isfinite(features).all():
        raise ValueError(f"the {name} set holds values that are not finite")
    return features


def _fit(features: np.ndarray, unbiased: bool) -> _Gaussian:
    """Mean and covariance, in float64 a block of rows at a time."""
    mean = features.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(features), ROWS):
        centred = features[start : start + ROWS] - mean
        covariance += centred.T @ centred
    return _Gaussian(mean, covariance / (len(features) - unbiased))


def _marginal(fit: _Gaussian, columns: slice) -> _Gaussian:
    return _Gaussian(fit.mean[columns], fit.covariance[columns, columns])


def _between(first: _Gaussian, second: _Gaussian, eps: float) -> float:
    """By eigenvalues in all D dimensions."""
    traces = float(np.trace(first.covariance) + np.trace(second.covariance))
    root = _symmetric_trace(first.covariance, second.covariance, eps)
    return float(((first.mean - second.mean) ** 2).sum()) + traces - 2 * root


def _centred(features: np.ndarray, unbiased: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and the factor A with A^T A = covariance; float64."""
    mean = features.mean(axis=0, dtype=np.float64)
    return mean, (features - mean) / np.sqrt(len(features) - unbiased)


def _between_thin(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    eps: float,
    root: Root,
) -> float:
    """From means and factors of shape (n, D) and (m, D), n + m < D or eps ignored."""
    (mean_1, a), (mean_2, b) = first, second
    if root == "nuclear":
        inside = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    else:
        # Outside of the span of both sets, both matrices are eps I and the root is eps I.
        basis, _ = np.linalg.qr(np.concatenate([a, b]).T)
        a_inside, b_inside = a @ basis, b @ basis
        inside = _symmetric_trace(a_inside.T @ a_inside, b_inside.T @ b_inside, eps)
        inside += eps * (a.shape[1] - basis.shape[1])
    traces = float((a * a).sum() + (b * b).sum())
    return float(((mean_1 - mean_2) ** 2).sum()) + traces - 2 * inside


def _symmetric_trace(first: np.ndarray, second: np.ndarray, eps: float) -> float:
    """Tr sqrt((S1 + eps I)(S2 + eps I)), by Tr sqrt(A B) = sum sqrt(eig(A^1/2 B A^1/2)): real."""
    ridge = eps * np.eye(len(first))
    values, vectors = np.linalg.eigh(first + ridge)
    half = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = half @ (second + ridge) @ half
    values = np.linalg.eigvalsh((product + product.T) / 2)
    return float(np.sqrt(np.maximum(values, 0)).sum())
