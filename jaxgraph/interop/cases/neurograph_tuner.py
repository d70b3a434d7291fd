"""Golden stratified samples and genetic operators of the original's tuner, which draws from
Python's own generator (spec/neurograph.md, section 16)."""

import hashlib
import json
import random
from typing import Any

import numpy as np

from jaxgraph.interop.case import Case, Checks

SPACE: dict[str, list] = {
    "vector_dim": [5, 8, 10],
    "phase_bins": [16, 32, 64, 128],
    "mag_bins": [64, 128, 256, 512, 1024],
    "cardinality": [3, 4, 5, 6, 7, 8],
    "learning_rate": [1e-4, 5e-4, 1e-3, 5e-3],
    "decay_factor": [0.9, 0.925, 0.95, 0.975],
    "orthogonality_threshold": [0.05, 0.1, 0.15, 0.2],
    "warmup_epochs": [3, 5, 8, 10],
    "min_activation_strength": [0.01, 0.05, 0.1, 0.2, 0.5],
    "batch_size": [3, 5, 8, 10],
}
FIXED = {
    "accumulation_steps": 8, "total_training_samples": 500, "validation_samples": 500,
    "num_evaluation_runs": 5, "samples_per_class": 50, "stratified_sampling": True,
}  # fmt: skip
MUTATION_RATE = 0.2
RUNS = {"strat_run0": 1000, "strat_run3": 80, "strat_test": 42}
"""Seeds of the three draws: 1000 + run 0, 77 + run 3, and the test set's."""


def check(case: Case, checks: Checks) -> None:
    """Recomputes what such a file holds of it."""
    checks.given |= {"strat_labels"}
    for name, seed in RUNS.items():
        drawn = stratified(case["strat_labels"], per_class=len(case[name]) // 10, seed=seed)
        checks.compare(name, drawn, "exact")
    expected = json.loads(str(case["ga_json"]))
    found = operate(expected["seed"])
    checks.compare_with("ga_json", found == expected, True, "exact")


def stratified(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """As many samples of each class, class by class, then shuffled."""
    source, drawn = random.Random(seed), []
    for label in range(10):
        drawn += source.sample(np.nonzero(labels == label)[0].tolist(), per_class)
    source.shuffle(drawn)
    return np.array(drawn)


def operate(seed: int) -> dict[str, Any]:
    """Two individuals, the key of the first, a crossover and a mutation, one after the other."""
    source = random.Random(seed)
    first, second = (
        {name: source.choice(values) for name, values in SPACE.items()} for _ in range(2)
    )
    children: list[dict] = [{}, {}]
    for name in SPACE:
        straight = source.random() < 0.5
        children[0][name], children[1][name] = (
            (first[name], second[name]) if straight else (second[name], first[name])
        )
    mutated = {
        name: source.choice(SPACE[name]) if source.random() < MUTATION_RATE else value
        for name, value in first.items()
    }
    content = json.dumps(
        {"hyperparams": first, "fixed_params": FIXED}, sort_keys=True, separators=(",", ":")
    )
    return {
        "seed": seed, "ind1": first, "ind2": second,
        "key1": hashlib.sha256(content.encode()).hexdigest(),
        "child1": children[0], "child2": children[1], "mutated": mutated,
    }  # fmt: skip
