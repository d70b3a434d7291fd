"""Largest absolute differences that count as agreement (mirrored in docs/parity.md).

The originals ran in float32 on a CPU; two correct programs differ by the order of their sums.
"""

TOLERANCES = {
    "exact": 0.0,  # ghost levels and phases, weights that must not move, gradients that must be 0
    "value": 1e-5,  # hidden states, logits, losses of one forward pass
    "statistic": 1e-6,  # saturation and its two factors
    "gradient": 2e-6,
    "gram": 1e-6,  # un-normalised Gram losses: times their value, which goes into the hundreds
    "learning_rate": 1e-12,
    "trajectory_loss": 5e-6,
    "theta": 1e-6,  # rotation angles after training
    "weight": 2e-5,  # weights after training; key biases left out, see cases/moe_train.py
}


def tolerance(kind: str, scale: float) -> float:
    """The largest difference allowed where the largest expected magnitude is `scale`."""
    if kind != "gram":
        return TOLERANCES[kind]
    return min(TOLERANCES[kind] * max(scale, 1.0), 5e-4)
