"""Class codes: indices whose signals stand for the classes (spec/neurograph.md, section 10).

Made once on the host, and data from then on. More codes than dimensions cannot be orthogonal: the
vectors behind the D-th are rounding noise blown up to unit length, which differs between machines
(defect D18).
"""

import numpy as np
from jaxtyping import Float, Int

from jaxgraph.neurograph.tables import Tables

SEED = 42
MOVES = 49
"""The original makes 50 and forgets the last: it looks at a score before the next move only."""
REFINED_DIMENSIONS = 3

Codes = tuple[Int[np.ndarray, "c d"], Int[np.ndarray, "c d"]]
"""Phases and magnitudes."""


def orthogonal_codes(classes: int, width: int, tables: Tables) -> Codes:
    """The original's codes: orthogonal vectors, quantised, then moved bin by bin."""
    start = quantise_vectors(orthogonal_vectors(classes, width), tables)
    return refine_codes(*start, tables)


def orthogonal_vectors(classes: int, width: int) -> Float[np.ndarray, "c d"]:
    """Unit vectors; the first `width` of them are orthogonal."""
    draw = np.random.RandomState(SEED)
    if width >= classes:
        return np.linalg.qr(draw.randn(width, classes))[0].T
    found: list[np.ndarray] = []
    for _ in range(classes):
        vector = draw.randn(width)
        for other in found:
            vector = vector - np.dot(vector, other) * other
        found.append(vector / np.linalg.norm(vector))
    return np.stack(found)


def quantise_vectors(vectors: Float[np.ndarray, "c d"], tables: Tables) -> Codes:
    """Phases from the arc tangent, magnitudes from the sigmoid of each component."""
    turn = (np.arctan(2 * vectors) + np.pi / 2) / np.pi
    level = 1 / (1 + np.exp(-3 * vectors))
    cut = lambda share, bins: np.clip((share * bins).astype(np.int32), 0, bins - 1)  # noqa: E731
    return cut(turn, tables.phase_bins), cut(level, tables.mag_bins)


def refine_codes(
    phase: Int[np.ndarray, "c d"], mag: Int[np.ndarray, "c d"], tables: Tables
) -> Codes:
    """Moves one index by one bin as long as some move makes the codes less alike."""
    best = separation(phase, mag, tables)
    for _ in range(MOVES):
        for new_phase, new_mag in _moves(phase, mag, tables):
            score = separation(new_phase, new_mag, tables)
            if score > best:
                phase, mag, best = new_phase, new_mag, score
                break
        else:
            break
    return phase, mag


def structured_codes(classes: int, width: int, tables: Tables) -> Codes:
    """Codes by formula: phases around the circle, magnitudes along a sine."""
    classes_, dims = np.arange(classes)[:, None], np.arange(width)[None]
    angle = (classes_ * np.pi / classes + 2 * np.pi * dims / width) % (2 * np.pi)
    level = (np.sin(classes_ * np.pi / classes + dims * np.pi / 2) + 1) / 2
    phase = (angle / (2 * np.pi) * tables.phase_bins).astype(np.int32)
    mag = (level * tables.mag_bins).astype(np.int32)
    return np.minimum(phase, tables.phase_bins - 1), np.minimum(mag, tables.mag_bins - 1)


def code_signals(
    phase: Int[np.ndarray, "*c d"], mag: Int[np.ndarray, "*c d"], tables: Tables
) -> Float[np.ndarray, "*c d"]:
    """Signals of the codes."""
    return tables.cos[phase] * tables.exp_sin[mag]


def similarity(
    phase: Int[np.ndarray, "c d"], mag: Int[np.ndarray, "c d"], tables: Tables
) -> Float[np.ndarray, "c c"]:
    """Cosines between the signals."""
    signals = code_signals(phase, mag, tables).astype(np.float64)
    unit = signals / np.maximum(np.linalg.norm(signals, axis=1, keepdims=True), 1e-8)
    return unit @ unit.T


def separation(
    phase: Int[np.ndarray, "c d"], mag: Int[np.ndarray, "c d"], tables: Tables
) -> float:
    """1 minus the mean absolute cosine between two codes: 1 for orthogonal ones."""
    above = np.triu_indices(len(phase), 1)
    return 1 - float(np.abs(similarity(phase, mag, tables)[above]).mean()) if above[0].size else 1.0


def _moves(phase: np.ndarray, mag: np.ndarray, tables: Tables):
    """All moves of one index by one bin, in the original's order; magnitudes stop at their ends."""
    for row in range(len(phase)):
        for column in range(min(REFINED_DIMENSIONS, phase.shape[1])):
            for delta in (-1, 1):
                moved = phase.copy()
                moved[row, column] = (moved[row, column] + delta) % tables.phase_bins
                yield moved, mag
                moved = mag.copy()
                moved[row, column] = np.clip(moved[row, column] + delta, 0, tables.mag_bins - 1)
                yield phase, moved
