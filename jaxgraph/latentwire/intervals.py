"""Percentile intervals of ratios of sums over examples."""

import numpy as np
from jaxtyping import Num


def bootstrap(
    over: Num[np.ndarray, " n"], under: Num[np.ndarray, " n"], resamples: int, seed: int = 0
) -> list[float]:
    """95 % of the ratios sum(over) / sum(under) of examples drawn with replacement."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(over), (resamples, len(over)))
    ratios = over[drawn].sum(1) / under[drawn].sum(1)
    return [float(end) for end in np.percentile(ratios, [2.5, 97.5])]
