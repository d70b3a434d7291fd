"""Figures of NeuroGraph show what was logged."""

import numpy as np
import pytest

from jaxgraph import config as configs
from jaxgraph.plots.history import History
from jaxgraph.plots.neurograph import FIGURES, activity, indices, learning

STEPS = (10, 20, 30, 40, 50)


@pytest.fixture(scope="module")
def history():
    rows = []
    for step in STEPS:
        row = {"step": step, "train/accuracy": step / 100, "validation/accuracy": step / 200}
        found = {f"active/{layer}/{i}": i / 10 + step / 1000 for layer in ("layer_0", "layer_1")
                 for i in range(3)}  # fmt: skip
        for layer in ("layer_0", "layer_1", "readout"):
            found |= {f"phases/{layer}/{i}": (i + step) / 100 for i in range(4)}
            names = ("step_bins", "moved", "descent_cosine", "rounding_cosine", "grad_norm_phase",
                     "grad_norm_mag", "alert_explosion", "alert_vanishing", "alert_stagnation")
            found |= {f"{name}/{layer}": step / 50 for name in names}
        names = ("active_nodes", "dead_nodes", "never_silent")
        found |= {f"{name}/layer_0": step for name in names}
        rows.append(row | {f"train/diagnostics/{name}": value for name, value in found.items()})
    return History(rows)


@pytest.fixture(scope="module")
def config():
    return configs.load(["--system", "neurograph", "--workdir", "x"])


def test_all_figures_find_what_they_need(history, config):
    for figure in FIGURES:
        assert not figure.missing(history)
        figure.draw(history, config)


def test_dots_of_the_graph_are_the_activities_of_their_step(history, config):
    *axes, _ = activity.graph(history, config).axes
    assert [ax.get_title() for ax in axes] == ["step 10", "step 20", "step 40", "step 50"]
    for ax, step in zip(axes, (10, 20, 40, 50), strict=True):
        shown = [np.asarray(dots.get_array()) for dots in ax.collections]
        assert len(shown) == 2
        for values in shown:
            np.testing.assert_allclose(values, [i / 10 + step / 1000 for i in range(3)])


def test_histograms_show_the_first_and_the_last_step(history, config):
    ax = indices.phases(history, config).axes[1]
    for patch, step in zip(ax.patches, (10, 50), strict=True):
        values, edges, _ = patch.get_data()
        np.testing.assert_allclose(values, [(i + step) / 100 for i in range(4)])
        assert edges.tolist() == [0, 90, 180, 270, 360]


def test_alerts_are_counted(history, config):
    # The last measured step of each of three layers, where the flag is 1.
    assert "3 explosion" in learning.gradients(history, config)._supxlabel.get_text()


def test_errors_are_one_minus_accuracy(history, config):
    _, missed = learning.accuracy(history, config).axes
    np.testing.assert_allclose(missed.lines[1].get_ydata(), [1 - step / 200 for step in STEPS])
