"""Probes find what is there and nothing else; the original's probe is met exactly."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from jaxgraph.vae.metrics.features import principal_components, raw_bits, top_bits
from jaxgraph.vae.metrics.intervals import wilson
from jaxgraph.vae.metrics.logistic import fit_logistic, original_probe, stratified_split
from jaxgraph.vae.metrics.probe import judge, probe

GOLDEN = Path(__file__).parent.parent / "parity" / "vae" / "sep_metrics.npz"
kinds = pytest.mark.parametrize("kind", ["linear", "mlp"])


def splits(x, y):
    """Four tenths to train on, a tenth to choose, half to judge."""
    a, b = int(0.4 * len(y)), int(0.5 * len(y))
    return (x[:a], y[:a]), (x[a:b], y[a:b]), (x[b:], y[b:])


def bits(rows, width, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (rows, width)).astype(np.float32)


def test_the_original_probe():
    case = dict(np.load(GOLDEN))
    found = original_probe(case["in/z"], case["in/labels"])
    np.testing.assert_array_equal(found.train, case["out/probe_train_idx"])
    np.testing.assert_array_equal(found.test, case["out/probe_test_idx"])
    np.testing.assert_array_equal(found.predicted, case["out/probe_test_pred"])
    assert found.accuracy == float(case["out/probe_accuracy"])
    np.testing.assert_allclose(found.model.coef, case["out/probe_coef"], atol=1e-4)
    np.testing.assert_allclose(found.model.intercept, case["out/probe_intercept"], atol=1e-4)


def test_the_original_probe_drops_rows_and_may_have_too_few():
    case = dict(np.load(GOLDEN))
    z, labels = case["in/z"], case["in/labels"]
    broken = np.concatenate([z, np.full((3, 12), np.nan, np.float32)])
    dropped = original_probe(broken, np.concatenate([labels, [0, 1, 2]]))
    assert dropped.accuracy == original_probe(z, labels).accuracy
    # Labels are numbered anew: the DP stream's give the same.
    assert original_probe(z, labels + 3).accuracy == dropped.accuracy
    assert original_probe(z[:11], np.arange(11) % 3) is None
    assert original_probe(z, np.zeros(len(z), int)) is None


@pytest.mark.parametrize("counts", [(300, 260, 220), (40, 41, 7), (33, 33, 33), (50, 17)])
def test_splits_are_scikit_learns(counts):
    model_selection = pytest.importorskip("sklearn.model_selection")
    y = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    expected = model_selection.train_test_split(
        np.arange(len(y)), train_size=0.8, test_size=1.0 - 0.8, stratify=y, random_state=42
    )
    for ours, theirs in zip(stratified_split(y, 0.8), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_is_scikit_learns(classes):
    linear_model = pytest.importorskip("sklearn.linear_model")
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 5))
    y = (x[:, :classes] + random.normal(size=(200, classes))).argmax(1)
    # Two classes: one vector of weights there; see `original_probe`.
    c = 0.3
    theirs = linear_model.LogisticRegression(C=2 * c if classes == 2 else c, tol=1e-8).fit(x, y)
    ours = fit_logistic(x, y, c=c, tol=1e-8)
    logits = x @ ours.coef.T + ours.intercept
    share = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    np.testing.assert_allclose(share, theirs.predict_proba(x), atol=1e-5)
    picked = share[np.arange(200), y]
    assert ours.loss(x, y) == pytest.approx(-np.log(picked).mean())


@kinds
def test_linear_structure_is_found(kind):
    """Positive control: the class is written in two bits, one in ten of them wrong."""
    x = bits(1500, 12)
    y = (2 * x[:, 3] + x[:, 7]).astype(int)
    y = np.where(np.random.default_rng(1).random(1500) < 0.1, (y + 1) % 4, y)
    found = probe(kind, *splits(x, np.array([5, 0, 3, 9])[y]), permutations=200)
    assert found.p_value == 1 / 201
    assert found.low <= found.accuracy <= found.high and found.low < 0.9 < found.high
    assert found.balanced == pytest.approx(found.accuracy, abs=0.03)
    assert found.null_mean == pytest.approx(0.25, abs=0.03) and found.rows == 750


def test_only_the_perceptron_finds_a_parity():
    """Positive control of the perceptron: n mod 3 of two bits would be linear, their XOR is not."""
    x = bits(2000, 6)
    rows = splits(x, (x[:, 1] != x[:, 4]).astype(int))
    assert probe("mlp", *rows, permutations=200).low > 0.9
    linear = probe("linear", *rows, permutations=200)
    assert linear.low < 0.5 and linear.p_value > 0.01


@kinds
def test_nothing_is_found_where_nothing_is(kind):
    """Chance within the interval, though 30 features meet 480 rows."""
    labels = np.random.default_rng(3).integers(0, 3, 1200)
    found = probe(kind, *splits(bits(1200, 30), labels), permutations=200)
    assert found.low < 1 / 3 < found.high and found.p_value > 0.01


def test_scale_and_offset_of_features_do_not_matter():
    """A collapsed dimension is read like any other."""
    x = bits(600, 4)
    y = x[:, 2].astype(int)
    shrunk = x * 1e-6 + np.array([[0, 5, 0.1, 0]], np.float32)
    shrunk[:, 0] = 7.0  # constant: divided by nothing
    assert probe("linear", *splits(shrunk, y), permutations=20).accuracy == 1.0


def test_a_probe_refuses_what_it_cannot_judge():
    x, y = bits(100, 3), np.arange(100) % 2
    with pytest.raises(ValueError, match=r"classes \[4\] are not in the training split"):
        probe("linear", (x, y), (x, y), (x, y * 4))
    with pytest.raises(ValueError, match="not finite"):
        probe("linear", (x, y), (x, y), (x * np.nan, y))


def test_p_values_of_predictions_are_exact():
    """Ten right answers out of ten for two classes of five: 1 in 252 shufflings does as well."""
    labels = np.repeat([0, 1], 5)
    perfect = judge(labels, labels, 0, "", permutations=20_000)
    assert perfect.p_value == pytest.approx(1 / math.comb(10, 5), rel=0.4)
    assert judge(1 - labels, labels, 0, "", permutations=50).p_value == 1.0
    constant = judge(np.zeros(10, int), labels, 0, "", permutations=50)
    assert constant.p_value == 1.0 and constant.accuracy == constant.chance == 0.5
    skewed = judge(np.zeros(10, int), np.repeat([0, 1], [8, 2]), 0, "", permutations=5)
    assert skewed.accuracy == skewed.chance == 0.8 and skewed.balanced == 0.5


def test_wilson():
    # Newcombe 1998, table I.
    assert wilson(81, 263) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    assert wilson(0, 20) == (0.0, pytest.approx(0.1611, abs=5e-5))
    assert wilson(20, 20)[1] == 1.0
    # It covers the truth in 95 %, here on average over true shares.
    limits = np.array([wilson(hits, 60) for hits in range(61)])
    coverage = [
        binom.pmf(np.arange(61), 60, share)[(limits[:, 0] < share) & (share < limits[:, 1])].sum()
        for share in np.linspace(0.05, 0.95, 91)
    ]
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.005) and min(coverage) > 0.9


def test_features():
    packed = np.array([[1, 128], [255, 0]], np.uint8)
    assert raw_bits(packed).tolist() == [[1] + [0] * 14 + [1], [1] * 8 + [0] * 8]
    assert top_bits(packed, 2).tolist() == [[0, 1], [0, 0]]
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 5)) * np.array([[1, 5, 0.1, 3, 0.2]]) + 2
    train, test = principal_components(x[:300], x[300:], count=2)
    spread = train.std(0)
    assert spread == pytest.approx([5, 3], rel=0.1) and abs(np.corrcoef(train.T)[0, 1]) < 1e-6
    assert abs(np.corrcoef(test[:, 0], x[300:, 1])[0, 1]) > 0.99
    assert np.abs(train.mean(0)).max() < 1e-6
