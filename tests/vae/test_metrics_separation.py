"""Separation scores equal the original's on its golden case, and their nulls hold."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxgraph.vae.metrics.classwise import classwise
from jaxgraph.vae.metrics.moments import trace_ratio
from jaxgraph.vae.metrics.monitor import monitor, rows_needed, tracker
from jaxgraph.vae.metrics.nulls import (
    adjusted_eta_squared,
    adjusted_trace_ratio,
    null_monitor,
    null_trace_ratio,
    permutation_test,
    separation,
    squared_distance,
)

GOLDEN = Path(__file__).parent.parent / "parity" / "vae"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "sep_metrics.npz"))


def draw(rows, width=36, classes=3, seed=0, shift=0.0):
    """Normal features, class c moved by `shift` along axis c, and labels in turns."""
    labels = np.arange(rows) % classes
    z = np.random.default_rng(seed).normal(size=(rows, width))
    return z + shift * np.eye(classes, width)[labels], labels


def test_monitor(golden):
    z, labels, options = golden["in/z"], golden["in/labels"], json.loads(str(golden["config"]))
    report = monitor(z, labels, ridge=options["cov_eps"])
    expected = json.loads(str(golden["out/monitor_json"]))
    assert report.keys() == expected.keys()
    for name, value in expected.items():
        assert report[name] == pytest.approx(value, abs=1e-12)
    assert rows_needed(12) == golden["out/monitor_min_required"] and rows_needed(36) == 44
    # The ridge of 0.1 in 12 dimensions adds 1.2 to the trace of the denominator.
    without = monitor(z, labels, ridge=options["cov_eps"], ridge_in_trace=False)
    plain = monitor(z, labels, ridge=0.0)
    assert without["latent_fisher"] == pytest.approx(plain["latent_fisher"], rel=1e-12)
    assert without["latent_fisher"] > report["latent_fisher"] * 1.01


def test_tracker(golden):
    options = json.loads(str(golden["config"]))
    report = tracker(golden["in/z"], golden["in/labels"], ridge=options["tracker_eps"])
    ours = [report[name] for name in ("fisher", "md_01", "md_02", "md_12")]
    np.testing.assert_allclose(ours, golden["out/tracker"], rtol=1e-5)
    assert [report[f"n_{c}"] for c in range(3)] == golden["out/tracker_counts"].tolist()


def test_only_the_newest_rows_count():
    z, labels = draw(300, width=4)
    old = np.concatenate([z + 9, z]), np.concatenate([labels, labels])
    assert monitor(*old, newest=100) == monitor(z, labels)
    assert tracker(*old, newest=100) == tracker(z, labels)
    assert monitor(*old)["n_c0"] == 200


def test_too_few_rows():
    z, labels = draw(120, width=4)
    assert monitor(z, labels) is not None
    assert monitor(z[labels > 0], labels[labels > 0]) is None
    partly = tracker(z[labels > 0], labels[labels > 0])
    assert partly["md_01"] == partly["md_02"] == partly["n_0"] == 0 < partly["md_12"]
    assert tracker(z[labels == 1], labels[labels == 1]) is None
    assert tracker(z[:2], labels[:2]) is None


def test_trace_ratio(golden):
    z, labels = golden["in/z"], golden["in/labels"]
    assert trace_ratio(z, labels) == pytest.approx(float(golden["out/fisher_trace_f64"]), rel=1e-5)
    turned = z @ np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    assert trace_ratio(3 * turned + 1, labels) == pytest.approx(trace_ratio(z, labels), rel=1e-6)


def test_nulls():
    """The table of spec/vae.md, section 9, and draws beside it."""
    table = {16: 0.155, 32: 0.070, 64: 0.033, 1024: 0.0020}
    for rows, value in table.items():
        assert null_trace_ratio(rows, 3, 36) == pytest.approx(value, rel=0.025)
    ratios = [trace_ratio(*draw(32, seed=seed)) for seed in range(300)]
    assert np.mean(ratios) == pytest.approx(null_trace_ratio(32, 3, 36), rel=0.03)
    # The table of section 11: Fisher's mean, and the Mahalanobis distance.
    for rows, fisher, distance in ((300, 0.0022, 0.494), (333, 0.0020, 0.474), (400, 0.0017, 0.43)):
        expected = null_monitor(rows, 3, 36, 1e-2)
        # The distances there were simulated; the formula holds for many more rows than dimensions.
        assert expected == (pytest.approx(fisher, abs=6e-5), pytest.approx(distance, rel=0.04))
    reports = [monitor(*draw(900, seed=seed)) for seed in range(30)]
    fisher, distance = null_monitor(300, 3, 36, 1e-2)
    assert np.mean([r["latent_fisher"] for r in reports]) == pytest.approx(fisher, rel=0.06)
    assert np.mean([r["mahal_01"] for r in reports]) == pytest.approx(distance, rel=0.06)


def test_corrected_forms_have_no_bias():
    null = [draw(48, width=6, seed=seed) for seed in range(400)]
    ratios = np.array([trace_ratio(*rows) for rows in null])
    f = [adjusted_trace_ratio(ratio, 48, 3) for ratio in ratios]
    assert np.mean(f) == pytest.approx(1, abs=0.08)
    eta = [adjusted_eta_squared(ratio, 48, 3) for ratio in ratios]
    assert abs(np.mean(eta)) < 4 * np.std(eta) / 20
    squares = [squared_distance(*rows, (0, 2)) for rows in null]
    assert abs(np.mean(squares)) < 4 * np.std(squares) / 20 and min(squares) < 0
    apart = [squared_distance(*draw(48, 6, seed=seed, shift=1.5), (0, 2)) for seed in range(400)]
    assert np.mean(apart) == pytest.approx(2 * 1.5**2, abs=4 * np.std(apart) / 20)


def test_squared_distance_needs_rows_and_full_rank():
    z, labels = draw(12, width=36)
    with pytest.raises(ValueError, match="too few for width 36"):
        squared_distance(z, labels, (0, 1))
    flat = draw(90, width=3)[0] * np.array([[1, 1, 0]])
    with pytest.raises(ValueError, match="drop constant features"):
        squared_distance(flat, draw(90)[1], (0, 1))


def test_permutations_are_calibrated_and_find_what_is_there():
    apart = separation(*draw(300, width=8, shift=1.0))
    assert apart.permuted.p_value == 1 / 201 and apart.adjusted > 5 and apart.eta_squared > 0.05
    null = [separation(*draw(60, width=8, seed=seed), permutations=40) for seed in range(60)]
    p_values = np.array([score.permuted.p_value for score in null])
    assert abs(p_values.mean() - 0.5) < 0.15 and p_values.min() >= 1 / 41
    assert (p_values <= 0.1).mean() < 0.25
    means = np.mean([score.permuted.null_mean for score in null])
    assert means == pytest.approx(null[0].null, rel=0.05)


def test_labels_of_separation_may_be_any_integers():
    z, labels = draw(90, width=4)
    other = np.array([7, -2, 3])[labels]
    assert separation(z, other, permutations=3).permuted.value == pytest.approx(
        separation(z, labels, permutations=3).permuted.value
    )


def test_p_values_count_the_value_itself():
    constant = permutation_test(lambda labels: 1.0, np.arange(5), permutations=9)
    assert constant.p_value == 1.0
    last = permutation_test(lambda labels: float(labels[-1] == 9), np.arange(10), permutations=99)
    assert last.p_value == pytest.approx(0.1, abs=0.1)


def test_classwise():
    case = dict(np.load(GOLDEN / "real_freebits_gelu.npz"))
    report = classwise(
        case["out/nll_ps"],
        case["out/kl_ps"],
        case["in/x"],
        case["out/pi_logits"],
        case["out/z"],
        case["out/y_remapped"],
    )
    expected = json.loads(str(case["out/classwise_json"]))
    assert report.keys() == expected.keys()
    for name, value in expected.items():
        assert report[name] == pytest.approx(value, rel=2e-5, abs=2e-5), name


def test_classwise_with_a_class_of_one_row_and_one_of_none():
    z, _ = draw(5, width=4)
    nll = np.arange(5.0)
    report = classwise(nll, nll, z, z, z, np.array([0, 0, 0, 1, -1]))
    assert report["nll_c1"] == 3 and report["dnll_10"] == 2
    assert "z_var_min_c0" in report and "z_var_min_c1" not in report
    assert not [name for name in report if "2" in name]
