"""Can a class be read from features? Held-out accuracy with an interval and a p-value.

Features come from anywhere: an encoder, an untrained one, the raw bits (`features.py`). All
splits are made by number beforehand, and only the test split is judged.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int, Int64, Real

from jaxgraph.vae.metrics.intervals import wilson
from jaxgraph.vae.metrics.logistic import fit_logistic
from jaxgraph.vae.metrics.mlp import fit_mlp
from jaxgraph.vae.metrics.nulls import p_value

Rows = tuple[Real[np.ndarray, "_ d"], Int[np.ndarray, " _"]]
PENALTIES = (1e-3, 1e-1, 1e1)


@dataclass(frozen=True)
class Probed:
    """Result of a probe on its test split."""

    accuracy: float
    low: float
    high: float
    """Wilson's 95 % interval of the accuracy."""
    balanced: float
    """Mean over classes of the share that is recognised."""
    chance: float
    """Accuracy of always naming the most frequent class of the training split."""
    p_value: float
    """Of the accuracy, if predictions were independent of the classes: from shuffled test labels,
    which is exact and needs no new fit."""
    null_mean: float
    """Accuracy for shuffled labels."""
    rows: int
    """In the test split."""
    chosen: str
    """What the validation split decided."""


def probe(
    kind: Literal["linear", "mlp"],
    train: Rows,
    validation: Rows,
    test: Rows,
    *,
    permutations: int = 1000,
    seed: int = 0,
) -> Probed:
    """Fits on `train`, chooses on `validation`, judges on `test`.

    Features are divided by their standard deviation on the training rows, so a collapsed latent
    dimension counts as much as any other: probes find traces of classes in it that decoders do not.

    Args:
      kind: `linear` (multinomial logistic regression, penalty chosen) or `mlp` (one hidden layer
        of 64, epoch chosen).
      train, validation, test: features ``[n, d]`` and labels ``[n]``, any integers.
      permutations: of the test labels.
      seed: of the perceptron and of the permutations.

    Raises:
      ValueError: a split holds a class that the training split lacks, or features that are not
        finite.
    """
    splits = (train, validation, test)
    if not all(np.isfinite(x).all() for x, _ in splits):
        raise ValueError("features are not finite")
    names = np.unique(train[1])
    if unknown := set(np.concatenate([validation[1], test[1]]).tolist()) - set(names.tolist()):
        raise ValueError(f"classes {sorted(unknown)} are not in the training split")
    y_train, y_validation, y_test = (np.searchsorted(names, y) for _, y in splits)
    x_train, x_validation, x_test = _standardised(*(x for x, _ in splits))
    if kind == "linear":
        models = [(c, fit_logistic(x_train, y_train, c=c, classes=len(names))) for c in PENALTIES]
        c, model = min(models, key=lambda entry: entry[1].loss(x_validation, y_validation))
        predicted, chosen = model.predict(x_test), f"C {c:g}"
    else:
        mlp, epoch = fit_mlp(
            (x_train, y_train.astype(np.int32)),
            (x_validation, y_validation.astype(np.int32)),
            classes=len(names),
            seed=seed,
        )
        predicted, chosen = mlp.predict(x_test), f"epoch {epoch}"
    majority = np.bincount(y_train).argmax()
    return judge(predicted, y_test, int(majority), chosen, permutations=permutations, seed=seed)


def judge(
    predicted: Int64[np.ndarray, " n"],
    labels: Int64[np.ndarray, " n"],
    majority: int,
    chosen: str,
    *,
    permutations: int = 1000,
    seed: int = 0,
) -> Probed:
    """Scores predictions that were made without their labels; `majority` is the class that a
    predictor without features would name."""
    right = predicted == labels
    random = np.random.default_rng(seed)
    shuffled = (random.permutation(labels) for _ in range(permutations))
    null = np.array([(predicted == y).mean() for y in shuffled])
    low, high = wilson(int(right.sum()), len(labels))
    return Probed(
        accuracy=float(right.mean()),
        low=low,
        high=high,
        balanced=float(np.mean([right[labels == c].mean() for c in np.unique(labels)])),
        chance=float((labels == majority).mean()),
        p_value=p_value(float(right.mean()), null),
        null_mean=float(null.mean()),
        rows=len(labels),
        chosen=chosen,
    )


def _standardised(
    train: Real[np.ndarray, "n d"], *others: Real[np.ndarray, "_ d"]
) -> list[Float32[np.ndarray, "_ d"]]:
    mean, spread = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1)
    return [((x - mean) / spread).astype(np.float32) for x in (train, *others)]
