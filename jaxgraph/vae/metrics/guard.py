"""The original's look at incoming features, and its verdict whether they were made private.

Source: spec/vae.md, section 15. Both streams of the original have the same noise, for which the
verdict is always NO_DP.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Thresholds:
    """Of the verdict; the values that the original ships."""

    mid: float = 0.80
    entropy: float = 0.20
    mean_min: float = 0.35
    mean_max: float = 0.65
    low_mid: float = 0.50
    low_entropy: float = 0.10


def snapshot(x: Float[np.ndarray, "n d"]) -> dict[str, float]:
    """Range and shape of features that should be bits with a little noise, in their precision."""
    return {
        "min": float(x.min()),
        "max": float(x.max()),
        "mean": float(x.mean()),
        "std": float(x.std()),
        "near0": float((np.abs(x) < 0.1).mean()),
        "near1": float((np.abs(x - 1) < 0.1).mean()),
        "mid": float(((x > 0.1) & (x < 0.9)).mean()),
        "entropy": float((x * (1 - x)).mean()),
    }


def dp_score(shot: dict[str, float], limits: Thresholds = Thresholds()) -> float:
    """Between 0 and 1: how much a `snapshot` looks like strong noise."""
    mid = min(1.0, shot["mid"] / max(limits.mid, 0.01))
    entropy = min(1.0, shot["entropy"] / max(limits.entropy, 0.01))
    centred = 1 - abs(shot["mean"] - 0.5) / 0.5
    return float(np.clip(0.4 * mid + 0.4 * entropy + 0.2 * centred, 0, 1))


def dp_decision(shot: dict[str, float], limits: Thresholds = Thresholds()) -> str:
    """DP, NO_DP or INCONCLUSIVE."""
    centred = limits.mean_min <= shot["mean"] <= limits.mean_max
    if shot["mid"] > limits.mid and shot["entropy"] > limits.entropy and centred:
        return "DP"
    quiet = shot["mid"] < limits.low_mid and shot["entropy"] < limits.low_entropy
    return "NO_DP" if quiet else "INCONCLUSIVE"
