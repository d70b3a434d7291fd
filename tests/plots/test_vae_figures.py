"""Figures of the VAE show what was logged."""

import json

import numpy as np
import pytest

from jaxgraph import config as configs
from jaxgraph.plots.history import History
from jaxgraph.plots.report import write_report
from jaxgraph.plots.vae import FIGURES, bound
from jaxgraph.plots.vae.rate_distortion import rate_distortion

STEPS = range(1, 41)


def row(step):
    return {"step": step} | {f"train/{name}": value for name, value in {
        "loss": -200.0 - step, "elbo/nll": -180.0 - step, "elbo/kl": 9 / step,
        "elbo/beta": step / 100, "elbo/latents_in_use": 3.0, "separability/score": 0.05,
        "separability/adjusted": 1.1, "separability/lambda": step / 1000,
    }.items()}  # fmt: skip


ROWS = [{"step": 0, "baseline/constant_decoder": -227.2}, *map(row, STEPS)] + [
    {"step": 40, "validation/loss": -221.0, "validation/nll": -222.0, "validation/kl": 0.5,
     "validation/latents_in_use": 2.0, "validation/bit_accuracy": 0.51},
]  # fmt: skip


@pytest.fixture(scope="module")
def config():
    return configs.load(["--system", "vae", "--workdir", "x"])


def test_a_run_gets_every_figure_of_its_system(tmp_path, config):
    configs.save(config, tmp_path / "config.yaml")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    drawn = {one.name for one in write_report(tmp_path).drawn}
    assert {figure.name for figure in FIGURES} <= drawn and "loss" in drawn


def test_terms_are_drawn_beside_the_constant_decoder(config):
    nll, kl = bound.terms(History(ROWS), config).axes
    lines = {line.get_label(): line.get_ydata() for line in nll.lines}
    assert list(lines["training"]) == [-180.0 - step for step in STEPS]
    assert list(lines["validation"]) == [-222] and lines["constant decoder"][0] == -227.2
    low, high = nll.get_ylim()
    assert low < -227.2 < -184 < high
    assert kl.get_ylim()[0] == 0


def test_separability_is_drawn_beside_chance(config):
    score, adjusted = bound.separability(History(ROWS), config).axes
    assert set(score.lines[0].get_ydata()) == {0.05}
    assert [set(line.get_ydata()) for line in adjusted.lines] == [{1.1}, {1.0}]


def test_points_lie_where_they_were_measured_and_the_line_falls_by_a_nat_a_nat():
    points = [
        {"beta": 1.0, "rate": 0.0, "distortion": -57.5, "error": 0.1, "least": -58.0},
        {"beta": 0.1, "rate": 10.0, "distortion": -60.0, "error": 0.2, "least": -68.0},
    ]
    plane, cost = rate_distortion(points).axes
    line, trained = plane.lines
    (x0, x1), (y0, y1) = line.get_data()
    assert (x0, y0) == (0, -58) and y1 - y0 == pytest.approx(x0 - x1)
    np.testing.assert_allclose(trained.get_xydata(), [[0, -57.5], [10, -60]])
    above = cost.containers[0].lines[0].get_xydata()
    np.testing.assert_allclose(above, [[0.1, 8.0], [1.0, 0.5]])
