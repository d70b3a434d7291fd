"""Multinomial logistic regression, and the original's probe with it.

On SciPy, which JAX brings along, in the form that scikit-learn minimises: tests compare both.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64, Real
from scipy.optimize import minimize
from scipy.special import logsumexp


@dataclass(frozen=True)
class Logistic:
    """A fitted model of k classes."""

    coef: Float64[np.ndarray, "k d"]
    intercept: Float64[np.ndarray, " k"]

    def predict(self, x: Real[np.ndarray, "n d"]) -> Int64[np.ndarray, " n"]:
        """The most likely class, from 0."""
        return self._logits(x).argmax(1)

    def loss(self, x: Real[np.ndarray, "n d"], y: Int[np.ndarray, " n"]) -> float:
        """Mean nats."""
        logits = self._logits(x)
        return float((logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]).mean())

    def _logits(self, x: Real[np.ndarray, "n d"]) -> Float64[np.ndarray, "n k"]:
        return x @ self.coef.T + self.intercept


def fit_logistic(
    x: Real[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    *,
    c: float = 1.0,
    classes: int | None = None,
    max_iter: int = 100,
    tol: float = 1e-4,
) -> Logistic:
    """Minimises ``mean cross-entropy + |coef|**2 / (2 c n)`` by L-BFGS from zero.

    Args:
      x: features.
      y: classes, from 0.
      c: inverse strength of the penalty; intercepts are free.
      classes: k; one more than the largest label where None.
      max_iter: of L-BFGS.
      tol: largest entry of the gradient at which it stops.
    """
    rows, width = x.shape
    k = int(y.max()) + 1 if classes is None else classes
    x = x.astype(np.float64)
    target = np.eye(k)[y]

    def objective(flat: Float64[np.ndarray, " p"]) -> tuple[float, Float64[np.ndarray, " p"]]:
        weights = flat.reshape(k, width + 1)
        coef = weights[:, :-1]
        logits = x @ coef.T + weights[:, -1]
        norm = logsumexp(logits, axis=1, keepdims=True)
        error = (np.exp(logits - norm) - target) / rows
        loss = (norm[:, 0] - (logits * target).sum(1)).mean() + (coef**2).sum() / (2 * c * rows)
        slope = np.concatenate([error.T @ x + coef / (c * rows), error.sum(0)[:, None]], 1)
        return float(loss), slope.reshape(-1)

    options = {"maxiter": max_iter, "maxls": 50, "gtol": tol, "ftol": 64 * np.finfo(float).eps}
    start = np.zeros(k * (width + 1))
    found = minimize(objective, start, method="L-BFGS-B", jac=True, options=options)
    weights = found.x.reshape(k, width + 1)
    return Logistic(weights[:, :-1], weights[:, -1])


@dataclass(frozen=True)
class OriginalProbe:
    """What the original's probe does and finds, for comparison with it."""

    accuracy: float
    train: Int64[np.ndarray, " n"]
    test: Int64[np.ndarray, " m"]
    model: Logistic
    predicted: Int64[np.ndarray, " m"]


def original_probe(
    z: Real[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], train_share: float = 0.8
) -> OriginalProbe | None:
    """The original's linear probe as it was meant (spec/vae.md, section 12).

    Unscaled features, C 1, 100 iterations, tolerance 1e-3, one stratified split with seed 42. Its
    own call fails with every current scikit-learn and reports 0; here None stands for too few rows.

    Args:
      z: features; rows that are not finite are dropped.
      labels: any integers.
      train_share: rows to fit on.
    """
    finite = np.isfinite(z).all(1)
    z, labels = z[finite], labels[finite]
    names, y = np.unique(labels, return_inverse=True)
    if len(y) < 4 * len(names) or len(names) < 2:
        return None
    train, test = stratified_split(y, train_share)
    # Two classes have one vector of weights there, here two of half its length.
    c = 0.5 if len(names) == 2 else 1.0
    model = fit_logistic(z[train], y[train], c=c, classes=len(names), tol=1e-3)
    predicted = model.predict(z[test])
    return OriginalProbe(float((predicted == y[test]).mean()), train, test, model, predicted)


def stratified_split(
    y: Int[np.ndarray, " n"], train_share: float, seed: int = 42
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " test"]]:
    """Rows to fit and to judge on, with equal class shares: those that scikit-learn's
    `train_test_split` draws from the same seed."""
    random = np.random.RandomState(seed)
    counts = np.bincount(y)
    train_counts = _apportion(counts, int(np.floor(train_share * len(y))), random)
    test_total = int(np.ceil((1.0 - train_share) * len(y)))
    test_counts = _apportion(counts - train_counts, test_total, random)
    train, test = [], []
    for label, (fit, judge) in enumerate(zip(train_counts, test_counts, strict=True)):
        rows = np.flatnonzero(y == label)[random.permutation(counts[label])]
        train.append(rows[:fit])
        test.append(rows[fit : fit + judge])
    return random.permutation(np.concatenate(train)), random.permutation(np.concatenate(test))


def _apportion(
    counts: Int64[np.ndarray, " k"], total: int, random: np.random.RandomState
) -> Int64[np.ndarray, " k"]:
    """`total` in proportion to counts: largest remainders first, ties by lot."""
    exact = counts / counts.sum() * total
    whole = np.floor(exact)
    left = int(total - whole.sum())
    for remainder in np.unique(exact - whole)[::-1]:
        if left <= 0:
            break
        tied = np.flatnonzero(exact - whole == remainder)
        chosen = random.choice(tied, size=min(len(tied), left), replace=False)
        whole[chosen] += 1
        exact[chosen] += 1
        left -= len(chosen)
    return whole.astype(np.int64)
