"""Frechet distance between two sets of features, in float64.

d = |mu1 - mu2|^2 + Tr S1 + Tr S2 - 2 Tr sqrt((S1 + eps I)(S2 + eps I))

(Dowson & Landau 1982; Heusel et al. 2017). `eps` stands inside of the root only, as in the public
FVMD code: two equal sets give about -2 eps D, so small negative values are right and not clamped.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

Root = Literal["auto", "eigen", "subspace", "nuclear"]


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
    first, second = _checked(first, "first"), _checked(second, "second")
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"features of {first.shape[1]} and {second.shape[1]} dimensions cannot be compared: "
            "make both with the same settings and grid"
        )
    mean_1, a = _centred(first, unbiased)
    mean_2, b = _centred(second, unbiased)
    traces = float((a * a).sum() + (b * b).sum())
    return float(((mean_1 - mean_2) ** 2).sum()) + traces - 2 * _trace_of_root(a, b, eps, root)


def _checked(features: np.ndarray, name: str) -> np.ndarray:
    if len(features) < 2:
        raise ValueError(f"the {name} set has {len(features)} feature(s): a covariance needs two")
    if not np.isfinite(features).all():
        raise ValueError(f"the {name} set holds values that are not finite")
    return features.astype(np.float64)


def _centred(features: np.ndarray, unbiased: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and the factor A with A^T A = covariance."""
    mean = features.mean(axis=0)
    return mean, (features - mean) / np.sqrt(len(features) - unbiased)


def _trace_of_root(a: np.ndarray, b: np.ndarray, eps: float, root: Root) -> float:
    """Tr sqrt((A^T A + eps I)(B^T B + eps I)) for factors of shape (n, D) and (m, D)."""
    dim = a.shape[1]
    if root == "nuclear":
        return float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    if root == "subspace" or (root == "auto" and len(a) + len(b) < dim):
        # Outside of the span of both sets, both matrices are eps I and the root is eps I.
        basis, _ = np.linalg.qr(np.concatenate([a, b]).T)
        inside = _symmetric_trace(a @ basis, b @ basis, eps)
        return inside + eps * (dim - basis.shape[1])
    return _symmetric_trace(a, b, eps)


def _symmetric_trace(a: np.ndarray, b: np.ndarray, eps: float) -> float:
    """By Tr sqrt(S1 S2) = sum sqrt(eig(S1^1/2 S2 S1^1/2)): symmetric, hence real."""
    ridge = eps * np.eye(a.shape[1])
    values, vectors = np.linalg.eigh(a.T @ a + ridge)
    half = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = half @ (b.T @ b + ridge) @ half
    values = np.linalg.eigvalsh((product + product.T) / 2)
    return float(np.sqrt(np.maximum(values, 0)).sum())
