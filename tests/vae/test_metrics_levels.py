"""Analytic levels against the generator: what a trivial predictor gets is what the text says."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxgraph.data.number_classes import draw_chunk
from jaxgraph.data.numbers import pack
from jaxgraph.data.primes import make_is_prime
from jaxgraph.vae.metrics.controls import low_bits, low_parity
from jaxgraph.vae.metrics.features import raw_bits
from jaxgraph.vae.metrics.guard import Thresholds, dp_decision, dp_score, snapshot
from jaxgraph.vae.metrics.intervals import wilson
from jaxgraph.vae.metrics.levels import (
    HARD_TOP_BIT,
    LEADING_ACCURACY,
    LEADING_THRESHOLD,
    TOP_BIT_ACCURACY,
    bit_shares,
    constant_decoder,
    leading_hits,
    noise_floor,
    rate_line,
    top_bit_hits,
    unlimited_gain,
)
from jaxgraph.vae.metrics.probe import probe

SIGMA = 0.05
PER_CLASS = 2000
PACKETS = Path(__file__).parent.parent / "parity" / "vae" / "data_packets.npz"


def draw(generator):
    """256-bit numbers, packed, and labels."""
    settings = {"bits": 256, "generator": generator, "seed": 1, "is_prime": make_is_prime()}
    numbers, labels = [], []
    for label in (0, 1, 2):
        for chunk in range(PER_CLASS // 500):
            drawn = draw_chunk(label, chunk, **settings)
            numbers += [pack(n, 256) for n in drawn]
            labels += [label] * len(drawn)
    return np.stack(numbers), np.array(labels)


@pytest.fixture(scope="module")
def faithful():
    return draw("faithful")


@pytest.fixture(scope="module")
def debiased():
    return draw("debiased")


def test_constants():
    """The figures of spec/vae.md, section 17."""
    assert noise_floor(256, SIGMA) == pytest.approx(-403.659, abs=5e-4)
    assert noise_floor(256, SIGMA) + 254 * np.log(2) == pytest.approx(-227.600, abs=5e-4)
    assert pytest.approx(0.6137, abs=5e-5) == HARD_TOP_BIT
    assert pytest.approx(0.4621, abs=5e-5) == TOP_BIT_ACCURACY
    assert pytest.approx(2.4261, abs=5e-5) == LEADING_THRESHOLD
    assert pytest.approx(0.4754, abs=5e-5) == LEADING_ACCURACY
    gain = unlimited_gain(256)
    assert gain["prime"] == pytest.approx(np.log(88.6), abs=2e-3)
    assert gain["hard"] == pytest.approx(np.log(15_600), abs=5e-3)
    assert rate_line(0.0, 256, SIGMA) == pytest.approx(-227.600, abs=5e-4)
    assert rate_line(10.0, 256, SIGMA) == pytest.approx(-237.600, abs=5e-4)
    assert rate_line(1e9, 256, SIGMA) == noise_floor(256, SIGMA)


def test_constant_decoder_on_the_generator(faithful):
    packed, labels = faithful
    assert constant_decoder(bit_shares(packed), SIGMA) == pytest.approx(-227.216, abs=0.06)
    pooled = bit_shares(packed)
    for label, level in ((0, -227.47), (1, -227.47), (2, -226.72)):
        own = bit_shares(packed[labels == label])
        assert constant_decoder(own, SIGMA, pooled) == pytest.approx(level, abs=0.08)


def test_constant_decoder_is_the_mixture_likelihood(faithful):
    """Against the density itself, on noisy bits."""
    bits = raw_bits(faithful[0]).astype(np.float64)
    x = bits + SIGMA * np.random.default_rng(0).normal(size=bits.shape)
    share = bits.mean(0)
    with np.errstate(divide="ignore"):
        one = np.log(share) - ((x - 1) / SIGMA) ** 2 / 2
        zero = np.log1p(-share) - (x / SIGMA) ** 2 / 2
    log_p = np.logaddexp(one, zero) - np.log(SIGMA) - np.log(2 * np.pi) / 2
    nll = -log_p.sum(1)
    standard_error = nll.std() / np.sqrt(len(nll))
    expected = constant_decoder(share, SIGMA)
    assert abs(nll.mean() - expected) < 4 * standard_error < 0.7


def test_constant_decoder_that_rules_a_bit_out():
    certain = constant_decoder(np.array([0.0, 1.0]), SIGMA)
    assert certain == noise_floor(2, SIGMA)
    assert constant_decoder(np.array([0.5]), SIGMA, np.array([1.0])) == np.inf


def test_leading_bit_rules(faithful, debiased):
    for rule, level in ((top_bit_hits, TOP_BIT_ACCURACY), (leading_hits, LEADING_ACCURACY)):
        low, high = wilson(*rule(*faithful), deviations=3.5)
        assert low < level < high and high - low < 0.05, rule
    # Debiased: chance, and the threshold is passed by 1 in 4.7 of each class.
    for rule in (top_bit_hits, leading_hits):
        low, high = wilson(*rule(*debiased), deviations=3.5)
        assert low < 1 / 3 < high, rule


def test_the_linear_probe_reads_the_artefact_and_nothing_else(faithful, debiased):
    """Faithful bits: between chance and the ceiling of leading bits. Debiased: chance."""
    for (packed, labels), there in ((faithful, True), (debiased, False)):
        order = np.random.default_rng(0).permutation(len(labels))
        parts = order[:3600], order[3600:4200], order[4200:]
        rows = [(raw_bits(packed[part])[:, -16:], labels[part]) for part in parts]
        found = probe("linear", *rows, permutations=200)
        assert (found.p_value < 0.01) == there
        assert (found.low > 1 / 3 + 0.05) == there
        assert found.low < (LEADING_ACCURACY if there else 1 / 3 + 0.001)


@pytest.mark.parametrize(("labels", "kind"), [(low_bits, "linear"), (low_parity, "mlp")])
def test_controls_are_found(debiased, labels, kind):
    """Positive control on the numbers themselves, in which no class is found linearly."""
    packed = debiased[0][:3000]
    y = labels(packed)
    digits = raw_bits(packed)
    value = digits[:, 1] + 2 * digits[:, 2]
    expected = value if kind == "linear" else np.isin(value, (1, 2))
    np.testing.assert_array_equal(y, expected)
    parts = slice(0, 1800), slice(1800, 2100), slice(2100, 3000)
    rows = [(digits[part, :16], y[part]) for part in parts]
    assert probe(kind, *rows, permutations=200).low > 0.95
    if kind == "mlp":
        linear = probe("linear", *rows, permutations=200)
        assert linear.low < 0.5 and linear.p_value > 0.01


def test_guard():
    case = dict(np.load(PACKETS))
    options = json.loads(str(case["config"]))["dp_cfg"]
    limits = Thresholds(
        options["mid_threshold"],
        options["entropy_threshold"],
        options["mean_range_min"],
        options["mean_range_max"],
        options["low_mid_threshold"],
        options["low_entropy_threshold"],
    )
    assert limits == Thresholds()
    for suffix in ("", "_uniform"):
        shot = snapshot(case[f"in/x{suffix}"])
        expected = json.loads(str(case[f"out/guard_snapshot{suffix}_json"]))
        names = {"mid(0.1-0.9)": "mid", "entropy_proxy_E[x(1-x)]": "entropy"}
        for name, value in expected.items():
            assert shot[names.get(name, name)] == value, name
        verdict = json.loads(str(case[f"out/guard_dp{suffix}_json"]))
        assert dp_score(shot) == verdict["dp_score"]
        assert dp_decision(shot) == verdict["decision"]


def test_guard_decisions():
    shot = {"mid": 0.9, "entropy": 0.22, "mean": 0.5}
    assert dp_decision(shot) == "DP" and dp_score(shot) == pytest.approx(1.0)
    assert dp_decision(shot | {"mean": 0.7}) == "INCONCLUSIVE"
    assert dp_decision({"mid": 0.02, "entropy": 0.0, "mean": 0.9}) == "NO_DP"


def test_guard_of_the_stream():
    """sigma 0.05: mid 0.0228, entropy -sigma**2, never DP (spec/vae.md, section 15)."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 2, (500, 256)) + SIGMA * random.normal(size=(500, 256))
    shot = snapshot(bits.astype(np.float32))
    assert shot["mid"] == pytest.approx(0.0228, abs=0.002)
    assert shot["entropy"] == pytest.approx(-(SIGMA**2), abs=0.0005)
    assert dp_decision(shot) == "NO_DP"
