"""Golden tables and metrics of the mixture VAE: labels, schedules, widths, separation, packets."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases.vae_model import precision
from jaxgraph.vae.config import Separability
from jaxgraph.vae.divergence import beta_schedule
from jaxgraph.vae.separability import compact_labels, fisher_ratio, map_labels, weight_schedule
from jaxgraph.vae.widths import layer_widths


def recognises(case: Case) -> bool:
    return _handler(case) is not None


def check(case: Case, checks: Checks) -> None:
    _handler(case)(case, checks)


def check_labels(case: Case, checks: Checks) -> None:
    """Both numberings; the labels are 64-bit."""
    with precision(double=True):
        for name, labels in case.below("in/labels_").items():
            labels = jnp.asarray(labels)
            checks.compare(f"out/unique_{name}", jnp.unique(labels), "exact")
            checks.compare(f"out/remap_{name}", compact_labels(labels), "exact")
            checks.compare(f"out/canonical_{name}", map_labels(labels), "exact")


def check_schedules(case: Case, checks: Checks) -> None:
    """Weights over the steps, and layer widths, in float64 as the original's."""
    steps = case["in/steps"]
    with precision(double=True):
        beta = [beta_schedule(steps, *_numbers(row)) for row in case["in/beta_args"]]
        weight = [weight_schedule(steps, *_numbers(row)) for row in case["in/lambda_args"]]
        checks.compare("out/beta", np.array(beta), "exact")
        checks.compare("out/lambda", np.array(weight), "exact")
    if "out/widths_json" in case.arrays:
        table = json.loads(str(case["out/widths_json"]))
        ours, theirs = [], []
        for row in table:
            for name, smallest in (("base", 2), ("freebits", 1)):
                widths = layer_widths(row["D"], row["L"], row["cap"], smallest)
                ours.append((widths[-1], widths))
                theirs.append((row[f"{name}_Z"], tuple(row[f"{name}_widths"])))
        wrong = sum(a != b for a, b in zip(ours, theirs, strict=True))
        checks.compare_with("out/widths_json", wrong, 0, "exact")


def check_metrics(case: Case, checks: Checks) -> None:
    """The Fisher ratio under several gates, and its gradient."""
    z, labels = case["in/z"], case["in/labels"]
    expected = case.below("out/fisher_trace_")

    def ratio(z, labels=labels, smallest=2):
        options = Separability(eps=1e-6, min_per_class=max(1, smallest))
        classes = int(labels.max()) + 1
        return fisher_ratio(
            z, jnp.asarray(labels), classes=classes, options=options, absent="gate"
        ).fisher

    for name in expected:
        if name.removeprefix("min").isdecimal():
            ours = ratio(z, smallest=int(name.removeprefix("min")))
            checks.compare(f"out/fisher_trace_{name}", ours, "vae_value")
    checks.compare("out/fisher_trace_grad", jax.grad(ratio)(jnp.asarray(z)), "vae_gradient")
    gap = np.where(labels == 1, 2, labels)
    checks.compare("out/fisher_trace_gap_class1_missing", ratio(z, gap), "vae_value")
    single = np.zeros_like(labels)
    checks.compare("out/fisher_trace_single_class", ratio(z, single), "vae_value")
    with precision(double=True):
        checks.compare("out/fisher_trace_f64", ratio(jnp.asarray(z, jnp.float64)), "float64")


def check_separation(checks: Checks, z: Any, labels: Any) -> None:
    """Filled in with the metrics."""


def check_packets(case: Case, checks: Checks) -> None:
    """Filled in with the packets."""


HANDLERS: dict[str, Callable[[Case, Checks], None]] = {
    "in/labels_0": check_labels,
    "in/beta_args": check_schedules,
    "out/monitor_json": check_metrics,
    "out/packet": check_packets,
}
"""By an entry that only such a case has."""


def _handler(case: Case) -> Callable[[Case, Checks], None] | None:
    return next((do for name, do in HANDLERS.items() if name in case.arrays), None)


def _numbers(row: np.ndarray) -> list:
    first, *steps = row
    return [float(first), *map(int, steps)]
