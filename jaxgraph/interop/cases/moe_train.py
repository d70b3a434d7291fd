"""Training runs of golden MoE cases: losses, rates and weights of every loop that we know.

Two of the original's loops are in `moe_loops`, the two geometric ones in `moe_geometric_loops`.
"""

from typing import Any

import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases import moe_geometric_loops
from jaxgraph.interop.cases.moe_loops import GROUPS, LOSSES, History, simulate
from jaxgraph.interop.cases.moe_model import Golden, load_golden
from jaxgraph.interop.rules.moe import RULES
from jaxgraph.interop.torch import to_torch


def check(case: Case, checks: Checks) -> None:
    """Runs each loop from the case's start over its batches."""
    golden = load_golden(case)
    for name in LOSSES:
        if case.below(f"out/{name}/"):
            history = simulate(case, golden, name)
            _compare_curves(checks, f"out/{name}/", history)
            _compare_weights(case, checks, name, golden, history)
    for name in moe_geometric_loops.RUNS:
        if case.below(f"out/{name}/"):
            history = moe_geometric_loops.check_run(case, checks, name)
            _compare_levels(checks, f"out/{name}/", history)
            _compare_weights(case, checks, name, golden, history)


def comparable(key: str, tensor: np.ndarray) -> np.ndarray:
    """Leaves the key third of packed attention biases out.

    Softmax does not see it: its gradient is rounding noise, which Adam blows up to full steps.
    """
    if not key.endswith("in_proj_bias"):
        return tensor
    query, _, value = np.split(tensor, 3)
    return np.concatenate([query, value])


def _compare_curves(checks: Checks, out: str, history: History) -> None:
    used = [[rates[group] for group in GROUPS if group in rates] for rates in history.used]
    checks.compare(out + "loss", history.loss, "trajectory_loss")
    checks.compare(out + "lr_used", used, "learning_rate")
    checks.compare(out + "primary_lr_after", history.primary_after, "learning_rate")
    if history.ghosts is not None:
        # A case may hold all ghosts, or the first one, whose rate the original uses for all.
        each = np.array(history.ghosts_after)
        _compare_some(checks, out + "ghost_lrs_after", each, each[:, :1], "learning_rate")
    _compare_levels(checks, out, history)


def _compare_levels(checks: Checks, out: str, history: History) -> None:
    """A case may hold all layers, or the first one, which the original logs."""
    if history.ghosts is not None:
        levels = np.array(history.ghosts.levels)
        _compare_some(checks, out + "final_levels", levels, levels[:1], "exact")


def _compare_some(checks: Checks, name: str, every: np.ndarray, first: np.ndarray, kind: str):
    shape = np.shape(checks.case.arrays.get(name))
    for ours in (every, first, first.reshape(-1)):
        if ours.shape == shape:
            return checks.compare(name, ours, kind)
    return checks.compare(name, every, kind)


def _compare_weights(
    case: Case, checks: Checks, run: str, golden: Golden, history: History
) -> None:
    start, final = to_torch(golden.params, RULES), to_torch(history.params, RULES)
    for key, expected in case.below(f"out/{run}/final/").items():
        ours: Any = comparable(key, final[key]) if key in final else np.nan
        checks.compare_with(f"out/{run}/final/{key}", ours, comparable(key, expected), "weight")
    for key in case.meta.get(f"{run}_unchanged", []):
        ours, before = (tree.get(key, np.nan) for tree in (final, start))
        checks.compare_with(f"out/{run}/final/{key}", ours, before, "exact")
