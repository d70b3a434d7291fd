"""What is found where structure exists, where none exists, and in a collapsed model."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.vae.config import Evaluation
from jaxgraph.vae.evaluation import Rows
from jaxgraph.vae.examination import bounds, examine
from jaxgraph.vae.metrics.levels import LEADING_ACCURACY, TOP_BIT_ACCURACY, noise_floor
from jaxgraph.vae.model import MixtureVae
from jaxgraph.vae.structure import Structure, number_structure
from tests.vae import models

QUICK = Evaluation(samples=2, probe_rows=500, permutations=50)


class Source:
    """Random bits, of which bit 5 is the class; bit 9 is a control. Each row comes twice."""

    inputs, class_of = models.INPUTS, (0, 1)

    def packed(self, split):
        rng = np.random.default_rng(len(split))
        return np.repeat(rng.integers(0, 256, (300, 3), np.uint8), 2, axis=0)

    def labels(self, split):
        return (self.packed(split)[:, 0] >> 5 & 1).astype(np.int32)

    def structure(self):
        return Structure(controls={"bit 9": lambda packed: (packed[:, 1] >> 1 & 1).astype(int)})


@pytest.fixture(scope="module")
def findings():
    model = MixtureVae(models.small())
    params = models.random_params(model.config)
    head = {name: jnp.zeros_like(part) for name, part in params["encoder_head"].items()}
    return examine(model, params | {"encoder_head": head}, Source(), QUICK, "test", seed=0)


def rows_of(findings, section, **wanted):
    return [r for r in findings[section] if wanted.items() <= r.items()]


def test_findings_are_json_and_count_each_row_once(findings):
    json.dumps(findings, allow_nan=False)
    assert findings["bounds"]["rows"] == 300
    assert {row["rows"] for row in findings["probes of the class"]} == {300}


def test_a_collapsed_encoder_is_called_so_and_its_probes_find_nothing(findings):
    assert findings["bounds"]["posterior"].startswith("collapsed")
    assert findings["bounds"]["kl"] == 0 == findings["bounds"]["active_units"]
    found = rows_of(findings, "probes of the class", features="mu")
    assert len(found) == 2
    for row in found:
        assert row["interval"][0] <= row["chance"] <= row["interval"][1] and row["p"] > 0.5
    (row,) = rows_of(findings, "separation of the classes", features="mu")
    assert row["J"] is None


def test_what_is_there_is_found_in_the_bits_and_in_an_untrained_encoder(findings):
    for section in ("probes of the class", "positive controls"):
        for row in rows_of(findings, section, features="raw bits"):
            # So few rows are enough for the linear probe, and for the perceptron to see something.
            assert row["interval"][0] > (0.9 if row["probe"] == "linear" else 0.6), row
            assert row["p"] < 0.05, row
        (row,) = rows_of(findings, section, features="untrained mu", probe="linear")
        assert row["interval"][0] > 0.55 and row["interval"][0] > row["shuffled"], row
    (row,) = rows_of(findings, "separation of the classes", features="raw bits")
    # The least p of ten shuffles is 1 / 11.
    assert row["adjusted"] > 10 and row["p"] < 0.1


def test_bounds_stand_beside_the_least_that_the_kl_allows():
    model = MixtureVae(models.small())
    n, z = 40, model.latents
    mu = np.random.default_rng(0).normal(size=(n, z)).astype(np.float32)
    nll, kl = np.linspace(-30, -20, n), np.full(n, 2.0)
    crossed = np.full(n, 9.0)
    rows = Rows(mu, np.zeros((n, z), np.float32), mu, nll, crossed, kl, -nll, np.zeros(n))
    report = bounds(model, rows, 64)
    assert report["negative_elbo"] == pytest.approx(-23)
    half = 1.96 * nll.std(ddof=1) / math.sqrt(n)
    np.testing.assert_allclose(report["negative_elbo_interval"], [-23 - half, -23 + half])
    assert report["negative_iwae_64"] == pytest.approx(-25)
    fair = (models.INPUTS - 2) * math.log(2)
    floor = noise_floor(models.INPUTS, model.config.likelihood.sigma)
    assert report["least_nll_at_this_kl"] == pytest.approx(floor + fair - 2)
    assert report["nll_above_it"] == pytest.approx(9 - (fair - 2))
    assert report["posterior"] == f"{z} of {z} latents in use"


def test_rules_stand_beside_their_theory():
    packed = np.array([[1, 0x40], [1, 0x80], [1, 0xFF]], np.uint8)
    classes = np.array([2, 2, 1])
    top, leading = number_structure("faithful").rules(packed, classes)
    assert top["accuracy"] == pytest.approx(2 / 3) and top["theory"] == TOP_BIT_ACCURACY
    assert leading["accuracy"] == 1 and leading["theory"] == LEADING_ACCURACY
    assert all(r["theory"] == 1 / 3 for r in number_structure("debiased").rules(packed, classes))
