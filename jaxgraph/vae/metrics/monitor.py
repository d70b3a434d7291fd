"""The original's two window statistics of class separation (spec/vae.md, section 11 b and c).

Both are called Fisher there and differ from each other and from J (`moments.trace_ratio`).
"""

from itertools import combinations

import numpy as np
from jaxtyping import Int, Real

from jaxgraph.vae.metrics.moments import class_moments, distance

CLASSES = (0, 1, 2)


def rows_needed(width: int) -> int:
    """Rows that each class must have before the monitor speaks."""
    return max(32, width + 8)


def monitor(
    z: Real[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    ridge: float = 1e-2,
    newest: int = 4096,
    ridge_in_trace: bool = True,
) -> dict[str, float] | None:
    """Spread of the class means over the mean trace of the classes, and pairwise distances.

    Args:
      z: features, oldest first.
      labels: 0, 1, 2; anything else is passed over.
      ridge: added to each covariance (original: 1e-2, in its loop 1e-1).
      newest: rows a class that count.
      ridge_in_trace: the original lets the ridge into the denominator, where it adds ``d * ridge``;
        False leaves it out.

    Returns:
      `n_c0` ..., `latent_fisher`, `mahal_01` ...; None while a class has too few rows.
    """
    width = z.shape[1]
    moments = class_moments(z, labels, CLASSES, newest=newest, ridge=ridge)
    if min(m.count for m in moments) < rows_needed(width):
        return None
    means = np.stack([m.mean for m in moments])
    spread = ((means - means.mean(0)) ** 2).sum(1).mean()
    trace = np.mean([np.trace(m.covariance) for m in moments])
    if not ridge_in_trace:
        trace -= width * ridge
    report = {f"n_c{label}": float(m.count) for label, m in zip(CLASSES, moments, strict=True)}
    report["latent_fisher"] = float(spread / (trace + 1e-12))
    for i, j in combinations(CLASSES, 2):
        pooled = (moments[i].covariance + moments[j].covariance) / 2
        report[f"mahal_{i}{j}"] = distance(moments[i].mean - moments[j].mean, pooled)
    return report


def tracker(
    z: Real[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    ridge: float = 1e-4,
    newest: int = 4096,
) -> dict[str, float] | None:
    """Sum over pairs of squared distance over both traces, and distances by pooled covariance.

    Args:
      z: features, oldest first.
      labels: 0, 1, 2; anything else is passed over.
      ridge: added to each covariance and to each denominator.
      newest: rows a class that count.

    Returns:
      `fisher`, `md_01`, `md_02`, `md_12` (0 where a class has fewer than two rows) and `n_0` ...;
      None where fewer than two classes have two rows.
    """
    moments = class_moments(z, labels, CLASSES, newest=newest, ridge=ridge)
    if sum(m.count >= 2 for m in moments) < 2:
        return None
    report = {"fisher": 0.0}
    for i, j in combinations(CLASSES, 2):
        a, b = moments[i], moments[j]
        report[f"md_{i}{j}"] = 0.0
        if min(a.count, b.count) < 2:
            continue
        delta = a.mean - b.mean
        traces = np.trace(a.covariance) + np.trace(b.covariance) + ridge
        report["fisher"] += float(delta @ delta / traces)
        pooled = ((a.count - 1) * a.covariance + (b.count - 1) * b.covariance) / (
            a.count + b.count - 2
        )
        report[f"md_{i}{j}"] = distance(delta, pooled)
    return report | {
        f"n_{label}": float(m.count) for label, m in zip(CLASSES, moments, strict=True)
    }
