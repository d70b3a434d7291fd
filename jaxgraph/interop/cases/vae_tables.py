"""Golden tables and metrics of the mixture VAE: labels, schedules, separation, packets."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.data.packets import BadPacket, Packet, read_packet, write_packet
from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases.vae_model import precision
from jaxgraph.vae.bits import unpack_bits
from jaxgraph.vae.config import Separability
from jaxgraph.vae.divergence import beta_schedule
from jaxgraph.vae.metrics.guard import Thresholds, dp_decision, dp_score, snapshot
from jaxgraph.vae.metrics.logistic import original_probe
from jaxgraph.vae.metrics.monitor import monitor, rows_needed, tracker
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
    z, labels = jnp.asarray(case["in/z"]), case["in/labels"]
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
    checks.compare("out/fisher_trace_grad", jax.grad(ratio)(z), "vae_gradient")
    gap = np.where(labels == 1, 2, labels)
    checks.compare("out/fisher_trace_gap_class1_missing", ratio(z, gap), "vae_value")
    single = np.zeros_like(labels)
    checks.compare("out/fisher_trace_single_class", ratio(z, single), "vae_value")
    with precision(double=True):
        wide = jnp.asarray(case["in/z"], jnp.float64)
        checks.compare("out/fisher_trace_f64", ratio(wide), "float64")
    check_windows(case, checks)


def check_windows(case: Case, checks: Checks) -> None:
    """The two window statistics, and the probe of the original without its broken call."""
    z, labels, meta = case["in/z"], case["in/labels"], case.meta
    found = monitor(z, labels, ridge=meta["cov_eps"], newest=meta["window"])
    compare_report(checks, "out/monitor_json", found, "float64")
    checks.compare("out/monitor_min_required", rows_needed(z.shape[1]), "exact")
    found = tracker(z, labels, ridge=meta["tracker_eps"], newest=meta["window"])
    compare_tracker(checks, found, "vae_value")
    probe = original_probe(z, labels)
    if probe is not None:
        checks.compare("out/probe_accuracy", probe.accuracy, "exact")
        checks.compare("out/probe_train_idx", probe.train, "exact")
        checks.compare("out/probe_test_idx", probe.test, "exact")
        checks.compare("out/probe_test_pred", probe.predicted, "exact")
        checks.compare("out/probe_coef", probe.model.coef, "vae_gradient")
        checks.compare("out/probe_intercept", probe.model.intercept, "vae_gradient")


def compare_tracker(checks: Checks, found: dict[str, float] | None, kind: str) -> None:
    """The tracker's snapshot, in the order of the cases."""
    found = found or {}
    values = [found.get(name, np.nan) for name in ("fisher", "md_01", "md_02", "md_12")]
    checks.compare("out/tracker", np.array(values), kind)
    counts = np.array([found.get(f"n_{label}", np.nan) for label in range(3)])
    checks.compare("out/tracker_counts", counts, "exact")


def compare_report(checks: Checks, name: str, found: dict[str, Any] | None, kind: str) -> None:
    """Compares a report that the case holds as JSON; numbers by value, words as equal or not."""
    if name not in checks.case.arrays:
        return
    expected, found = json.loads(str(checks.case[name])), found or {}
    words = {key for key, value in expected.items() if isinstance(value, str)}
    ours = [
        float(found.get(key) == expected[key]) if key in words else found.get(key, np.nan)
        for key in expected
    ]
    theirs = [1.0 if key in words else value for key, value in expected.items()]
    checks.compare_with(name, np.array(ours, float), np.array(theirs, float), kind)


def check_packets(case: Case, checks: Checks) -> None:
    """Packets written and read again, their bits, and the guard's verdicts on what they hold."""
    bits, numbers, vectors = case.meta["bits"], case["in/raw_bytes"], case["in/x"]
    try:
        read = [read_packet(packet.tobytes(), bits) for packet in case["out/packet"]]
    except BadPacket:
        read = []  # agrees with nothing
    # A sender's sequence numbers stand in its packets only.
    places = [packet.seq for packet in read] or range(len(numbers))
    columns = zip(case["in/labels"], numbers, vectors, places, strict=True)
    sent = [Packet(int(label), number, vector, seq) for label, number, vector, seq in columns]
    ours = np.array([list(write_packet(packet)) for packet in sent], np.uint8)
    checks.compare("out/packet", ours, "exact")
    for name, values in {
        "in/raw_bytes": [packet.number for packet in read],
        "in/labels": [packet.label for packet in read],
        "in/x": [packet.vector for packet in read],
    }.items():
        checks.compare(name, np.array(values), "exact")
    packed = np.array([packet.bits for packet in read], np.uint8).reshape(-1, bits // 8)
    checks.compare("out/bits", np.asarray(unpack_bits(jnp.asarray(packed))), "exact")
    limits = Thresholds(**{THRESHOLDS[key]: value for key, value in case.meta["dp_cfg"].items()})
    for name, suffix in (("in/x", ""), ("in/x_uniform", "_uniform")):
        if name in case.arrays:
            shot = snapshot(case[name])
            report = {SNAPSHOT.get(key, key): value for key, value in shot.items()}
            compare_report(checks, f"out/guard_snapshot{suffix}_json", report, "exact")
            verdict = {"dp_score": dp_score(shot, limits), "decision": dp_decision(shot, limits)}
            compare_report(checks, f"out/guard_dp{suffix}_json", shot | verdict, "exact")


SNAPSHOT = {"mid": "mid(0.1-0.9)", "entropy": "entropy_proxy_E[x(1-x)]"}
THRESHOLDS = {
    "mid_threshold": "mid", "entropy_threshold": "entropy", "mean_range_min": "mean_min",
    "mean_range_max": "mean_max", "low_mid_threshold": "low_mid",
    "low_entropy_threshold": "low_entropy",
}  # fmt: skip
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
