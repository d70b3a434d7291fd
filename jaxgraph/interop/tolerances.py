"""Largest differences that count as agreement (mirrored in docs/parity.md).

The originals ran in float32 on a CPU; two correct programs differ by the order of their sums.
"""

import numpy as np

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
    "vae_value": 2e-5,  # times each value, and a tenth of it times the largest
    "vae_gradient": 1e-4,  # times the tensor's largest, as the next
    "vae_gradient_softplus": 3e-4,  # complex layers with softplus, whose gain at 0 is 700
    "vae_trajectory": 1e-5,  # times each loss
    "vae_weight": 5e-6,
    "vae_tracker": 1e-3,  # times each distance: float32 solves with few rows per class
    "neuro_value": 2e-5,  # signals, gradients, logits, and strengths accumulated over timesteps
    "neuro_table": 2e-6,
    "neuro_statistic": 1e-5,  # times each value: norms and variances of gradients in the hundreds
    "lm_value": 5e-5,  # logits and hidden states of frozen language models
    "lm_loss": 1e-5,
    "lm_gradient": 2e-5,  # times the tensor's largest
    "lm_null": 2e-6,  # gradients that are truly 0, where only rounding is left
    "wire_trajectory": 1e-4,
    "wire_norm": 1e-4,  # times each norm of gradients and each learning rate
    "wire_weight": 3e-4,  # after training; directions without gradient left out
    "float64": 1e-11,  # times the array's largest
}
OF_LARGEST = {"vae_gradient", "vae_gradient_softplus", "lm_gradient", "float64"}
OF_EACH = {"vae_trajectory", "vae_tracker", "neuro_statistic", "wire_norm"}


def tolerance(kind: str, expected: np.ndarray) -> np.ndarray:
    """The largest difference allowed at each of the expected numbers."""
    limit, each = TOLERANCES[kind], np.abs(expected)
    largest = each.max(initial=0.0)
    if kind == "vae_value":
        return np.asarray(limit * each + limit / 10 * largest)
    if kind in OF_EACH:
        return np.asarray(limit * each)
    if kind in OF_LARGEST:
        limit = limit * largest
    if kind == "gram":
        limit = min(limit * max(largest, 1.0), 5e-4)
    return np.full(each.shape, limit)
