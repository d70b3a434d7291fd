"""Golden tables: values, lookups, quantisers, and the two update rules (spec/neurograph.md, 2).

The original's tables that no forward pass reads, its adaptive quantisers and its loss gradients
live here: nothing of ours uses them.
"""

import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.gradients import IndexGradient, index_gradient
from jaxgraph.neurograph.faithful.updates import (
    RESIDUAL_THRESHOLD,
    Rates,
    Residuals,
    accumulated_updates,
    apply_updates,
    stateless_updates,
    steps_in_bins,
)
from jaxgraph.neurograph.tables import (
    HIGHEST,
    LOWEST,
    Tables,
    look_up,
    make_tables,
    quantise_magnitude,
    quantise_phase,
)

GIVEN = {
    "N", "M", "D", "idx_phase", "idx_mag", "upstream", "cont_phase", "cont_mag", "lg_pred",
    "lg_target", "lr_phase", "lr_mag", "upd_grad_phase", "upd_grad_mag", "app_phase", "app_mag",
    "acc_grad_phase", "acc_grad_mag", "aq_values",
}  # fmt: skip


def check(case: Case, checks: Checks) -> None:
    """Recomputes one file."""
    checks.given |= GIVEN
    tables = make_tables(int(case["N"]), int(case["M"]))
    check_lookups(case, checks, tables)
    check_quantisers(case, checks, tables)
    check_updates(case, checks, tables)
    check_resolution(checks, tables)


def check_lookups(case: Case, checks: Checks, tables: Tables) -> None:
    """The buffers, and what the original reads from them."""
    y = np.linspace(LOWEST, HIGHEST, tables.mag_bins)
    sigmoid = 1 / (1 + np.exp(-y))
    buffers = {
        "phase_cos_table": tables.cos,
        "phase_sin_table": tables.sin,
        "phase_grad_table": -tables.sin,
        "mag_exp_sin_table": tables.exp_sin,
        "mag_exp_sin_grad_table": tables.exp_sin_slope,
        "mag_exp_table": np.exp(y),
        "mag_grad_table": np.exp(y),
        "mag_sigmoid_table": sigmoid,
        "mag_sigmoid_grad_table": sigmoid * (1 - sigmoid),
        "phase_grad_scale": np.asarray(tables.phase_width),
        "mag_grad_scale": np.asarray(tables.seed_mag_width),
    }
    for name, value in buffers.items():
        # Exponentials reach 20, where float32 has steps of 2e-6.
        kind = "neuro_value" if name in ("mag_exp_table", "mag_grad_table") else "neuro_table"
        checks.compare(f"buf_{name}", value, kind)
    phase, mag = jnp.asarray(case["idx_phase"]), jnp.asarray(case["idx_mag"])
    gradient = index_gradient(tables, phase, mag, jnp.asarray(case["upstream"]))
    sin, cos = look_up(tables.sin, phase), look_up(tables.cos, phase)
    slope = look_up(tables.exp_sin_slope, mag) * tables.seed_mag_width
    bend = look_up(sigmoid * (1 - sigmoid), mag) * tables.seed_mag_width
    for name, value in {
        "signal": tables.signal(phase, mag),
        "signal_sigmoid": cos * look_up(sigmoid, mag),
        "lookup_sin": sin,
        "lookup_phase_grad": -sin * tables.phase_width,
        "lookup_mag_grad": slope,
        "lookup_mag_grad_sigmoid": bend,
        "sg_phase_grad": gradient.phase,
        "sg_mag_grad": gradient.mag,
    }.items():
        checks.compare(name, value, "neuro_table")


def check_quantisers(case: Case, checks: Checks, tables: Tables) -> None:
    """Numbers to bins, and the gradients of three losses by signals."""
    phase = quantise_phase(jnp.asarray(case["cont_phase"]), tables.phase_bins)
    checks.compare("q_phase", phase, "exact")
    mag = quantise_magnitude(jnp.asarray(case["cont_mag"]), tables.mag_bins)
    checks.compare("q_mag", mag, "exact")
    values = case["aq_values"].astype(np.float64)
    share, log_share = _min_max(values), _min_max(np.log(np.abs(values) + 1e-8))
    checks.compare("aq_phase", _bins(np.sqrt(share), tables.phase_bins), "exact")
    checks.compare("aq_mag", _bins(log_share, tables.mag_bins), "exact")
    apart = case["lg_pred"].astype(np.float64) - case["lg_target"]
    checks.compare("lg_mse", 2 * apart, "neuro_table")
    checks.compare("lg_l1", np.sign(apart), "exact")
    norm = np.linalg.norm(apart, axis=-1, keepdims=True)
    checks.compare("lg_cosine", apart / (norm + 1e-8), "neuro_table")


def check_updates(case: Case, checks: Checks, tables: Tables) -> None:
    """The stateless rule on rows, and the accumulating one over steps of one node."""
    rates = Rates(float(case["lr_phase"]), float(case["lr_mag"]))
    steps = steps_in_bins(_gradient(case, "upd_grad"), tables, rates)
    updates = stateless_updates(steps)
    moved = apply_updates(
        Indices(jnp.asarray(case["app_phase"]), jnp.asarray(case["app_mag"])), updates, tables
    )
    gradients = _gradient(case, "acc_grad")
    left = Residuals(*(jnp.zeros(x.shape[1]) for x in gradients))
    rows = []
    for row in zip(*gradients, strict=True):
        made, left = accumulated_updates(left, steps_in_bins(IndexGradient(*row), tables, rates))
        rows.append([*made, *left])
    made = [np.stack(column) for column in zip(*rows, strict=True)]
    for i, name in enumerate(("phase", "mag")):
        checks.compare(f"upd_{name}", updates[i], "exact")
        checks.compare(f"app_new_{name}", moved[i], "exact")
        checks.compare(f"acc_upd_{name}", made[i], "exact")
        checks.compare(f"acc_state_{name}", made[2 + i], "neuro_table")
    checks.compare("acc_threshold", RESIDUAL_THRESHOLD, "exact")


def check_resolution(checks: Checks, tables: Tables) -> None:
    """What the original reports about its tables; its older ones had 8 x 256 bins."""
    n, m = tables.phase_bins, tables.mag_bins
    for name, value in {
        "phase_bins": n,
        "mag_bins": m,
        "total_combinations": n * m,
        "resolution_vs_legacy": n / 8 * (m / 256),
        "memory_mb": 4 * (3 * n + 4 * m) / 2**20,
        "phase_resolution": tables.phase_width,
        "mag_resolution": tables.seed_mag_width,
    }.items():
        checks.compare(f"info_{name}", value, "float64")


def _gradient(case: Case, prefix: str) -> IndexGradient:
    return IndexGradient(*(jnp.asarray(case[f"{prefix}_{name}"]) for name in ("phase", "mag")))


def _min_max(values: np.ndarray) -> np.ndarray:
    span = values.max() - values.min()
    return (values - values.min()) / span if span else np.zeros_like(values)


def _bins(share: np.ndarray, bins: int) -> np.ndarray:
    return np.clip(np.floor(share * bins), 0, bins - 1)
