"""Means and covariances of the rows of each class."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int, Int64, Real


@dataclass(frozen=True)
class Moments:
    """Of one class."""

    count: int
    mean: Float64[np.ndarray, " d"]
    covariance: Float64[np.ndarray, "d d"]
    """Unbiased, plus `ridge` on the diagonal; only that where there are fewer than two rows."""


def class_moments(
    z: Real[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    classes: tuple[int, ...],
    *,
    newest: int | None = None,
    ridge: float = 0.0,
) -> list[Moments]:
    """Moments of each class in float64; rows of other labels are passed over.

    Args:
      z: features.
      labels: their classes.
      classes: labels to report, in this order.
      newest: only the last so many rows of each class; None for all.
      ridge: added to the diagonal of the covariance.
    """
    moments = []
    for label in classes:
        rows = z[labels == label].astype(np.float64)
        rows = rows if newest is None else rows[-newest:]
        covariance = ridge * np.eye(z.shape[1])
        if len(rows) >= 2:
            covariance += np.cov(rows, rowvar=False).reshape(covariance.shape)
        mean = rows.mean(0) if len(rows) else np.zeros(z.shape[1])
        moments.append(Moments(len(rows), mean, covariance))
    return moments


def distance(delta: Float[np.ndarray, " d"], covariance: Float[np.ndarray, "d d"]) -> float:
    """Mahalanobis length of `delta`; a covariance without full rank counts by its pseudo-inverse,
    which leaves out directions without spread."""
    solved = np.linalg.pinv(covariance, hermitian=True) @ delta
    return float(np.sqrt(max(0.0, delta @ solved)))


def trace_ratio(z: Real[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"]) -> float:
    """J: between-class over within-class sum of squares (spec/vae.md, section 9), without ridge.

    Labels must be 0, 1, ...; classes without rows count nothing. Infinite where classes are points.
    """
    z = z.astype(np.float64)
    member = np.eye(int(labels.max()) + 1)[labels]
    counts = member.sum(0)
    means = (member.T @ z) / np.maximum(counts, 1)[:, None]
    centred = means - z.mean(0)
    between = float(counts @ (centred**2).sum(1))
    within = float(((z - means[labels]) ** 2).sum())
    return between / within if within else np.inf * between
