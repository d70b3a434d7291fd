"""Figures of LatentWire show what was logged."""

import json

import pytest

from jaxgraph import config as configs
from jaxgraph.plots.history import History
from jaxgraph.plots.latentwire import FIGURES, wire
from jaxgraph.plots.report import write_report

STEPS = range(1, 21)
ROWS = [{"step": 0, "baseline/token_frequencies": 5.5}] + [
    {
        "step": step, "train/loss": 3.0, "train/en/tf": 6.0 / step, "train/en/first": 5.0,
        "train/en/kce": 4.0, "train/en/first_weight": 99.0, "train/wire/diversity": 1.0,
    }
    for step in STEPS
] + [
    {
        "step": 20, "validation/loss": 2.0, "validation/swapped_loss": 7.0,
        "validation/token_acc": 0.6, "validation/first_acc": 0.9, "validation/diversity": 1.1,
    }
]  # fmt: skip


@pytest.fixture(scope="module")
def config():
    return configs.load(["--system", "latentwire", "--workdir", "x"])


def test_a_run_gets_every_figure_of_its_system(tmp_path, config):
    configs.save(config, tmp_path / "config.yaml")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    drawn = {one.name for one in write_report(tmp_path).drawn}
    assert {figure.name for figure in FIGURES} <= drawn


def test_only_terms_that_were_logged_are_drawn(config):
    (ax,) = wire.terms(History(ROWS), config).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert set(lines) == {"whole answer", "first token", "first K tokens"}
    assert lines["whole answer"] == [6.0 / step for step in STEPS] and ax.get_title() == "en"


def test_the_wire_stands_beside_its_control_and_the_baseline(config):
    (ax,) = wire.carried(History(ROWS), config).axes
    ends = {line.get_label(): line.get_ydata()[-1] for line in ax.lines}
    assert ends == {"its own wire": 2.0, "another text's wire": 7.0, "token frequencies": 5.5}
