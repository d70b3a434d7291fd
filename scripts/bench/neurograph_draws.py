"""Random indices that both sides of a NeuroGraph row start from."""

import numpy as np

from bench.neurograph_cases import Row

CLASSES = 10


def draw(row: Row) -> dict[str, np.ndarray]:
    """Parameters, class codes, inputs and labels."""
    rng, config = np.random.default_rng(row.seed), row.faithful
    shapes = {
        "node": (row.nodes, config.width),
        "code": (CLASSES, config.width),
        "input": (row.samples, row.inputs, config.width),
    }
    drawn = {}
    for name, shape in shapes.items():
        drawn[f"{name}_phase"] = rng.integers(0, row.phase_bins, shape)
        drawn[f"{name}_mag"] = rng.integers(0, row.mag_bins, shape)
    return drawn | {"labels": rng.integers(0, CLASSES, row.samples)}
