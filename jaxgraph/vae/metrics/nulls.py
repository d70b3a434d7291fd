"""What separation scores show where there is none, and their forms without bias.

Source: spec/vae.md, sections 9 and 11, for features that are normal and independent of the class.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Real

from jaxgraph.vae.metrics.moments import class_moments, trace_ratio


def null_trace_ratio(rows: int, classes: int, width: int) -> float:
    """Expected J: ``(classes-1) / (rows-classes)`` times the mean of an F variable with
    ``(classes-1) * width`` and ``(rows-classes) * width`` degrees of freedom."""
    freedom = (rows - classes) * width
    if freedom <= 2:
        raise ValueError(f"{rows} rows of width {width} in {classes} classes: too few for a mean")
    return (classes - 1) / (rows - classes) * freedom / (freedom - 2)


def adjusted_trace_ratio(ratio: float, rows: int, classes: int) -> float:
    """J times ``(rows - classes) / (classes - 1)``: the F statistic, about 1 under the null."""
    return ratio * (rows - classes) / (classes - 1)


def adjusted_eta_squared(ratio: float, rows: int, classes: int) -> float:
    """Share of variance between classes without bias: 0 under the null, 1 for classes of points."""
    return 1 - (1 - ratio / (1 + ratio)) * (rows - 1) / (rows - classes)


def null_monitor(rows: int, classes: int, width: int, ridge: float) -> tuple[float, float]:
    """About what `monitor` shows: Fisher, and Mahalanobis distance, with `rows` rows a class."""
    fisher = (classes - 1) / (classes * rows) / (1 + ridge)
    return fisher, float(np.sqrt(2 * width / rows))


def squared_distance(
    z: Real[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], pair: tuple[int, int]
) -> float:
    """Squared Mahalanobis distance of two classes without bias, so that it may be negative.

    With the pooled covariance of ``v = n_i + n_j - 2`` degrees of freedom:
    ``(v - d - 1) / v * D**2 - d * (1/n_i + 1/n_j)``.

    Raises:
      ValueError: there are too few rows for an unbiased inverse, or the covariance is singular.
    """
    a, b = class_moments(z, labels, pair)
    freedom, width = a.count + b.count - 2, z.shape[1]
    if min(a.count, b.count) < 2 or freedom <= width + 1:
        raise ValueError(f"classes of {a.count} and {b.count} rows: too few for width {width}")
    pooled = ((a.count - 1) * a.covariance + (b.count - 1) * b.covariance) / freedom
    delta = a.mean - b.mean
    try:
        squared = delta @ np.linalg.solve(pooled, delta)
    except np.linalg.LinAlgError as error:
        raise ValueError("the pooled covariance is singular: drop constant features") from error
    return float((freedom - width - 1) / freedom * squared - width * (1 / a.count + 1 / b.count))


@dataclass(frozen=True)
class Permuted:
    """A statistic beside its values under shuffled labels."""

    value: float
    null_mean: float
    null_std: float
    p_value: float
    """Share of shuffled values that are as large, the real one counted among them: exact."""
    permutations: int


def permutation_test(
    statistic: Callable[[Int[np.ndarray, " n"]], float],
    labels: Int[np.ndarray, " n"],
    *,
    permutations: int = 200,
    seed: int = 0,
) -> Permuted:
    """Compares `statistic(labels)` with its value for shuffled labels; large values count."""
    value = statistic(labels)
    random = np.random.default_rng(seed)
    null = np.array([statistic(random.permutation(labels)) for _ in range(permutations)])
    return Permuted(
        value, float(null.mean()), float(null.std()), p_value(value, null), permutations
    )


def p_value(value: float, null: Float64[np.ndarray, " n"]) -> float:
    """``(1 + number of null values >= value) / (1 + number of null values)``."""
    return float((1 + (null >= value).sum()) / (1 + len(null)))


@dataclass(frozen=True)
class Separation:
    """J of features beside its null."""

    permuted: Permuted
    """J itself, and under shuffled labels."""
    null: float
    """Expected J of normal features that are independent of the class."""
    adjusted: float
    """`adjusted_trace_ratio`."""
    eta_squared: float
    """`adjusted_eta_squared`."""


def separation(
    z: Real[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    permutations: int = 200,
    seed: int = 0,
) -> Separation:
    """J of features with all that is needed to judge it; labels may be any integers."""
    classes, indices = np.unique(labels, return_inverse=True)
    rows, width = z.shape
    permuted = permutation_test(
        lambda y: trace_ratio(z, y), indices, permutations=permutations, seed=seed
    )
    return Separation(
        permuted,
        null_trace_ratio(rows, len(classes), width),
        adjusted_trace_ratio(permuted.value, rows, len(classes)),
        adjusted_eta_squared(permuted.value, rows, len(classes)),
    )
